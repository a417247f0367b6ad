//! What `--json` prints: one object, or one object a line, with the keys that `docs/cli.md` promises.

use crate::support::{Host, make_guest, write};
use serde_json::Value;

#[track_caller]
fn assert_keys(value: &Value, keys: &str) {
    let object = value.as_object().unwrap();
    let mut expected: Vec<&str> = keys.split_whitespace().collect();
    expected.sort_unstable();
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let manual = crate::manual::text();
    for key in found {
        assert!(manual.contains(&format!("`{key}`")), "docs/cli.md does not name the key {key}");
    }
}

const ENTRY: &str = "entry kind area name time time_ms author message tags_at_birth parents base parts cost facts";
const NODE: &str = "path kind mode uid gid user group mtime bytes target link xattrs";
const AREA: &str =
    "area tree disks allow_dir machine qemu libvirt vmware hypervisor ssh base exclude default_exclude one_file_system description latest";
const SAVE: &str = "entry dry_run origin parent base files directories others bytes read_files read_bytes disks memory_bytes new_chunks new_bytes \
                    stored_bytes received_bytes sent_bytes elapsed_ms left_out left_out_more problems notices";
const BUILD: &str = "entry directory files kept_files directories others deleted bytes owners elapsed_ms problems notices";

#[test]
fn every_command_prints_the_documented_keys() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    assert_keys(&host.json(["init"]), "repository encrypted");
    let base = host.json(["base", "add", "plain@1", "--tree", "guest"]);
    assert_keys(&base, SAVE);
    assert_eq!(base["origin"], "plain@1");
    let bases = host.json_lines(["base", "list"]);
    assert_keys(&bases[0], ENTRY);
    assert_eq!((bases.len(), &bases[0]["name"], &bases[0]["entry"]), (1, &"plain@1".into(), &base["entry"]));
    assert_keys(&host.json(["area", "add", "work", "--tree", "guest", "--base", "plain@1"]), AREA);
    assert_keys(&host.json_lines(["area", "list"])[0], AREA);
    let first = host.json(["save", "work", "-m", "first", "-t", "one"]);
    assert_keys(&first, SAVE);
    assert_eq!((&first["files"], &first["base"], &first["dry_run"]), (&4.into(), &"plain@1".into(), &false.into()));
    write(&host.path("guest/new"), b"new");
    let second = host.json(["save", "work", "-m", "second"]);
    assert_eq!(second["parent"], first["entry"]);
    assert_eq!(second["read_files"], 1);
    assert_eq!(host.json(["area", "show", "work"])["latest"], second["entry"]);

    assert_keys(&host.json(["note", "one", "remark"]), "entry");
    assert_keys(&host.json(["tag", "one", "two"]), "tag entry");
    assert_eq!(host.json_lines(["tag"]).len(), 2);
    assert_keys(&host.json(["tag", "--remove", "two"]), "removed entry");
    let log = host.json_lines(["log"]);
    assert_eq!(log.iter().map(|entry| entry["message"].as_str().unwrap()).collect::<Vec<_>>(), ["second", "first", ""]);
    for entry in &log {
        assert_keys(entry, &format!("{ENTRY} tags notes"));
    }
    assert_keys(&log[0]["cost"], "new_chunks new_bytes stored_bytes elapsed_ms");
    assert_keys(&log[0]["parts"][0], "kind files directories others bytes exclude left_out left_out_more");
    let show = host.json(["show", "one"]);
    assert_eq!(show["entry"], first["entry"]);
    assert_eq!(show["tags"], serde_json::json!(["one"]));
    assert_keys(&show["notes"][0], "time time_ms author text");
    assert_eq!(show["notes"][0]["text"], "remark");
    assert_keys(&show["base"], "name version entry");

    let diff = host.json_lines(["diff", "one", "work@latest"]);
    for change in &diff {
        assert_keys(change, "change path aspects old new");
    }
    assert!(diff.iter().any(|change| change["change"] == "added" && change["path"] == "new"), "{diff:?}");
    for node in host.json_lines(["ls", "-R", "one"]) {
        assert_keys(&node, NODE);
    }
    let file = host.json(["ls", "one:etc/hosts"]);
    assert_eq!((&file["kind"], &file["mode"], &file["bytes"]), (&"file".into(), &"0644".into(), &20.into()));

    let build = host.json(["build", "one", "out"]);
    assert_keys(&build, BUILD);
    assert_eq!((&build["files"], &build["kept_files"]), (&4.into(), &0.into()));
    assert_eq!(host.json(["build", "one", "out", "--delete", "--yes"])["kept_files"], 4);
    assert_keys(&host.json(["restore", "one:etc", "etc"]), BUILD);
    assert_keys(
        &host.json(["stats"]),
        "repository entries unreadable_entries areas bases tags bytes stored_bytes chunks data_packs data_bytes compacted_packs compacted_bytes meta_packs meta_bytes \
         index_segments index_bytes",
    );
    host.ok(["--repo", "far", "init"]);
    assert_keys(&host.json(["remote", "add", "origin", "far"]), "name url own");
    assert_keys(&host.json(["remote", "list"]), "name url own token");
    let pushed = host.json(["push"]);
    let keys = "remote entries present needed_chunks sent_chunks frames frames_bytes notes other_tags elapsed_ms notices";
    assert_keys(&pushed, keys);
    assert_keys(&pushed["entries"][0], &format!("{ENTRY} new placed"));
    assert_keys(&host.json(["pull"]), keys);
    assert_keys(&host.json_lines(["remote", "show"])[0], "kind name entry");
    assert_keys(&host.json(["remote", "rm", "origin"]), "removed");
    assert_keys(
        &host.json(["check", "--data"]),
        "entries listings packs bytes skipped_packs skipped_bytes left_out_packs touched problems notices",
    );
    assert_keys(&host.json(["area", "rm", "work", "--yes"]), "removed");
    assert_keys(&host.json(["base", "rm", "plain@1", "--yes"]), "removed entry used_by");
}

#[test]
fn an_error_is_one_object_too() {
    let host = Host::new();
    let ran = host.run(["show", "nothing", "--json"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_keys(&error, "error kind causes hint");
    assert_eq!(error["kind"], "NotFound");
}

#[test]
fn what_is_saved_costs_what_the_entry_says() {
    let host = Host::with_area();
    let saved = host.json(["save", "work", "-m", "first"]);
    let shown = host.json(["show", saved["entry"].as_str().unwrap()]);
    for key in ["new_chunks", "new_bytes", "stored_bytes"] {
        assert_eq!(saved[key], shown["cost"][key], "{key}");
    }
    let stats = host.json(["stats"]);
    assert_eq!(stats["chunks"], saved["new_chunks"]);
    let packs = stats["data_bytes"].as_u64().unwrap() + stats["meta_bytes"].as_u64().unwrap();
    assert_eq!(saved["stored_bytes"].as_u64().unwrap(), packs);
    assert!(saved["new_bytes"].as_u64().unwrap() >= saved["bytes"].as_u64().unwrap() - 4 * 512, "{saved}");
}
