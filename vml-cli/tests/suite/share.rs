//! Sharing as users do it: one host writes a file, another takes it.

use crate::support::{Host, Ran, files, is_root, skip, write};
use serde_json::json;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use vml_testkit::noise;

/// A host with a base and an area upon it, saved twice.
fn sender() -> Host {
    Host::with_base(|dir| write(&dir.join("results"), &noise::text(5, 200_000)))
}

fn hand_over(from: &Host, to: &Host, name: &str) {
    fs::copy(from.path(name), to.path(name)).unwrap();
}

#[test]
fn a_colleague_takes_an_entry_and_builds_it() {
    let (eva, tom) = (sender(), Host::new());
    let made = eva.json(["key", "new"]);
    assert_eq!(fs::metadata(eva.path("home/keys/default")).unwrap().permissions().mode() & 0o777, 0o600);
    eva.run(["key", "new"]).fails(3, &["there is a key at"]);
    let shared = eva.json(["share", "work@latest", "-o", "work.vml"]);
    assert_eq!((&shared["signer"], shared["needs"][0]["name"].as_str()), (&made["fingerprint"], Some("debian@12")));
    eva.run(["share", "work@latest", "-o", "work.vml"]).fails(3, &["is there already", "--replace"]);
    hand_over(&eva, &tom, "work.vml");

    let shown = tom.json(["show", "work.vml"]);
    assert_eq!((&shown["signer"], &shown["known_as"]), (&made["fingerprint"], &json!(null)));
    assert!(tom.ok(["show", "work.vml"]).contains("UNKNOWN key"));
    assert!(tom.ok(["ls", "work.vml:home/dev"]).contains("results"));
    assert_eq!(tom.ok(["cat", "work.vml:home/dev/notes"]), "two\n");

    tom.run(["receive", "work.vml"]).fails(3, &["needs the base debian@12", "--full"]);
    assert_eq!(tom.ok(["log"]), "nothing saved yet\n");
    eva.ok(["share", "BASE:debian@12", "-o", "base.vml"]);
    hand_over(&eva, &tom, "base.vml");
    tom.run(["receive", "--require-signed", "base.vml"]).fails(3, &["no trusted key", "key trust"]);
    let key = eva.ok(["key", "export"]);
    tom.ok(["key", "trust", "eva", key.trim()]);
    assert_eq!(tom.json(["receive", "--require-signed", "base.vml"])["known_as"], "eva");
    let said = tom.ok(["receive", "work.vml"]);
    assert!(said.contains("work is new here") && said.contains("signed by eva"), "{said}");
    assert!(tom.ok(["receive", "work.vml"]).contains("there already"));
    tom.assert_builds("work@latest", &eva.path("guest"));
    tom.assert_whole();
    assert_eq!(tom.json_lines(["log", "work"]).len(), 1);
    tom.ok(["key", "trust", "--remove", "eva"]);
    tom.run(["receive", "--require-signed", "work.vml"]).fails(3, &["no trusted key"]);
}

#[test]
fn a_pipe_and_what_is_new_since() {
    let (eva, tom) = (sender(), Host::new());
    let pipe = |args: &[&str]| {
        let mut share = eva.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let ran = Ran::of(&tom.command(["receive", "-"]).stdin(share.stdout.take().unwrap()).output().unwrap());
        assert!(share.wait().unwrap().success());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        ran.out
    };
    pipe(&["share", "work@~1", "--full", "-o", "-"]);
    let said = pipe(&["share", "work@latest", "--since", "work@~1", "-o", "-"]);
    assert!(said.contains("the log of work goes on with it") && said.contains("NOT signed"), "{said}");
    tom.assert_builds("work@latest", &eva.path("guest"));
    assert_eq!(tom.json_lines(["log", "work"]).len(), 2);
    tom.assert_whole();
}

#[test]
fn secrets_do_not_leave_unnoticed() {
    let (eva, tom) = (sender(), Host::new());
    write(&eva.path("guest/home/dev/.globus/userkey.pem"), b"-----BEGIN");
    write(&eva.path("guest/home/dev/.bash_history"), b"ls\n");
    write(&eva.path("guest/srv/own"), b"plans");
    eva.ok(["save", "work", "-m", "third"]);
    let found = ["/home/dev/.globus/userkey.pem (grid credential)", "/home/dev/.bash_history (history)", "--scrub", "--allow-secrets"];
    eva.run(["share", "work@latest", "-o", "work.vml"]).fails(3, &found);
    assert!(!eva.path("work.vml").exists());
    write(&eva.path("home/secrets.toml"), b"[[path]]\nname = \"plans\"\npatterns = [\"srv/*\"]\n");
    eva.run(["share", "work@latest", "-o", "work.vml"]).fails(3, &["/srv/own (plans)"]);
    let ran = eva.run(["share", "work@latest", "--full", "--scrub", "-o", "work.vml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("left 3 files out"), "{}", ran.err);
    hand_over(&eva, &tom, "work.vml");
    tom.ok(["receive", "work.vml"]);
    for path in ["home/dev/.globus/userkey.pem", "home/dev/.bash_history", "srv/own"] {
        tom.run(["cat", &format!("work@latest:{path}")]).fails(3, &["is not in the entry"]);
        fs::remove_file(eva.path("guest").join(path)).unwrap();
    }
    assert_eq!(tom.ok(["cat", "work@latest:home/dev/notes"]), "two\n");
    // What the receiver has by the base is no news; and whoever insists, shares.
    let ran = eva.run(["share", "work@latest", "--allow-secrets", "-o", "all.vml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    write(&eva.path("home/secrets.toml"), b"nonsense");
    eva.run(["share", "work@latest", "-o", "x.vml"]).fails(2, &["secrets.toml"]);
}

#[test]
fn an_unknown_signer_gives_no_power() {
    if !is_root() {
        return skip("an_unknown_signer_gives_no_power", "only root can make devices");
    }
    let (eva, tom) = (sender(), Host::new());
    fs::set_permissions(eva.path("guest/home/dev/notes"), Permissions::from_mode(0o4755)).unwrap();
    let made = Command::new("mknod").arg(eva.path("guest/home/null")).args(["c", "1", "3"]).status().unwrap();
    if !made.success() {
        return skip("an_unknown_signer_gives_no_power", "devices cannot be made here");
    }
    eva.ok(["save", "work", "-m", "with power"]);
    eva.ok(["key", "new"]);
    eva.ok(["share", "work@latest", "--full", "-o", "work.vml"]);
    hand_over(&eva, &tom, "work.vml");
    tom.ok(["receive", "work.vml"]);
    let ran = tom.run(["build", "work@latest", "built"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("unknown signer"), "{}", ran.err);
    assert!(!tom.path("built/home/null").exists());
    assert_eq!(fs::metadata(tom.path("built/home/dev/notes")).unwrap().permissions().mode() & 0o7777, 0o755);
    tom.ok(["build", "work@latest", "asked", "--allow-special"]);
    assert!(tom.path("asked/home/null").exists());
    tom.ok(["key", "trust", "eva", eva.ok(["key", "export"]).trim()]);
    tom.assert_builds("work@latest", &eva.path("guest"));
}

#[test]
fn keys_of_ssh_sign_and_ssh_can_check() {
    let host = sender();
    let keygen = |args: &[&str]| host.program("ssh-keygen").args(args).output();
    if keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "eva", "-f", "id_eva"]).is_err() {
        return skip("keys_of_ssh_sign_and_ssh_can_check", "there is no ssh-keygen");
    }
    host.ok(["key", "new", "own"]);
    let key = fs::read_to_string(host.path("id_eva.pub")).unwrap();
    let mut allowed = format!("eva {}", key.trim());
    allowed.push_str(&format!("\nown {}\n", host.ok(["key", "export", "own"]).trim()));
    fs::write(host.path("allowed"), allowed).unwrap();
    for (who, key) in [("eva", "./id_eva"), ("own", "own")] {
        host.ok(["share", "work@latest", "--key", key, "--replace", "-o", "work.vml"]);
        let shown = host.json(["show", "work.vml"]);
        fs::write(host.path("signature"), shown["signature"].as_str().unwrap()).unwrap();
        let mut verify = host.program("ssh-keygen");
        verify.args(["-Y", "verify", "-f", "allowed", "-I", who, "-n", "vml-share", "-s", "signature"]);
        let mut child = verify.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(shown["statement"].as_str().unwrap().as_bytes()).unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert!(ran.code == 0 && ran.out.contains("Good"), "{who}: {} {}", ran.out, ran.err);
    }
    // OpenSSH reads our key, and what only it can use, it uses: here by the public half, from an agent it would ask.
    assert!(keygen(&["-y", "-f", "home/keys/own"]).unwrap().status.success());
    fs::set_permissions(host.path("id_eva"), Permissions::from_mode(0o644)).unwrap();
    host.run(["share", "work@latest", "--key", "./id_eva", "-o", "x.vml"]).fails(3, &["others can read this private key"]);
    fs::set_permissions(host.path("id_eva"), Permissions::from_mode(0o600)).unwrap();
    host.ok(["share", "work@latest", "--key", "./id_eva.pub", "-o", "by-ssh.vml"]);
    let fingerprint = String::from_utf8(keygen(&["-l", "-f", "id_eva.pub"]).unwrap().stdout).unwrap();
    assert!(fingerprint.contains(host.json(["show", "by-ssh.vml"])["signer"].as_str().unwrap()), "{fingerprint}");
    host.run(["share", "work@latest", "--key", "nobody", "-o", "x.vml"]).fails(3, &["there is no key"]);
    assert!(!host.path("x.vml").exists());
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (eva, tom) = (Host::new(), Host::new());
    for number in 0..6 {
        write(&eva.path(&format!("guest/{number}")), &noise::incompressible(number, 8 << 20));
    }
    eva.ok(["area", "add", "work", "--tree", "guest"]);
    eva.ok(["save", "work", "-m", "much"]);
    let shared = eva.json(["share", "work@latest", "-o", "work.vml", "--level", "1"]);
    let bytes = fs::read(eva.path("work.vml")).unwrap();
    let mut receive = tom.command(["receive", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut pipe = receive.stdin.take().unwrap();
    pipe.write_all(&bytes[..bytes.len() * 3 / 4]).unwrap();
    // A pack is published once it is full.
    let started = std::time::Instant::now();
    while files(&tom.repository().join("data")).is_empty() {
        assert!(started.elapsed().as_secs() < 60, "no pack was published");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    receive.kill().unwrap();
    receive.wait().unwrap();
    drop(pipe);
    assert_eq!(tom.ok(["log"]), "nothing saved yet\n");
    for dir in ["entries", "notes", "refs/areas", "refs/tags", "refs/bases"] {
        assert!(files(&tom.repository().join(dir)).is_empty(), "{dir}");
    }
    fs::write(tom.path("work.vml"), &bytes).unwrap();
    let mut again = tom.command(["receive", "work.vml", "--json", "--quiet"]);
    let ran = Ran::of(&again.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let received: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(received["chunks"], shared["chunks"]);
    let (chunks, new) = (received["chunks"].as_u64().unwrap(), received["new_chunks"].as_u64().unwrap());
    assert!(new > 0 && new < chunks * 3 / 4, "{new} of {chunks} were stored again");
    tom.assert_builds("work@latest", &eva.path("guest"));
    tom.assert_whole();
}

#[test]
fn what_is_no_share_file_changes_nothing() {
    let (eva, tom) = (sender(), Host::new());
    eva.ok(["share", "work@latest", "--full", "-o", "work.vml"]);
    let bytes = fs::read(eva.path("work.vml")).unwrap();
    write(&tom.path("photo.vml"), b"a photo, and long enough to be looked at as a whole file");
    tom.run(["receive", "photo.vml"]).fails(2, &["this is no share file"]);
    tom.run(["show", "photo.vml"]).fails(2, &["this is no share file"]);
    tom.run(["receive", "nowhere.vml"]).fails(3, &["cannot open"]);
    write(&tom.path("cut.vml"), &bytes[..bytes.len() / 2]);
    tom.run(["receive", "cut.vml"]).fails(3, &["cut short", "the rest"]);
    tom.run(["ls", "cut.vml"]).fails(3, &["cut short"]);
    let mut newer = bytes.clone();
    newer[8] = 2;
    write(&tom.path("newer.vml"), &newer);
    tom.run(["receive", "newer.vml"]).fails(3, &["format version 2", "knows up to 1"]);
    assert_eq!(tom.ok(["log"]), "nothing saved yet\n");
    // A reader that goes away ends the writer quietly.
    let mut share =
        eva.command(["share", "work@latest", "--full", "-o", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(share.stdout.take());
    let mut said = String::new();
    share.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(share.wait().unwrap().success() && said.is_empty(), "{said}");
}

#[test]
fn a_policy_of_the_repository_demands_signatures() {
    let (eva, tom) = (sender(), Host::new());
    eva.ok(["share", "work@latest", "--full", "-o", "work.vml"]);
    hand_over(&eva, &tom, "work.vml");
    assert!(tom.ok(["key", "policy"]).contains("signed or not"));
    assert_eq!(tom.json(["key", "policy", "--require-signed"])["require_signed"], true);
    tom.run(["receive", "work.vml"]).fails(3, &["is not signed"]);
    tom.ok(["remote", "add", "eva", &eva.repository().display().to_string(), "--shared"]);
    tom.run(["pull"]).fails(3, &["takes only what a trusted key has signed"]);
    tom.ok(["key", "policy", "--allow-unsigned"]);
    tom.ok(["receive", "work.vml"]);
}

#[test]
fn a_sealed_file_is_opened_by_those_it_is_for_and_by_nobody_else() {
    let (eva, tom) = (sender(), Host::new());
    eva.ok(["key", "new"]);
    tom.ok(["key", "new"]);
    eva.ok(["key", "trust", "tom", tom.ok(["key", "export"]).trim()]);
    tom.ok(["key", "trust", "eva", eva.ok(["key", "export"]).trim()]);
    let shared = eva.json(["share", "work@latest", "--full", "--to", "tom", "-o", "work.vml"]);
    assert_eq!(shared["bytes"].as_u64().unwrap(), fs::metadata(eva.path("work.vml")).unwrap().len());
    assert_eq!(shared["sealed_to"][0], tom.ok(["key", "export"]).trim());
    assert!(fs::read(eva.path("work.vml")).unwrap().starts_with(b"age-encryption.org/v1\n-> ssh-ed25519 "));
    hand_over(&eva, &tom, "work.vml");
    assert_eq!((&tom.json(["show", "work.vml"])["known_as"], &tom.json(["show", "work.vml"])["sealed"]), (&json!("eva"), &json!(true)));
    assert!(tom.ok(["ls", "work.vml:home/dev"]).contains("results"));
    assert_eq!(tom.ok(["cat", "work.vml:home/dev/notes"]), "two\n");
    // She sealed it to him only.
    for args in [&["show", "work.vml"][..], &["receive", "work.vml"], &["cat", "work.vml:home/dev/notes"]] {
        eva.run(args).fails(3, &["sealed to other keys"]);
    }
    let nobody = Host::new();
    hand_over(&eva, &nobody, "work.vml");
    nobody.run(["receive", "work.vml"]).fails(3, &["sealed", "--identity"]);
    // With a key that is a file, through a pipe, and by nobody's key but that.
    fs::copy(tom.path("home/keys/default"), nobody.path("key")).unwrap();
    let file = fs::File::open(nobody.path("work.vml")).unwrap();
    let ran = Ran::of(&nobody.command(["receive", "-", "--identity", "key"]).stdin(file).output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    nobody.assert_builds("work@latest", &eva.path("guest"));
    fs::set_permissions(nobody.path("key"), Permissions::from_mode(0o644)).unwrap();
    nobody.run(["show", "work.vml", "--identity", "key"]).fails(3, &["chmod 600"]);
    // Changed or cut, nothing of it is visible.
    let sealed = fs::read(tom.path("work.vml")).unwrap();
    for (name, bytes) in [
        ("cut.vml", sealed[..sealed.len() - 9].to_vec()),
        ("flipped.vml", {
            let mut bytes = sealed.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
    ] {
        fs::write(tom.path(name), bytes).unwrap();
        tom.run(["receive", name]).fails(3, &["sealed file was changed or cut"]);
    }
    assert_eq!(tom.ok(["log"]), "nothing saved yet\n");
    tom.ok(["receive", "--require-signed", "work.vml"]);
    tom.assert_builds("work@latest", &eva.path("guest"));
    for (to, code, why) in [("nobody", 3, "no name of"), ("ssh-rsa AAAA", 2, "ssh-ed25519"), ("age1x", 2, "no key of age")] {
        eva.run(["share", "work@latest", "--to", to, "-o", "x.vml"]).fails(code, &["cannot seal to", why]);
    }
    assert!(!eva.path("x.vml").exists());
}
