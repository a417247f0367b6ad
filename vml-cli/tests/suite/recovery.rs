//! `docs/recovery.md` is run: each block of commands in a repository with the damage that stands before it, and what is printed is what the page says.

use crate::support::{Host, Ran, files, write};
use std::fs;
use std::path::{Path, PathBuf};

/// A block of commands, and the damage before it; none where it goes on after the block before.
#[derive(Debug, Default)]
struct Block {
    damage: Option<String>,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recovery.md")).unwrap();
    let (mut blocks, mut damage, mut inside) = (Vec::<Block>::new(), None, false);
    for line in page.lines() {
        match line {
            "```console" => {
                inside = true;
                blocks.push(Block { damage: damage.take(), lines: Vec::new() });
            }
            "```" => inside = false,
            _ if inside => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            _ => damage = line.strip_prefix("<!-- damage: ").map(|rest| rest.trim_end_matches(" -->").to_owned()).or(damage),
        }
    }
    blocks
}

/// Two entries of the area `work`, the remote `backup` that has both, a share file of the later one, and the list of a collection.
fn host() -> Host {
    let host = Host::with_area();
    write(&host.path("guest/data/large"), &vml_testkit::noise::incompressible(4, 300_000));
    write(&host.path("guest/data/text"), &vml_testkit::noise::text(5, 20_000));
    host.ok(["save", "work", "-m", "first"]);
    write(&host.path("guest/home/dev/notes"), b"two\n");
    host.ok(["save", "work", "-m", "second"]);
    host.ok(["--repo", "backup", "init"]);
    host.ok(["remote", "add", "backup", "backup"]);
    assert_eq!(host.run(["push", "backup", "work@latest"]).code, 0);
    assert_eq!(host.run(["share", "work@latest", "--full", "--output", "work.vml"]).code, 0);
    host
}

fn first_file(host: &Host, dir: &str) -> PathBuf {
    files(&host.repository().join(dir)).into_iter().next().unwrap_or_else(|| panic!("nothing in {dir}"))
}

/// The newest entry's record: the one that the area names.
fn latest(host: &Host) -> PathBuf {
    let id = host.json(["show", "work@latest"])["entry"].as_str().unwrap().to_owned();
    host.repository().join("entries").join(id)
}

fn apply(host: &Host, damage: &str) {
    let Some((what, place)) = damage.split_once(' ') else {
        assert_eq!(damage, "none");
        return;
    };
    let path = match place {
        "entry" => latest(host),
        "config" => host.repository().join("config"),
        "index" => {
            files(&host.repository().join("index")).iter().for_each(|path| fs::remove_file(path).unwrap());
            return;
        }
        "gc" => {
            fs::create_dir_all(host.repository().join("gc")).unwrap();
            fs::write(host.repository().join("gc/quarantine"), [7; 60]).unwrap();
            return;
        }
        dir => first_file(host, dir),
    };
    let mut bytes = fs::read(&path).unwrap();
    match what {
        "delete" => return fs::remove_file(&path).unwrap(),
        "cut" => bytes.truncate(bytes.len() / 2),
        "flip" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
        other => panic!("{other}?"),
    }
    fs::write(&path, bytes).unwrap();
}

/// Whether a line is what the page says, where `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        if number + 1 == parts.len() {
            return part.is_empty() || rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// The lines of the page stand among those printed, in their order; a line of `…` alone stands for any number.
fn assert_printed(command: &str, wanted: &[String], ran: &Ran) {
    for stream in [&ran.out, &ran.err] {
        assert!(!stream.contains("panicked"), "{command}: {stream}");
    }
    let told = |line: &&String| line.starts_with("vml: ");
    for (what, wanted, printed) in [
        ("standard error", wanted.iter().filter(told).collect::<Vec<_>>(), &ran.err),
        ("standard output", wanted.iter().filter(|line| !told(line)).collect(), &ran.out),
    ] {
        let mut lines = printed.lines();
        for pattern in wanted.into_iter().filter(|line| *line != "…") {
            assert!(lines.any(|line| fits(pattern, line)), "`{command}` does not say {pattern:?} on {what}:\n{}{}", ran.err, ran.out);
        }
    }
}

fn run(host: &Host, line: &str) -> Ran {
    let vml = Path::new(env!("CARGO_BIN_EXE_vml")).parent().unwrap();
    let path = format!("{}:{}", vml.display(), std::env::var("PATH").unwrap_or_default());
    Ran::of(&host.program("sh").args(["-c", line]).env("PATH", path).output().unwrap())
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let blocks = blocks();
    let mut host_now = None;
    let mut commands = 0;
    for block in &blocks {
        match block.damage.as_deref() {
            Some(again) if again.starts_with("again ") => apply(host_now.as_ref().unwrap(), &again[6..]),
            Some(damage) => {
                let host = host();
                apply(&host, damage);
                host_now = Some(host);
            }
            None => {}
        }
        let host = host_now.as_ref().expect("damage stands before the first block");
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{line:?} is no command"));
            let mut wanted = Vec::new();
            let mut code = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                match line.strip_prefix("[exit ") {
                    Some(number) => code = number.trim_end_matches(']').parse().unwrap(),
                    None => wanted.push(line.clone()),
                }
            }
            let ran = run(host, command);
            assert_eq!(ran.code, code, "`{command}` after {:?}:\n{}{}", block.damage, ran.err, ran.out);
            assert_printed(command, &wanted, &ran);
            commands += 1;
        }
    }
    assert!(blocks.len() > 12 && commands > 25, "{} blocks, {commands} commands", blocks.len());
}

#[test]
fn a_pattern_fits_what_it_describes() {
    assert!(fits("saved … chunks and took away 1 pack; wrote …", "saved 12 chunks and took away 1 pack; wrote 3 KiB"));
    assert!(fits("everything is whole", "everything is whole") && !fits("everything is whole", "everything is whole?"));
    assert!(fits("… left", "2 problems left") && !fits("… left", "left over"));
}
