//! Every command once, its output as people see it.

use crate::support::{Host, assert_equal, make_guest, write};
use crate::transcript::Transcript;
use std::fs;
use std::io::Read;
use std::process::Stdio;
use vml_testkit::noise;

#[test]
fn a_first_session_reads_like_a_logbook() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    make_guest(&host.path("plain"));
    let mut session = Transcript::new(&host);
    for line in [
        "init",
        "log",
        "base list",
        "area list",
        "tag",
        "base add plain@1 --tree plain -m as_installed",
        "base list",
        "area add work --tree guest --base plain@1 --exclude *.o",
        "area list",
        "area show work",
        "save work -m first_day --dry-run",
        "save work -m first_day --tag start",
    ] {
        assert_eq!(session.run(line).code, 0, "{line}");
    }
    write(&host.path("guest/home/dev/notes"), b"one\ntwo\n");
    write(&host.path("guest/home/dev/fit.o"), b"left out");
    write(&host.path("guest/home/dev/fit.c"), b"int main(void) { return 0; }\n");
    fs::remove_file(host.path("guest/etc/hosts")).unwrap();
    fs::set_permissions(host.path("guest/home/dev/plot.py"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for line in [
        "save work -m second_day",
        "log",
        "log -n 1",
        "note start where_it_began",
        "log work",
        "show start",
        "show BASE:plain@1",
        "area show work",
        "diff start work@latest",
        "diff start work@latest --path home/dev",
        "diff start work@latest --path etc/hosts",
        "diff start start",
        "tag work@latest done",
        "tag work@~1 done --force",
        "tag",
        "tag --remove done",
        "ls work@latest",
        "ls work@latest:home/dev",
        "ls -R work@latest",
        "ls work@latest:home/dev/notes",
        "cat work@latest:home/dev/notes",
        "cat work@~1:/home/dev/notes",
        "build start built",
        "build start built --delete --yes",
        "restore work@latest:home/dev part",
        "restore work@latest:home/dev/notes part2",
        "check",
        "area rm work --yes",
        "base rm plain@1 --yes",
        "log work",
    ] {
        assert_eq!(session.run(line).code, 0, "{line}");
    }
    session.assert_is("first-session");
    assert_equal(&host.path("plain"), &host.path("built"));
    assert!(host.path("part/fit.c").exists() && !host.path("part/fit.o").exists());
    assert_eq!(fs::read(host.path("part2/notes")).unwrap(), b"one\ntwo\n");
}

#[test]
fn wrong_and_failed_commands_say_what_to_do_next() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    let mut session = Transcript::new(&host);
    session.run("log");
    session.run("init");
    session.run("init");
    for line in [
        "save nothing -m x",
        "area show nothing",
        "area rm nothing --yes",
        "log nothing",
        "area add work --tree missing",
        "area add work --tree guest/etc/hosts",
        "area add .work --tree guest",
        "area add work --tree guest --base none@1",
        "area add work --tree guest --base none",
        "area add work --tree guest --exclude [",
        "base add plain --tree guest",
        "base rm none@1 --yes",
        "area add work --tree guest",
        "area add work --tree guest",
        "save work -m first --tag one --tag one",
        "save work -m first --tag bad/name",
        "save work -m first --tag one",
        "save work -m again --tag one",
        "show zzzz",
        "show abc",
        "show work@first",
        "show work@~7",
        "show other@latest",
        "show BASE:none@1",
        "tag work@latest ..",
        "tag --remove none",
        "diff one one --path no/such",
        "ls one:no/such",
        "ls one:etc/../etc",
        "cat one",
        "cat one:etc",
        "cat one:home/plot",
        "restore one there",
        "build one guest",
        "build one guest --delete",
        "build one guest/etc/hosts",
        "area rm work",
        "init --chunker fixed:3",
        "init --chunker rolling",
        "init --level 40",
    ] {
        let code = session.run(line).code;
        assert!(code == 2 || code == 3 || line.ends_with("--tag one") || line.ends_with("--tree guest"), "{line} ended with {code}");
    }
    session.assert_is("mistakes");
}

#[test]
fn a_long_listing_shows_mode_owner_size_and_time() {
    let host = Host::with_entry();
    let text = host.ok(["ls", "-l", "-R", "work@latest"]);
    let row = text.lines().find(|line| line.ends_with(" home/dev/run.dat")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((words[0], words[3], words[4], words[5]), ("-rw-r--r--", "300000", "2023-11-14", "22:13"), "{row}");
    assert!(text.lines().any(|line| line.starts_with("drwxr-xr-x") && line.ends_with(" etc/")), "{text}");
    assert!(text.lines().any(|line| line.starts_with('l') && line.ends_with(" home/plot -> dev/plot.py")), "{text}");
    // Sizes stand under each other.
    let ends: Vec<usize> = text.lines().map(|line| line.find(':').unwrap()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
}

#[test]
fn stats_tell_where_the_bytes_are() {
    let host = Host::with_base(|dir| write(&dir.join("results"), &noise::text(5, 300_000)));
    let stats = host.json(["stats", "--detail"]);
    let detail = &stats["detail"];
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let packs = number(&stats["data_bytes"]) + number(&stats["meta_bytes"]);
    assert_eq!(number(&detail["needed"]["stored_bytes"]) + number(&detail["unneeded_bytes"]), packs);
    let parts: u64 = ["files", "disks", "memory", "metadata"].iter().map(|kind| number(&detail["needed"][kind]["plain_bytes"])).sum();
    assert_eq!(parts, number(&detail["needed"]["plain_bytes"]));
    assert_eq!(number(&detail["needed"]["disks"]["chunks"]), 0);
    let names: Vec<&str> = detail["origins"].as_array().unwrap().iter().map(|origin| origin["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["debian@12", "work"]);
    let entries = detail["entries"].as_array().unwrap();
    let brought = |at: usize| number(&entries[at]["brought"]["files"]["plain_bytes"]);
    assert_eq!(
        (entries.len(), brought(1)),
        (3, fs::metadata(host.path("guest/home/dev/results")).unwrap().len()),
        "the base has the rest of the first save, and small files are in listings"
    );
    assert!(brought(2) == 0 && number(&entries[2]["held_bytes"]) > 300_000);
    assert!(detail["deduplication"].as_f64() > Some(1.5) && detail["compression"].as_f64() > Some(1.0));
    let told = host.ok(["stats", "--svg", "bytes.svg"]);
    assert!(told.contains("entries that brought the most") && told.contains("debian@12"), "{told}");
    let picture = fs::read_to_string(host.path("bytes.svg")).unwrap();
    assert_eq!(picture.matches("#2c6fbb").count(), 5 + 2 + 3);
    host.ok(["forget", "work@~1", "work@latest", "--yes"]);
    let after = host.json(["stats", "--detail"]);
    assert!(number(&after["detail"]["unneeded_bytes"]) > number(&detail["unneeded_bytes"]));
    host.run(["stats", "--svg", "no/such/dir.svg"]).fails(3, &["cannot write no/such/dir.svg"]);
}

#[test]
fn stats_and_check_data_say_what_there_is() {
    let host = Host::with_entry();
    let stats = host.ok(["stats"]);
    assert!(stats.contains("1 of 1 area, 0 bases, 0 tags"), "{stats}");
    assert!(stats.contains("to 1"), "{stats}");
    let checked = host.ok(["check", "--data"]);
    assert!(checked.starts_with("checked 1 entry, ") && checked.ends_with(" read: no problems\n"), "{checked}");
}

#[test]
fn quiet_says_nothing_on_success() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    for line in [
        "init",
        "base add plain@1 --tree guest",
        "base list",
        "area add work --tree guest",
        "area list",
        "area show work",
        "save work -m first --tag one",
        "save work -m second --dry-run",
        "log",
        "show one",
        "diff one BASE:plain@1",
        "note one text",
        "tag one two",
        "tag",
        "ls one",
        "build one out",
        "restore one:etc out2",
        "stats",
        "check --data",
        "area rm work --yes",
        "base rm plain@1 --yes",
    ] {
        let words = line.split(' ').chain(["--quiet"]);
        assert_eq!(host.ok(words), "", "{line}");
    }
    host.run(["show", "none", "-q"]).fails(3, &["vml: "]);
}

#[test]
fn a_dry_run_stores_nothing_and_says_what_it_would_cost() {
    let host = Host::with_area();
    let before = crate::support::content(&host.repository());
    let dry = host.json(["save", "work", "-m", "x", "--tag", "t", "--dry-run"]);
    assert_eq!(crate::support::content(&host.repository()), before);
    assert_eq!((&dry["entry"], &dry["dry_run"]), (&serde_json::Value::Null, &true.into()));
    let saved = host.json(["save", "work", "-m", "x", "--tag", "t"]);
    for key in ["files", "bytes", "new_chunks", "new_bytes"] {
        assert_eq!(dry[key], saved[key], "{key}");
        assert!(saved[key].as_u64().unwrap() > 0, "{key}");
    }
    // Threads put chunks in another order each time, and order matters to the compressor a little.
    let (dry, saved) = (dry["stored_bytes"].as_u64().unwrap(), saved["stored_bytes"].as_u64().unwrap());
    assert!(dry.abs_diff(saved) < saved / 50, "{dry} {saved}");
}

#[test]
fn every_subcommand_has_a_help_with_an_example() {
    let host = Host::bare();
    let text = host.ok(["--help"]);
    assert!(text.contains("Exit codes: 0 done, 1 done with problems found, 2 wrong usage, 3 failed."), "{text}");
    let mut names: Vec<Vec<String>> = crate::manual::subcommands(&text).into_iter().map(|name| vec![name]).collect();
    while let Some(name) = names.pop() {
        let help = host.ok(name.iter().map(String::as_str).chain(["--help"]));
        assert!(help.contains(&format!("Usage: vml {}", name.join(" "))), "{help}");
        let below = crate::manual::subcommands(&help);
        let needs_none = !below.is_empty() || name.last().is_some_and(|last| ["list", "stats", "help"].contains(&last.as_str()));
        assert!(needs_none || help.contains("Example"), "{help}");
        names.extend(below.into_iter().map(|below| [&name[..], &[below]].concat()));
    }
    assert_eq!(host.ok(["--version"]), format!("vml {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_name_the_commands() {
    let host = Host::bare();
    for shell in ["bash", "zsh", "fish"] {
        let script = host.ok(["completions", shell]);
        assert!(["save", "restore", "one-file-system"].iter().all(|word| script.contains(word)), "{shell}");
    }
    host.run(["completions", "cmd"]).fails(2, &["invalid value 'cmd'"]);
}

#[test]
fn each_exit_code_has_its_meaning() {
    let host = Host::with_entry();
    assert_eq!(host.run(["check"]).code, 0);
    let entry = crate::support::files(&host.repository().join("entries")).remove(0);
    let bytes = fs::read(&entry).unwrap();
    fs::write(&entry, &bytes[..bytes.len() - 1]).unwrap();
    let ran = host.run(["check"]).fails(1, &["does not match its name"]);
    assert!(ran.out.ends_with("problem found\n") || ran.out.ends_with("problems found\n"), "{}", ran.out);
    host.run(["chekc"]).fails(2, &["unrecognized subcommand"]);
    host.run(Vec::<&str>::new()).fails(2, &["Usage: vml"]);
    host.run(["save", "work"]).fails(2, &["--message"]);
    host.run(["show", "work@latest"]).fails(3, &["cannot read entry"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let host = Host::new();
    for n in 0..3000 {
        write(&host.path(&format!("many/{}/{n:060}", n % 7)), b"");
    }
    host.ok(["area", "add", "many", "--tree", "many"]);
    host.ok(["save", "many", "-m", "many names"]);
    for args in [&["ls", "-R", "many@latest"][..], &["ls", "-R", "--json", "many@latest"], &["completions", "bash"], &["--help"]] {
        let mut child = host.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{args:?}");
    }
    // Nor is one of standard error, however much there is to say.
    fs::remove_file(&crate::support::files(&host.repository().join("entries"))[0]).unwrap();
    let mut child = host.command(["check"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_save_in_a_pipe_ends_with_one_line_and_names_problems_on_standard_error() {
    let host = Host::with_area();
    let text = host.ok(["save", "work", "-m", "first"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("saved work as ") && !text.contains('\r') && !text.contains('\x1b'), "{text}");
}
