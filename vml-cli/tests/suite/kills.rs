//! SIGKILL at any moment: what was saved is whole, and what a killed save had stored serves the next one.

use crate::support::{Host, assert_equal, files, write};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};
use vml_testkit::noise::{Rng, mixed};

const FILES: u64 = 24;
const FILE_LEN: usize = 8 << 20;
const REPOSITORIES: usize = 3;
const ROUNDS: u64 = 5;

fn seed() -> u64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = std::env::var("VML_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::from(nanos));
    println!("seed {seed}; VML_TEST_SEED={seed} repeats it");
    seed
}

fn start(host: &Host, args: &[&str]) -> Child {
    host.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills `child` after `delay`; true when it was still running.
fn kill_after(mut child: Child, delay: Duration) -> bool {
    let deadline = Instant::now() + delay;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

#[test]
fn killed_saves_lose_nothing_and_their_chunks_serve_the_next_save() {
    let fresh = Host::new();
    let mut rng = Rng::new(seed());
    for n in 0..FILES {
        write(&fresh.path(&format!("large/{}/{n}", n % 5)), &mixed(1000 + n, FILE_LEN));
    }
    let large = fresh.path("large");
    let add = ["area", "add", "large", "--tree", large.to_str().unwrap()];
    fresh.ok(add);
    let started = Instant::now();
    let whole = fresh.json(["save", "large", "-m", "in one go"]);
    let span = started.elapsed().as_millis() as usize;
    let mut killed = 0;
    for _ in 0..REPOSITORIES {
        let host = Host::with_entry();
        host.ok(add);
        let mut ended = false;
        for round in 0..ROUNDS {
            let mut child = start(&host, &["save", "large", "-m", "to be killed"]);
            if round == 0 {
                // Once at a moment when something is published for certain.
                let packs = files(&host.repository().join("data")).len();
                while files(&host.repository().join("data")).len() == packs && child.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ended = !kill_after(child, Duration::ZERO);
            } else {
                ended = !kill_after(child, Duration::from_millis(rng.below(span.max(2)) as u64));
            }
            killed += u64::from(!ended);
            let check = host.run(["check", "--data", "--quiet"]);
            assert_eq!((check.code, check.out.as_str()), (0, ""), "round {round}: {}", check.err);
            let build = host.run(["build", "work@latest", "out", "--delete", "--yes", "-q"]);
            assert_eq!(build.code, 0, "round {round}: {}", build.err);
            assert_equal(&host.path("guest"), &host.path("out"));
            let left = files(&host.repository().join("tmp"));
            assert!(left.len() <= 2, "round {round}: {left:?}");
            if ended {
                break;
            }
        }
        let ran = host.run(["save", "large", "-m", "at last", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let last: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(last["bytes"], whole["bytes"]);
        for key in ["new_chunks", "new_bytes", "stored_bytes"] {
            assert!(last[key].as_u64().unwrap() < whole[key].as_u64().unwrap(), "{key}: {last} is not less than {whole}");
        }
        host.assert_whole();
        let left: Vec<_> = files(&host.repository().join("tmp")).into_iter().filter(|path| !path.ends_with("swap.lock")).collect();
        assert!(left.is_empty(), "{left:?}");
        if !ended {
            host.assert_builds("large@latest", &large);
        }
    }
    println!("{killed} saves were killed while they ran");
    assert!(killed > 0, "every save was done before it was killed");
}

#[test]
fn killed_builds_are_finished_by_the_next_one() {
    let host = Host::new();
    let mut rng = Rng::new(seed());
    for n in 0..400 {
        write(&host.path(&format!("tree/{}/{n}", n % 9)), &mixed(n, 1 + (n as usize * 7919) % 200_000));
    }
    host.ok(["area", "add", "tree", "--tree", "tree"]);
    host.ok(["save", "tree", "-m", "to build"]);
    let started = Instant::now();
    host.ok(["build", "tree@latest", "whole"]);
    let span = started.elapsed().as_millis() as usize;
    for round in 0..15 {
        let child = start(&host, &["build", "tree@latest", "out", "--delete", "--yes"]);
        kill_after(child, Duration::from_millis(rng.below(span.max(2)) as u64));
        // What is there has its right bytes or is not there under its name.
        for n in 0..400 {
            let name = format!("{}/{n}", n % 9);
            if let Ok(meta) = fs::symlink_metadata(host.path("out").join(&name)) {
                assert!(meta.len() <= fs::metadata(host.path("tree").join(&name)).unwrap().len(), "round {round}: {name}");
            }
        }
        if round % 3 == 2 {
            host.ok(["build", "tree@latest", "out", "--delete", "--yes"]);
            assert_equal(&host.path("tree"), &host.path("out"));
            fs::remove_dir_all(host.path("out")).unwrap();
        }
    }
    host.assert_whole();
}
