//! Bases from the network: catalogues, proxies, servers that lie or stop, and what fetches by itself.

use crate::support::{self, Host, assert_equal, make_guest};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vml_testkit::noise;
use vml_testkit::squid::Squid;
use vml_testkit::web::{Manner, WebServer};

const LEN: usize = 3 << 20;

/// A disk that is the same everywhere.
fn disk() -> Vec<u8> {
    let mut bytes = noise::mixed(7, LEN);
    bytes[LEN / 2..LEN * 3 / 4].fill(0);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A catalogue with one base.
fn catalogue(base: &str, format: &str, bytes: &[u8], urls: &[String], more: &str) -> String {
    let (name, version) = base.split_once('@').unwrap();
    format!(
        "version = 1\n\n[[base]]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"for a test\"\nformat = \"{format}\"\nurls = {urls:?}\n\
         size = {}\nsha256 = \"{}\"\n{more}\n",
        bytes.len(),
        sha256(bytes)
    )
}

/// A host that knows a catalogue with the base `debian@12`, a raw disk.
fn host_with_catalogue(urls: &[String]) -> Host {
    let host = Host::new();
    fs::write(host.path("catalogue.toml"), catalogue("debian@12", "raw", &disk(), urls, "machine = { memory_mib = 512 }")).unwrap();
    host.ok(["base", "catalogue", "add", "lab", "catalogue.toml"]);
    host
}

fn image(host: &Host) -> PathBuf {
    host.path("home/bases/debian@12/disk.raw")
}

/// What lies in the folder of the base.
fn left(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.path("home/bases/debian@12")).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How much of the image is here.
fn came(host: &Host) -> u64 {
    fs::metadata(host.path("home/bases/debian@12/disk.raw.part")).map_or(0, |meta| meta.len())
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_base_is_fetched_checked_imported_and_stood_on() {
    let server = WebServer::start();
    let host = host_with_catalogue(&[server.put("/disk.raw", disk())]);
    let planned = host.json(["base", "fetch", "debian@12", "--dry-run"]);
    assert_eq!((planned["bytes"].as_u64().unwrap(), planned["dry_run"].as_bool().unwrap()), (LEN as u64, true));
    assert!(server.asked().is_empty() && host.json_lines(["base", "list"]).is_empty());
    let shown = host.json(["base", "catalogue", "show", "lab"]);
    assert_eq!((shown["base"].as_str().unwrap(), shown["entry"].is_null()), ("debian@12", true));

    let fetched = host.json(["base", "fetch", "debian@12"]);
    assert_eq!((fetched["new"].as_bool(), fetched["received_bytes"].as_u64()), (Some(true), Some(LEN as u64)));
    assert_eq!(fetched["file"].as_str().unwrap(), image(&host).to_str().unwrap());
    assert!(fs::read(image(&host)).unwrap() == disk());
    assert_eq!(left(&host), ["disk.raw"]);
    let entry = host.json(["show", "BASE:debian@12"]);
    let facts = entry["facts"].to_string();
    assert!(facts.contains("base.digest") && facts.contains(&sha256(&disk())) && facts.contains("base.from"), "{facts}");
    assert!(host.json(["base", "catalogue", "show", "lab"])["entry"].is_string());

    // An overlay stands on the fetched image.
    host.ok(["build", "BASE:debian@12", "built", "--verify"]);
    assert!(fs::read_to_string(host.path("built/machine.toml")).unwrap().contains("memory_mib = 512"));
    let built = host.json(["build", "BASE:debian@12", "again", "--format", "overlay"]);
    assert_eq!(built["disks"][0]["base_image"].as_str().unwrap(), image(&host).to_str().unwrap());
    // Once is enough.
    let before = server.asked().len();
    assert!(host.ok(["base", "fetch", "debian@12"]).contains("is here already"));
    assert_eq!(server.asked().len(), before);
    assert_eq!(host.json(["base", "fetch", "debian@12"])["new"], false);
    host.assert_whole();
}

#[test]
fn a_compressed_image_a_tree_and_a_share_file_are_bases_too() {
    let server = WebServer::start();
    let host = Host::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&disk()).unwrap();
    let files = [("gz", gz.finish().unwrap()), ("zst", zstd::encode_all(disk().as_slice(), 1).unwrap())];
    for (compression, bytes) in &files {
        let base = format!("{compression}@1");
        let url = server.put(&format!("/{compression}"), bytes.clone());
        let more = format!("compression = \"{compression}\"\ndisk = \"system\"");
        fs::write(host.path("c.toml"), catalogue(&base, "raw", bytes, std::slice::from_ref(&url), &more)).unwrap();
        host.ok(["base", "fetch", &base, "--catalogue", "c.toml"]);
        let folder = host.path(&format!("home/bases/{base}"));
        assert!(fs::read(folder.join("system.raw")).unwrap() == disk(), "{compression}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "what came is not kept beside what it became");
        // What is longer than it may be is no base.
        let more = format!("{more}\nunpacked_size = 1000000");
        fs::write(host.path("c.toml"), catalogue("bomb@1", "raw", bytes, &[url], &more)).unwrap();
        host.run(["base", "fetch", "bomb@1", "--catalogue", "c.toml"]).fails(2, &["unpacked_size"]);
        let names: Vec<_> = fs::read_dir(host.path("home/bases/bomb@1")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("system.raw.part")), "{names:?}");
        fs::remove_dir_all(host.path("home/bases/bomb@1")).unwrap();
    }

    make_guest(&host.path("guest"));
    host.ok(["base", "add", "shared@1", "--tree", "guest"]);
    host.ok(["share", "BASE:shared@1", "-o", "shared.vml"]);
    let other = Host::new();
    let bytes = fs::read(host.path("shared.vml")).unwrap();
    let url = server.put("/shared.vml", bytes.clone());
    fs::write(other.path("c.toml"), catalogue("shared@1", "vml", &bytes, std::slice::from_ref(&url), "")).unwrap();
    other.ok(["base", "fetch", "shared@1", "--catalogue", "c.toml"]);
    other.assert_builds("BASE:shared@1", &host.path("guest"));
    fs::write(other.path("c.toml"), catalogue("other@1", "vml", &bytes, &[url], "")).unwrap();
    other.run(["base", "fetch", "other@1", "--catalogue", "c.toml"]).fails(2, &["is not the base other@1 by itself"]);

    if !support::is_root() {
        return support::skip("a_compressed_image_a_tree_and_a_share_file_are_bases_too", "only root can keep the owners of a tree");
    }
    let archive = host.path("tree.tar");
    assert!(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(host.path("guest")).arg(".").status().unwrap().success());
    let bytes = fs::read(&archive).unwrap();
    let url = server.put("/tree.tar", bytes.clone());
    fs::write(other.path("c.toml"), catalogue("tree@1", "tar", &bytes, &[url], "")).unwrap();
    other.ok(["base", "fetch", "tree@1", "--catalogue", "c.toml"]);
    let built = other.path("tree");
    other.ok(["build", "BASE:tree@1", built.to_str().unwrap()]);
    assert_equal(&host.path("guest"), &built);
    assert_eq!(fs::read_dir(other.path("home/bases/tree@1")).unwrap().count(), 0);
}

#[test]
fn what_is_not_as_the_catalogue_says_is_not_used() {
    for (manner, code, word) in [
        (Manner::WrongByte(5), 3, "is not what the catalogue says"),
        (Manner::Endless, 3, "more than the"),
        (Manner::WrongLength(7), 3, "its file has"),
        (Manner::Redirect("https://127.0.0.1:1/x".to_owned()), 3, "nobody sends"),
        (Manner::Status(404), 3, "status 404"),
    ] {
        let server = WebServer::start();
        let host = host_with_catalogue(&[server.serve("/x", disk(), manner.clone())]);
        let ran = host.run(["base", "fetch", "debian@12"]).fails(code, &["cannot fetch debian@12", word]);
        assert!(host.json_lines(["base", "list"]).is_empty() && !image(&host).exists(), "{manner:?}: {}", ran.err);
        if manner == Manner::WrongByte(5) {
            assert!(left(&host).is_empty(), "{:?}", left(&host));
        }
        // The next one who is honest is believed.
        server.behave("/x", Manner::Honest);
        host.ok(["base", "fetch", "debian@12"]);
        assert!(fs::read(image(&host)).unwrap() == disk());
        host.assert_whole();
    }
}

#[test]
fn a_fetch_that_was_killed_is_continued_and_lets_others_go_on() {
    let server = WebServer::start();
    let host = host_with_catalogue(&[server.serve("/x", disk(), Manner::Slow(64 << 10, Duration::from_millis(30)))]);
    let mut first = host.command(["base", "fetch", "debian@12"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the first half", || came(&host) > LEN as u64 / 2);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(host.json_lines(["base", "list"]).is_empty() && !image(&host).exists());
    server.behave("/x", Manner::Honest);
    let fetched = host.json(["base", "fetch", "debian@12"]);
    let continued = fetched["continued_at"].as_u64().unwrap();
    assert!(continued > LEN as u64 / 2, "{fetched}");
    assert_eq!(fetched["received_bytes"].as_u64().unwrap(), LEN as u64 - continued);
    assert!(fs::read(image(&host)).unwrap() == disk());
}

#[test]
fn of_several_at_a_time_one_fetches() {
    let server = WebServer::start();
    let host = host_with_catalogue(&[server.serve("/x", disk(), Manner::Slow(16 << 10, Duration::from_millis(20)))]);
    let start = || host.command(["base", "fetch", "debian@12"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    let said: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .collect();
    assert_eq!(said.iter().filter(|said| said.contains("fetched debian@12")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| said.contains("is here already")).count(), 3, "{said:?}");
    // On a busy host some may begin when all is over.
    assert!(said.iter().any(|said| said.contains("waiting for it")), "{said:?}");
    assert_eq!(server.sent(), LEN as u64);
    assert_eq!(host.json_lines(["base", "list"]).len(), 1);
}

#[test]
fn a_squid_that_is_killed_half_way_is_passed_by() {
    let Some(mut squid) = Squid::start("a_squid_that_is_killed_half_way_is_passed_by") else { return };
    for direct in [true, false] {
        let Some(next) = Squid::start("a_squid_that_is_killed_half_way_is_passed_by") else { return };
        let server = WebServer::start();
        let host = host_with_catalogue(&[server.serve("/x", disk(), Manner::Slow(32 << 10, Duration::from_millis(20)))]);
        let list = format!("{};{}", squid.url(), if direct { "DIRECT".to_owned() } else { next.url() });
        let mut command = host.command(["base", "fetch", "debian@12", "--proxy", &list, "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the first half", || came(&host) > LEN as u64 / 2);
        squid.kill();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let fetched: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let from = fetched["from"].as_array().unwrap();
        assert_eq!(from.len(), 2, "{fetched}");
        assert!(from[0].as_str().unwrap().contains(&squid.url()), "{fetched}");
        assert_eq!(from[1].as_str().unwrap().contains("by the proxy"), !direct, "{fetched}");
        let asked = server.asked();
        assert!(asked[0].header("via").contains("squid"), "it came by the squid");
        let last = asked.last().unwrap();
        assert!(last.header("range").starts_with("bytes=") && !last.header("if-range").is_empty(), "{last:?}");
        assert!(server.sent() < LEN as u64 * 5 / 4, "the first half was not sent again: {}", server.sent());
        assert!(fs::read(image(&host)).unwrap() == disk());
        assert!(direct || next.log().contains("/x"), "{}", next.log());
        squid = next;
    }
}

#[test]
fn proxies_are_those_of_the_line_the_file_or_the_variables() {
    let (server, proxy) = (WebServer::start(), WebServer::start());
    let host = host_with_catalogue(&[server.put("/x", disk())]);
    proxy.put("/x", disk());
    let at = format!("http://127.0.0.1:{}", proxy.port());
    let fetch = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = host.command(["base", "fetch", "debian@12", "--json"].iter().chain(more));
        command.envs(variables.iter().copied());
        let ran = support::Ran::of(&command.output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
        host.ok(["base", "rm", "debian@12", "--yes"]);
        fs::remove_dir_all(host.path("home/bases")).unwrap();
        let fetched: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        fetched["from"][0].as_str().unwrap().contains("by the proxy")
    };
    assert!(!fetch(&[], &[]));
    assert!(fetch(&[("HTTP_PROXY", &at)], &[]));
    assert!(!fetch(&[("HTTP_PROXY", &at), ("NO_PROXY", "127.0.0.0/8")], &[]));
    assert!(!fetch(&[("HTTP_PROXY", &at)], &["--proxy", "DIRECT"]));
    assert!(fetch(&[("NO_PROXY", "*")], &["--proxy", &at]));
    fs::write(host.path("home/network.toml"), format!("proxies = \"{at};DIRECT\"\nnearest = true\nlimit = \"1G\"\n")).unwrap();
    assert!(fetch(&[], &[]));
    assert!(!fetch(&[("no_proxy", "127.0.0.1")], &[]));
    fs::write(host.path("home/network.toml"), "proxy = \"x\"\n").unwrap();
    host.run(["base", "fetch", "debian@12"]).fails(2, &["network.toml", "unknown field `proxy`"]);
    fs::remove_file(host.path("home/network.toml")).unwrap();
    host.run(["base", "fetch", "debian@12", "--proxy", "socks5://x"]).fails(2, &["only http and https"]);
    host.run(["base", "fetch", "debian@12", "--limit", "quick"]).fails(2, &["no rate"]);
}

#[test]
fn catalogues_are_added_asked_and_removed() {
    let server = WebServer::start();
    let host = Host::new();
    host.run(["base", "fetch", "debian@12"]).fails(3, &["no catalogue is known here"]);
    host.run(["base", "catalogue", "add", "lab", &server.url("/none.toml")]).fails(3, &["status 404"]);
    let text = catalogue("debian@12", "raw", &disk(), &[server.put("/x", disk())], "");
    let at = server.put("/c.toml", text.clone());
    host.ok(["base", "catalogue", "add", "lab", &at]);
    host.run(["base", "catalogue", "add", "lab", &at]).fails(3, &["already"]);
    assert_eq!(host.json(["base", "catalogue", "list"])["at"].as_str().unwrap(), at);
    host.run(["base", "fetch", "other@1"]).fails(3, &["no catalogue names the base other@1: lab was asked"]);
    // Others that name the same file add their addresses, those that name another one are asked about.
    server.put("/y", disk());
    fs::write(host.path("same.toml"), catalogue("debian@12", "raw", &disk(), &[server.url("/y")], "")).unwrap();
    host.ok(["base", "catalogue", "add", "same", "same.toml"]);
    assert_eq!(host.json(["base", "fetch", "debian@12", "--dry-run"])["urls"].as_array().unwrap().len(), 2);
    fs::write(host.path("same.toml"), catalogue("debian@12", "raw", b"another", &[server.url("/y")], "")).unwrap();
    host.run(["base", "fetch", "debian@12"]).fails(2, &["name different files"]);
    host.json(["base", "fetch", "debian@12", "--dry-run", "--catalogue", "lab"]);
    host.ok(["base", "catalogue", "rm", "same"]);
    host.run(["base", "catalogue", "rm", "same"]).fails(3, &["there is no catalogue"]);
    // What is none is told with its line; one that cannot be had is in nobody's way if another has it.
    fs::write(host.path("bad.toml"), text.replace("format", "formatt")).unwrap();
    host.run(["base", "catalogue", "show", "bad.toml"]).fails(2, &["line 7", "unknown field"]);
    let gone = server.put("/gone.toml", text);
    host.ok(["base", "catalogue", "add", "gone", &gone]);
    server.serve("/gone.toml", "", Manner::Status(500));
    let ran = host.run(["base", "fetch", "debian@12"]);
    assert!(ran.code == 0 && ran.err.contains("status 500"), "{}", ran.err);
}

#[test]
fn the_example_is_a_catalogue() {
    let host = Host::bare();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/catalogue.toml");
    let shown = host.json_lines(["base", "catalogue", "show", example.to_str().unwrap()]);
    assert!(shown.len() >= 2 && shown.iter().all(|base| base["digest"].as_str().unwrap().starts_with("sha512:")), "{shown:?}");
    // With a digest, what is commented out is one as well.
    let text = fs::read_to_string(&example).unwrap();
    let (before, cernvm) = text.split_once("#\n# [[base]]").unwrap();
    let cernvm = cernvm.replace("\n# ", "\n").replace("\"...\"", &format!("\"{}\"", sha256(b"")));
    fs::write(host.path("whole.toml"), format!("{before}\n[[base]]{cernvm}")).unwrap();
    assert_eq!(host.json_lines(["base", "catalogue", "show", "whole.toml"]).len(), shown.len() + 1);
}

#[test]
fn a_signed_catalogue_is_by_whom_one_trusts() {
    let server = WebServer::start();
    let (host, author) = (Host::new(), Host::bare());
    author.ok(["key", "new"]);
    let text = catalogue("debian@12", "raw", &disk(), &[server.put("/x", disk())], "");
    fs::write(author.path("c.toml"), &text).unwrap();
    let signed = author
        .program("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "vml-catalogue", "-f"])
        .arg(author.path("home/keys/default"))
        .arg("c.toml")
        .output();
    if !signed.is_ok_and(|output| output.status.success()) {
        return support::skip("a_signed_catalogue_is_by_whom_one_trusts", "there is no ssh-keygen here");
    }
    let signature = fs::read(author.path("c.toml.sig")).unwrap();
    let at = server.put("/c.toml", text.clone());
    let fetch = |more: &[&str]| host.run(["base", "fetch", "debian@12", "--dry-run", "--catalogue", &at].iter().chain(more));
    assert!(fetch(&[]).out.contains("NOT signed"));
    fetch(&["--require-signed"]).fails(3, &["is not signed"]);
    host.ok(["key", "policy", "--require-signed"]);
    fetch(&[]).fails(3, &["is not signed"]);
    host.ok(["key", "policy", "--allow-unsigned"]);
    server.put("/c.toml.sig", signature.clone());
    assert!(fetch(&[]).out.contains("signed by an UNKNOWN key"));
    fetch(&["--require-signed"]).fails(3, &["no trusted key"]);
    host.ok(["key", "trust", "eva", &author.ok(["key", "export"])]);
    assert!(fetch(&["--require-signed"]).out.contains("signed by eva"));
    host.ok(["base", "catalogue", "add", "lab", &at, "--require-signed"]);
    // Changed by somebody on the way.
    server.put("/c.toml", text.replace("for a test", "for a jest"));
    host.run(["base", "fetch", "debian@12"]).fails(3, &["the signature of the catalogue is wrong"]);
    fetch(&[]).fails(3, &["the signature of the catalogue is wrong"]);
    // A signature of the same key for something else is none.
    server.put("/c.toml", text);
    fs::remove_file(author.path("c.toml.sig")).unwrap();
    let other = author
        .program("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "vml-share", "-f"])
        .arg(author.path("home/keys/default"))
        .arg("c.toml")
        .status();
    assert!(other.unwrap().success());
    server.put("/c.toml.sig", fs::read(author.path("c.toml.sig")).unwrap());
    fetch(&[]).fails(3, &["something else"]);
}

/// A share file of an entry upon `debian@12`, and the disk that it has.
fn shared_work(place: &Path) -> (Vec<u8>, Vec<u8>) {
    let sender = Host::new();
    fs::write(sender.path("debian.raw"), disk()).unwrap();
    sender.ok(["base", "add", "debian@12", "--disk", "disk=debian.raw"]);
    let mut changed = disk();
    changed[100_000..400_000].copy_from_slice(&noise::incompressible(9, 300_000));
    fs::write(sender.path("work.raw"), &changed).unwrap();
    sender.ok(["area", "add", "work", "--disk", "disk=work.raw", "--base", "debian@12"]);
    sender.ok(["save", "work", "-m", "changed"]);
    sender.ok(["share", "work@latest", "-o", place.join("work.vml").to_str().unwrap()]);
    (fs::read(place.join("work.vml")).unwrap(), changed)
}

#[test]
fn what_needs_a_base_fetches_it() {
    let place = tempfile::tempdir().unwrap();
    let (file, changed) = shared_work(place.path());
    assert!(file.len() < LEN / 2, "it is thin");
    let server = WebServer::start();
    let host = host_with_catalogue(&[server.put("/x", disk())]);
    fs::write(host.path("work.vml"), &file).unwrap();
    host.run(["receive", "work.vml", "--no-fetch"]).fails(3, &["needs the base debian@12"]);
    host.run(["receive", "work.vml", "--require-signed"]).fails(3, &["is not signed"]);
    assert!(server.asked().is_empty(), "not for what is not taken anyway");
    let said = host.ok(["receive", "work.vml"]);
    assert!(said.contains("the base debian@12 is missing here: fetching") && said.contains("received"), "{said}");
    host.ok(["build", "work@latest", "built", "--format", "overlay", "--verify"]);
    host.ok(["build", "work@latest", "raw", "--format", "raw"]);
    assert!(fs::read(host.path("raw/disk.raw")).unwrap() == changed);

    // By a pipe too.
    let other = host_with_catalogue(&[server.url("/x")]);
    let mut child = other.command(["receive", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&file).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    other.assert_whole();

    // Forgotten here, it is fetched again when something is to stand on it; its image is here still.
    host.ok(["base", "rm", "debian@12", "--yes"]);
    let before = server.sent();
    host.run(["build", "work@latest", "none", "--format", "overlay", "--no-fetch"]).fails(3, &["--no-fetch"]);
    let said = host.ok(["build", "work@latest", "whole", "--no-fetch"]);
    assert!(!said.contains("upon"), "{said}");
    let said = host.ok(["build", "work@latest", "again"]);
    assert!(said.contains("is missing here") && said.contains("upon"), "{said}");
    assert_eq!(server.sent(), before);

    // Without a server the entry is built all the same, unless it must stand on the base.
    host.ok(["base", "rm", "debian@12", "--yes"]);
    fs::remove_dir_all(host.path("home/bases")).unwrap();
    server.serve("/x", "", Manner::Status(404));
    let ran = host.run(["build", "work@latest", "alone"]);
    assert!(ran.code == 0 && ran.err.contains("is built without it"), "{}", ran.err);
    host.run(["build", "work@latest", "no", "--format", "overlay"]).fails(3, &["cannot fetch debian@12"]);
}

#[test]
fn a_base_with_another_content_does_not_serve() {
    let place = tempfile::tempdir().unwrap();
    let (file, _) = shared_work(place.path());
    let server = WebServer::start();
    let host = Host::new();
    let mut wrong = disk();
    wrong[..4096].copy_from_slice(&noise::incompressible(3, 4096));
    fs::write(host.path("c.toml"), catalogue("debian@12", "raw", &wrong, &[server.put("/x", wrong.clone())], "")).unwrap();
    host.ok(["base", "catalogue", "add", "lab", "c.toml"]);
    fs::write(host.path("work.vml"), &file).unwrap();
    host.run(["receive", "work.vml"]).fails(3, &["has other content"]);
    assert!(host.json_lines(["log"]).iter().all(|entry| entry["area"].is_null()), "nothing of it is visible");
}

#[test]
fn a_guest_gets_the_nearest_proxies() {
    let (near, geo) = (WebServer::start(), WebServer::start());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = Host::new();
    make_guest(&host.path("guest"));
    host.ok(["area", "add", "work", "--tree", "guest"]);
    let at = format!("http://127.0.0.1:{}", near.port());
    assert_eq!(host.ok(["guest", "proxies", &format!("{at};DIRECT")]), format!("CVMFS_HTTP_PROXY=\"{at};DIRECT\"\n"));
    let ran = host.run(["guest", "proxies", &format!("http://{dead}|{at};DIRECT")]);
    assert!(ran.code == 1 && ran.err.contains("cannot be reached"), "{}", ran.err);
    assert_eq!(ran.out, format!("CVMFS_HTTP_PROXY=\"{at};DIRECT\"\n"));
    host.run(["guest", "proxies", &format!("http://{dead}")]).fails(3, &["none of the proxies"]);
    // By distance.
    let second = format!("http://127.0.0.1:{}", geo.port());
    geo.put("/cvmfs/r/api/v1.0/geo/vml/127.0.0.1,127.0.0.1", "2,1\n");
    let told = host.json(["guest", "proxies", &format!("{at};{second}"), "--geo", &geo.url("/cvmfs/r")]);
    assert_eq!(told["line"].as_str().unwrap(), format!("CVMFS_HTTP_PROXY=\"{second};{at}\""));

    host.run(["guest", "proxies", &at, "--area", "work"]).fails(3, &["etc/cvmfs"]);
    fs::create_dir(host.path("guest/etc/cvmfs")).unwrap();
    fs::write(host.path("guest/etc/cvmfs/default.local"), "CVMFS_QUOTA_LIMIT=4000\nCVMFS_HTTP_PROXY=DIRECT\n").unwrap();
    host.ok(["guest", "proxies", &at, "--area", "work"]);
    let wanted = format!("CVMFS_QUOTA_LIMIT=4000\nCVMFS_HTTP_PROXY=\"{at}\"\n");
    assert_eq!(fs::read_to_string(host.path("guest/etc/cvmfs/default.local")).unwrap(), wanted);
    host.ok(["guest", "proxies", &at, "--file", "here.local"]);
    assert_eq!(fs::read_to_string(host.path("here.local")).unwrap(), format!("CVMFS_HTTP_PROXY=\"{at}\"\n"));
    // A guest's link leads nowhere on this host.
    fs::create_dir(host.path("outside")).unwrap();
    fs::remove_dir_all(host.path("guest/etc/cvmfs")).unwrap();
    std::os::unix::fs::symlink(host.path("outside"), host.path("guest/etc/cvmfs")).unwrap();
    host.run(["guest", "proxies", &at, "--area", "work"]).fails(3, &["of its own"]);
    assert_eq!(fs::read_dir(host.path("outside")).unwrap().count(), 0);
}
