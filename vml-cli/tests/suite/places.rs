//! Where the repository and the areas are, and who may read them.

use crate::support::{Host, Ran, content, is_root, make_guest, skip};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[test]
fn the_option_counts_before_the_variable_and_that_before_the_home() {
    let host = Host::bare();
    for name in ["option", "variable"] {
        host.ok(["init", "--repo", name]);
    }
    host.ok(["init"]);
    let repository = |args: &[&str], variable: Option<&str>| {
        let mut command = host.command(["stats", "--json"]);
        command.args(args);
        if let Some(value) = variable {
            command.env("VML_REPO", value);
        }
        let output = command.output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        value["repository"].as_str().unwrap().to_owned()
    };
    let path = |below: &str| host.path(below).to_str().unwrap().to_owned();
    assert_eq!(repository(&["--repo", "option"], Some("variable")), path("option"));
    assert_eq!(repository(&[], Some("variable")), path("variable"));
    assert_eq!(repository(&[], None), path("home/repository"));
}

#[test]
fn without_a_home_of_its_own_everything_is_in_the_users_data_folder() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    let run = |args: &[&str], data: &str| {
        let mut command = host.command(args);
        let ran = Ran::of(&command.env_remove("VML_HOME").env("XDG_DATA_HOME", data).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.err);
    };
    let data = host.path("data");
    run(&["init"], data.to_str().unwrap());
    run(&["area", "add", "work", "--tree", "guest"], data.to_str().unwrap());
    assert!(data.join("vml/repository/config").is_file() && data.join("vml/areas/work/vml.toml").is_file());
    // A relative XDG folder does not count, by its own rule.
    run(&["init"], "data");
    assert!(host.path("user/.local/share/vml/repository/config").is_file());
    let mut bare = host.command(["log"]);
    Ran::of(&bare.env_remove("VML_HOME").env_remove("HOME").output().unwrap()).fails(3, &["neither VML_HOME, XDG_DATA_HOME nor HOME"]);
}

#[test]
fn areas_belong_to_the_host_and_not_to_the_repository() {
    let host = Host::with_entry();
    assert!(content(&host.repository()).iter().all(|(path, _)| !path.ends_with("vml.toml")));
    let mut other = host.command(["area", "list", "--repo"]);
    let ran = Ran::of(&other.arg(host.repository()).env("VML_HOME", host.path("elsewhere")).output().unwrap());
    assert!(ran.code == 0 && ran.out.starts_with("no areas on this host yet"), "{}", ran.out);
    let mut other = host.command(["log", "work", "--repo"]);
    let ran = Ran::of(&other.arg(host.repository()).env("VML_HOME", host.path("elsewhere")).output().unwrap());
    assert!(ran.out.contains("first"), "{}", ran.out);
}

#[test]
fn the_author_is_who_is_logged_in() {
    let host = Host::with_area();
    let author = |set: &[(&str, &str)]| {
        let mut command = host.command(["save", "work", "-m", "x", "--json"]);
        command.env_remove("LOGNAME").envs(set.iter().copied());
        let saved: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let entry = host.json(["show", saved["entry"].as_str().unwrap()]);
        entry["author"].as_str().unwrap().split_once('@').unwrap().0.to_owned()
    };
    assert_eq!(author(&[("LOGNAME", "one"), ("USER", "two")]), "one");
    assert_eq!(author(&[("USER", "two")]), "two");
    assert!(!author(&[]).is_empty());
}

/// A command as an unprivileged user: this one, or nobody when this is root.
pub fn unprivileged(host: &Host, args: &[&str]) -> Option<Command> {
    if !is_root() {
        return Some(host.command(args));
    }
    // Where the build directory is may be closed to others.
    let program = host.path("vml");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_vml"), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = host.program("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    let tried = command.arg("--version").output().is_ok_and(|output| output.status.success());
    let mut command = host.program("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(host.path("vml")).args(args);
    tried.then_some(command)
}

fn set_mode(path: &Path, dir_mode: u32, file_mode: u32) {
    if path.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            set_mode(&entry.unwrap().path(), dir_mode, file_mode);
        }
        fs::set_permissions(path, Permissions::from_mode(dir_mode)).unwrap();
    } else {
        fs::set_permissions(path, Permissions::from_mode(file_mode)).unwrap();
    }
}

#[test]
fn a_repository_that_cannot_be_written_can_be_read() {
    for with_index in [true, false] {
        let host = Host::with_entry();
        host.ok(["tag", "work@latest", "one"]);
        if !with_index {
            fs::remove_dir_all(host.repository().join("index")).unwrap();
        }
        set_mode(&host.path("home"), 0o555, 0o444);
        fs::create_dir(host.path("open")).unwrap();
        fs::set_permissions(host.path("open"), Permissions::from_mode(0o777)).unwrap();
        let before = content(&host.repository());
        for args in [
            &["log"][..],
            &["show", "one"],
            &["tag"],
            &["area", "show", "work"],
            &["ls", "-R", "one"],
            &["cat", "one:etc/hosts"],
            &["diff", "one", "work@latest"],
            &["build", "one", "open/out"],
            &["stats"],
            &["check", "--data"],
            &["save", "work", "-m", "x", "--dry-run"],
        ] {
            let Some(mut command) = unprivileged(&host, args) else {
                skip("a_repository_that_cannot_be_written_can_be_read", "setpriv does not work here");
                return;
            };
            let ran = Ran::of(&command.output().unwrap());
            assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        }
        assert_eq!(fs::read(host.path("open/out/etc/hosts")).unwrap(), b"127.0.0.1 localhost\n");
        for args in
            [&["save", "work", "-m", "x"][..], &["tag", "one", "two"], &["note", "one", "x"], &["area", "add", "b", "--tree", "guest"]]
        {
            Ran::of(&unprivileged(&host, args).unwrap().output().unwrap()).fails(3, &["Permission denied", "owner and mode"]);
        }
        assert_eq!(content(&host.repository()), before);
        set_mode(&host.path("home"), 0o755, 0o644);
        host.assert_whole();
    }
}
