//! SIGKILL at any moment: what was saved is whole, and what a killed save had stored serves the next one.

use crate::support::{Host, assert_equal, files, write};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};
use vml_testkit::noise::{Rng, mixed};

/// Processes of the loop.
const AT_ONCE: usize = 4;

/// How long the loop runs: a minute, or as many as `VML_KILL_SECONDS` says.
fn span() -> Duration {
    Duration::from_secs(std::env::var("VML_KILL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60))
}

/// What one of the processes of the loop does; all of it may be killed at any moment.
fn draw(rng: &mut Rng, number: u64) -> Vec<String> {
    let area = ["one", "two", "three"][rng.below(3)];
    let text = match rng.below(8) {
        0..4 => format!("save {area} -m killed"),
        4 => format!("build first@latest out{number} --delete --yes -q"),
        5 => format!("forget --keep-last 2 --area {area} --yes"),
        _ => "gc".to_owned(),
    };
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn processes_of_all_kinds_killed_beside_each_other_lose_nothing() {
    let host = Host::new();
    let mut rng = Rng::new(seed());
    for (n, area) in (0..).zip(["first", "one", "two", "three"]) {
        for file in 0..6 {
            // Half of it is in all of them.
            write(&host.path(&format!("{area}/{file}")), &mixed(if file % 2 == 0 { file } else { file + 10 * n }, 400_000));
        }
        host.ok(["area", "add", area, "--tree", area]);
        host.ok(["save", area, "-m", "before"]);
    }
    let deadline = Instant::now() + span();
    let (mut killed, mut ended, mut number, mut round) = (0, 0, 0, 0);
    while Instant::now() < deadline {
        let mut running: Vec<(Child, Instant)> = Vec::new();
        // A dozen processes, four at a time; two of three are killed.
        for _ in 0..12 {
            while running.len() >= AT_ONCE {
                running.retain_mut(|(child, at)| {
                    let is_over = child.try_wait().unwrap().is_some();
                    if !is_over && Instant::now() >= *at {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        killed += 1;
                    }
                    ended += u64::from(is_over);
                    !is_over && Instant::now() < *at
                });
                std::thread::sleep(Duration::from_millis(2));
            }
            let area = ["one", "two", "three"][rng.below(3)];
            write(&host.path(&format!("{area}/changes")), &mixed(number, 50_000));
            let args = draw(&mut rng, number % 4);
            let life = if rng.below(3) == 0 { Duration::from_secs(60) } else { Duration::from_millis(rng.below(300) as u64) };
            let child = host.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            running.push((child, Instant::now() + life));
            number += 1;
        }
        for (mut child, _) in running {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let check = host.run(["check", "--data", "--quiet"]);
        assert_eq!((check.code, check.out.as_str()), (0, ""), "round {round}: {}", check.err);
        let out = host.path("whole");
        assert_eq!(host.run(["build", "first@latest", "whole", "--delete", "--yes", "-q"]).code, 0, "round {round}");
        assert_equal(&host.path("first"), &out);
        round += 1;
    }
    for area in ["one", "two", "three"] {
        let ran = host.run(["save", area, "-m", "at last"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        // A collection that was killed leaves packs on its list, which are indexed again after a merge.
        host.assert_still_builds(&format!("{area}@latest"), &host.path(area));
    }
    assert_eq!(host.run(["gc"]).code, 0);
    host.assert_whole();
    println!("{number} processes in {round} rounds: {killed} were killed in time, {ended} came to their ends");
    assert!(killed > 3 && ended > 3, "{killed} {ended}");
}

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
    assert_equal(&host.path("tree"), &host.path("whole"));
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
