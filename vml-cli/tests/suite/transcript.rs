//! What a session at the terminal looks like, compared with a file. `VML_UPDATE_SNAPSHOTS=1` writes the files anew.

use crate::support::{Host, Ran};
use std::fs;
use std::path::Path;

/// Commands and what they printed, one after the other.
pub struct Transcript<'a> {
    host: &'a Host,
    text: String,
}

impl<'a> Transcript<'a> {
    pub fn new(host: &'a Host) -> Self {
        Self { host, text: String::new() }
    }

    /// Runs a command and notes it; words are split at blanks, `_` in a word stands for one.
    pub fn run(&mut self, line: &str) -> Ran {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('_', " ")).collect();
        let ran = self.host.run(&words);
        let shown: Vec<String> = words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { word.clone() }).collect();
        self.text.push_str(&format!("$ vml {}\n{}{}", shown.join(" "), ran.out, ran.err));
        if ran.code != 0 {
            self.text.push_str(&format!("[exit {}]\n", ran.code));
        }
        self.text.push('\n');
        ran
    }

    /// Compares everything so far with `snapshots/NAME.txt`.
    #[track_caller]
    pub fn assert_is(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/snapshots").join(format!("{name}.txt"));
        let text = normalise(&self.text, &self.host.path(""));
        if std::env::var_os("VML_UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        for (n, (line, wanted)) in text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(line, wanted, "line {} of {name}", n + 1);
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "lines of {name}: {text}");
    }
}

/// Replaces what differs from machine to machine: directories, the host's name, ids, durations, and sizes that depend on
/// the compressor and on numeric owners.
fn normalise(text: &str, dir: &Path) -> String {
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = text.replace(dir, "[DIR]").replace(&format!("tester@{}", host.trim()), "tester@[HOST]");
    let text = text.replace(&format!("host.name    {}\n", host.trim()), "host.name    [HOST]\n");
    // Said to everybody but root.
    let text = text.replace("owners are yours: only root can set others\n", "");
    let mut ids: Vec<String> = Vec::new();
    text.lines().map(|line| normalise_line(line, &mut ids) + "\n").collect()
}

fn normalise_line(line: &str, ids: &mut Vec<String>) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for i in 0..words.len() {
        let number = words[i].parse::<f64>().is_ok();
        let next = words.get(i + 1).map(|word| word.trim_end_matches([',', ':', ';']).to_owned()).unwrap_or_default();
        if number && next == "s" {
            words[i] = "[TIME]".to_owned();
        } else if number && i > 0 && matches!(words[i - 1].as_str(), "new" | "stored") && next.ends_with('B') {
            words[i] = "[SIZE]".to_owned();
            words[i + 1] = words[i + 1].replace(&next, "");
        } else if let Some(id) = words[i].split(|c: char| !c.is_ascii_alphanumeric()).find(|part| is_id(part)).map(str::to_owned) {
            let n = ids.iter().position(|known| known.starts_with(&id) || id.starts_with(known.as_str())).unwrap_or_else(|| {
                ids.push(id.clone());
                ids.len() - 1
            });
            words[i] = words[i].replace(&id, &format!("[ID{}]", n + 1));
        }
    }
    let mut line = words[0].clone();
    for (word, before) in words[1..].iter().zip(&words) {
        // What stood behind the unit follows the size.
        if before != "[SIZE]" {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

fn is_id(word: &str) -> bool {
    (word.len() == 10 || word.len() == 64) && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn ids_times_and_sizes_are_normalised_and_nothing_else_is() {
    let line = "saved work as 0123456789: 1.00 KiB in 2 files; new 63 B, stored 217 B, in 0.04 s";
    let line = normalise_line(line, &mut Vec::new());
    assert_eq!(line, "saved work as [ID1]: 1.00 KiB in 2 files; new [SIZE], stored [SIZE], in [TIME] s");
}
