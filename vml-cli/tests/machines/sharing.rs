//! Two users who have nothing in common but a service and a catalogue: what the one saved runs at the other, although a proxy died on the way.

use crate::lab::Lab;
use crate::support::{Host, assert_equal, make_guest, write};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use vml_testkit::guest::{folder, ssh, tool};
use vml_testkit::squid::Squid;
use vml_testkit::web::{Manner, WebServer};

/// `vml serve`, ended when it goes out of scope.
struct Service(Child, String);

impl Service {
    fn start(site: &Host) -> Self {
        let mut command = site.command(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, format!("http://{}", line.trim().rsplit_once("://").unwrap().1))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn in_catalogue(base: &str, format: &str, bytes: &[u8], url: &str, more: &str) -> String {
    use sha2::Digest as _;
    let (name, version) = base.split_once('@').unwrap();
    let digest: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[base]]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"for a test\"\nformat = \"{format}\"\nurls = [\"{url}\"]\n\
         size = {}\nsha256 = \"{digest}\"\n{more}\n\n",
        bytes.len()
    )
}

fn packed(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    tool(program, args, file.parent().unwrap());
    let bytes = fs::read(file).unwrap();
    fs::remove_file(file).unwrap();
    bytes
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn what_one_user_saved_another_builds_and_boots_with_a_service_and_a_catalogue_only() {
    let Some(mut squid) = Squid::start("two users") else { return };
    // The first user: a machine on a base, and a tree on another.
    let eva = Lab::new();
    eva.add("work");
    let port = eva.start("work");
    ssh(port, "echo 'from eva' > /etc/motd; seq 100000 > /home/dev/numbers; sync");
    eva.host.ok(["save", "work", "-m", "for tom", "--mode", "disk"]);
    eva.host.ok(["area", "stop", "work", "--now"]);
    make_guest(&eva.host.path("plain"));
    make_guest(&eva.host.path("tree"));
    eva.host.ok(["base", "add", "plain@1", "--tree", "plain"]);
    write(&eva.host.path("tree/home/dev/result"), b"forty-two\n");
    eva.host.ok(["area", "add", "files", "--tree", "tree", "--base", "plain@1"]);
    eva.host.ok(["save", "files", "-m", "files for tom"]);

    // What there is on the network: a service, a web server behind a proxy, a catalogue.
    let site = Host::new();
    let service = Service::start(&site);
    eva.host.ok(["remote", "add", "origin", &service.1, "--own"]);
    // The service gets the bases too; its share files leave them out, as everybody has them from elsewhere.
    eva.host.ok(["push", "origin", "work", "files"]);
    let web = WebServer::start();
    let disk = folder().join("disk.raw");
    let image = eva.host.path("disk.raw.zst");
    let image = packed("zstd", &["-q", "-1", "-f", disk.to_str().unwrap(), "-o", image.to_str().unwrap()], &image);
    let tree = eva.host.path("plain.tar");
    let tree = packed("tar", &["-cf", tree.to_str().unwrap(), "-C", eva.host.path("plain").to_str().unwrap(), "."], &tree);
    let piece = image.len() / 100;
    let image_url = web.serve("/guest.raw.zst", image.clone(), Manner::Slow(piece, Duration::from_millis(50)));
    let tree_url = web.put("/plain.tar", tree.clone());
    let catalogue = [
        "version = 1\n\n".to_owned(),
        in_catalogue("guest@1", "raw", &image, &image_url, "compression = \"zst\"\ndisk = \"system\""),
        in_catalogue("plain@1", "tar", &tree, &tree_url, ""),
    ];
    let catalogue_url = web.put("/catalogue.toml", catalogue.concat());

    // The second user: an empty repository, two addresses, and a proxy that dies when half of the base has come.
    let tom = Host::new();
    fs::write(tom.path("home/network.toml"), format!("proxies = \"{};DIRECT\"\n", squid.url())).unwrap();
    tom.ok(["base", "catalogue", "add", "lab", &catalogue_url]);
    let mut command = tom.command(["receive", &format!("{}/e/work@latest", service.1)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let part = tom.path("home/bases/guest@1");
    let came = || {
        let files = fs::read_dir(&part).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().ends_with(".part")).map(|file| file.metadata().unwrap().len()).max()
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while came().unwrap_or(0) < image.len() as u64 / 2 {
        assert!(Instant::now() < deadline, "half of the base does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    squid.kill();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(web.asked().iter().any(|asked| asked.header("via").contains("squid")), "it came by the squid");
    assert!(web.sent() < (image.len() * 5 / 4 + tree.len() * 2 + 100_000) as u64, "the first half was not sent again");
    tom.ok(["receive", &format!("{}/e/files@latest", service.1)]);

    // Equal files, an equal disk, and a machine that runs.
    tom.ok(["build", "files@latest", "built"]);
    assert_equal(&eva.host.path("tree"), &tom.path("built"));
    tom.assert_whole();
    for host in [&eva.host, &tom] {
        host.ok(["build", "work@latest", "disks", "--format", "qcow2"]);
    }
    let [one, other] = [eva.host.path("disks/system.qcow2"), tom.path("disks/system.qcow2")];
    tool("qemu-img", &["compare", "-q", one.to_str().unwrap(), other.to_str().unwrap()], Path::new("/"));
    fs::remove_dir_all(eva.host.path("disks")).unwrap();
    fs::remove_dir_all(tom.path("disks")).unwrap();
    let login = eva.login();
    let mut build = vec!["build", "work@latest", "--area", "work", "--start"];
    build.extend(login.iter().map(String::as_str));
    let toms = Lab { host: tom };
    toms.host.json(&build);
    let port = toms.port("work");
    assert_eq!(ssh(port, "cat /etc/motd; tail -n 1 /home/dev/numbers"), "from eva\n100000");
    toms.host.ok(["area", "stop", "work", "--now"]);
}
