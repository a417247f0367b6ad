//! `docs/cli.md` says everything that can be typed.

use crate::support::Host;
use std::fs;
use std::path::Path;

pub fn text() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md")).unwrap()
}

/// The names under "Commands:" of a help.
pub fn subcommands(help: &str) -> Vec<String> {
    let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    rows.filter(|row| row.starts_with("  ") && !row.starts_with("   "))
        .map(|row| row.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

/// The long options of a help.
fn options(help: &str) -> Vec<String> {
    let words = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    words.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")).map(str::to_owned)).collect()
}

#[test]
fn the_manual_names_every_command_and_option() {
    let host = Host::bare();
    let manual = text();
    let help = host.ok(["--help"]);
    let names = subcommands(&help);
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(manual.contains(&format!("\n## vml {name}")), "no section about {name}");
        let help = host.ok([name.as_str(), "--help"]);
        let mut helps = vec![help.clone()];
        for below in subcommands(&help) {
            assert!(manual.contains(&format!("`vml {name} {below}")), "nothing about {name} {below}");
            helps.push(host.ok([name.as_str(), below.as_str(), "--help"]));
        }
        for option in helps.iter().flat_map(|help| options(help)).filter(|option| option != "--help") {
            assert!(manual.contains(&option), "nothing about {option} of {name}");
        }
    }
}

#[test]
fn the_manual_names_every_variable_and_every_key_of_an_area() {
    let manual = text();
    for name in ["VML_REPO", "VML_HOME", "VML_TIME_MS", "XDG_DATA_HOME", "LOGNAME", "USER", "TZ", "TMPDIR"] {
        assert!(manual.contains(&format!("`{name}`")), "{name}");
    }
    let host = Host::with_area();
    let description = fs::read_to_string(host.path("home/areas/work/vml.toml")).unwrap();
    let keys = description.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    let mut count = 0;
    for key in keys.chain(["base"]) {
        assert!(manual.contains(&format!("`{key}`")), "{key}");
        count += 1;
    }
    assert_eq!(count, 6, "{description}");
}
