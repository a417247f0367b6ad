//! What every [`Backend`] must do, as one suite that is run over each of them.

use std::sync::{Arc, Barrier};
use vml_chunk::{Backend, ErrorKind, PutOutcome};

/// Threads of a race; more than the cores of any small machine.
const RACERS: usize = 8;

/// Runs every check, each on a fresh, empty backend from `make`.
pub fn run(make: &dyn Fn() -> Arc<dyn Backend>) {
    what_is_published_can_be_read(&*make());
    a_missing_file_is_not_found(&*make());
    a_read_past_the_end_is_corrupt(&*make());
    a_listing_has_the_files_directly_inside(&*make());
    a_put_never_replaces(&*make());
    nothing_staged_is_visible_before_it_is_published(&*make());
    of_many_puts_at_once_exactly_one_wins(&make());
    a_swap_compares_before_it_sets(&*make());
    swaps_at_once_lose_no_update(&make());
    of_many_creating_swaps_exactly_one_wins(&make());
    deleting_twice_is_no_error(&*make());
    a_map_has_the_bytes_and_outlives_the_file(&*make());
    a_read_is_limited(&*make());
    a_sweep_spares_what_is_published_and_what_is_being_written(&*make());
    sweeps_beside_writers_disturb_nobody(&make());
    hostile_keys_are_refused(&*make());
    every_allowed_character_works(&*make());
}

fn names(backend: &dyn Backend, dir: &str) -> Vec<String> {
    let mut names: Vec<String> = backend.list(dir).unwrap().into_iter().map(|listed| listed.name).collect();
    names.sort_unstable();
    names
}

fn what_is_published_can_be_read(backend: &dyn Backend) {
    let mut staged = backend.stage().unwrap();
    staged.append(b"hello ").unwrap();
    staged.append(b"").unwrap();
    staged.append(b"world").unwrap();
    assert_eq!(staged.publish("data/greeting").unwrap(), PutOutcome::Stored);
    drop(staged);
    assert_eq!(backend.len("data/greeting").unwrap(), 11);
    let mut middle = [0; 5];
    backend.read_at("data/greeting", 3, &mut middle).unwrap();
    assert_eq!(&middle, b"lo wo");
    backend.read_at("data/greeting", 11, &mut []).unwrap();
    assert_eq!(backend.put("data/empty", b"").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.read("data/empty", 0).unwrap(), b"");
    assert_eq!(backend.put("a/b/c/d", b"deep").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.read("a/b/c/d", 100).unwrap(), b"deep");
}

fn a_missing_file_is_not_found(backend: &dyn Backend) {
    backend.put("data/there", b"x").unwrap();
    for key in ["data/missing", "nowhere/missing", "missing"] {
        assert_eq!(backend.len(key).unwrap_err().kind(), ErrorKind::NotFound, "len {key}");
        assert_eq!(backend.read_at(key, 0, &mut [0]).unwrap_err().kind(), ErrorKind::NotFound, "read_at {key}");
        assert_eq!(backend.read(key, 9).unwrap_err().kind(), ErrorKind::NotFound, "read {key}");
        assert_eq!(backend.map(key).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound, "map {key}");
    }
    // A directory is not a file.
    assert_eq!(backend.len("data").unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_read_past_the_end_is_corrupt(backend: &dyn Backend) {
    backend.put("data/four", b"four").unwrap();
    for (offset, len) in [(0, 5), (4, 1), (3, 2), (5, 1), (1 << 40, 1), (u64::MAX - 1, 1)] {
        let mut buf = vec![0; len];
        let error = backend.read_at("data/four", offset, &mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len} bytes at {offset}");
        assert!(error.to_string().contains("four"), "the error names the file: {error}");
    }
}

fn a_listing_has_the_files_directly_inside(backend: &dyn Backend) {
    assert_eq!(backend.list("nowhere").unwrap(), []);
    assert_eq!(backend.list("no/where").unwrap(), []);
    for (key, bytes) in [("data/one", "1"), ("data/two", "22"), ("data/sub/three", "333"), ("database/four", "4444"), ("data-x/five", "5")]
    {
        backend.put(key, bytes.as_bytes()).unwrap();
    }
    assert_eq!(names(backend, "data"), ["one", "two"]);
    assert_eq!(names(backend, "data/sub"), ["three"]);
    let two = backend.list("data").unwrap().into_iter().find(|listed| listed.name == "two").unwrap();
    assert_eq!(two.len, 2);
}

fn a_put_never_replaces(backend: &dyn Backend) {
    assert_eq!(backend.put("data/x", b"first").unwrap(), PutOutcome::Stored);
    let mut second = backend.stage().unwrap();
    second.append(b"second").unwrap();
    assert_eq!(second.publish("data/x").unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(backend.read("data/x", 100).unwrap(), b"first");
    // The file is still in hand: it can have another name, or this one after the other is gone.
    backend.delete("data/x").unwrap();
    assert_eq!(second.publish("data/x").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.read("data/x", 100).unwrap(), b"second");
}

fn nothing_staged_is_visible_before_it_is_published(backend: &dyn Backend) {
    backend.put("data/x", b"x").unwrap();
    let mut staged = backend.stage().unwrap();
    staged.append(&[7; 100_000]).unwrap();
    assert_eq!(names(backend, "data"), ["x"]);
    drop(staged);
    drop(backend.stage().unwrap());
    assert_eq!(names(backend, "data"), ["x"]);
    assert_eq!(names(backend, "tmp"), [""; 0], "a dropped file leaves nothing");
    assert_eq!(backend.sweep().unwrap(), 0, "a dropped file leaves nothing to sweep");
}

fn of_many_puts_at_once_exactly_one_wins(backend: &Arc<dyn Backend>) {
    for round in 0..10 {
        // A new directory each time: making it is part of the race.
        let key = format!("race-{round}/x");
        let barrier = Barrier::new(RACERS);
        let winners: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (key, barrier) = (&key, &barrier);
                    scope.spawn(move || {
                        let mut staged = backend.stage().unwrap();
                        staged.append(format!("racer {racer}").as_bytes()).unwrap();
                        barrier.wait();
                        (staged.publish(key).unwrap() == PutOutcome::Stored).then_some(racer)
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1, "round {round}: winners {winners:?}");
        assert_eq!(backend.read(&key, 100).unwrap(), format!("racer {}", winners[0]).as_bytes(), "round {round}");
    }
}

fn a_swap_compares_before_it_sets(backend: &dyn Backend) {
    let key = "refs/head";
    assert!(!backend.swap(key, Some(b"x"), Some(b"y")).unwrap(), "there is nothing to replace");
    assert!(!backend.swap(key, Some(b""), Some(b"y")).unwrap(), "an empty file is not a missing one");
    assert!(backend.swap(key, None, None).unwrap(), "nothing is nothing");
    assert!(backend.swap(key, None, Some(b"one")).unwrap());
    assert!(!backend.swap(key, None, Some(b"two")).unwrap());
    assert!(!backend.swap(key, Some(b"on"), Some(b"two")).unwrap());
    assert_eq!(backend.read(key, 100).unwrap(), b"one");
    assert!(backend.swap(key, Some(b"one"), Some(b"a longer two")).unwrap());
    assert!(backend.swap(key, Some(b"a longer two"), Some(b"")).unwrap());
    assert_eq!(backend.len(key).unwrap(), 0);
    assert!(!backend.swap(key, None, Some(b"x")).unwrap());
    assert!(backend.swap(key, Some(b""), None).unwrap());
    assert_eq!(backend.len(key).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names(backend, "refs"), [""; 0]);
}

fn swaps_at_once_lose_no_update(backend: &Arc<dyn Backend>) {
    const ROUNDS: usize = 10;
    let key = "refs/counter";
    backend.swap(key, None, Some(b"0")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..RACERS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    loop {
                        let old = backend.read(key, 100).unwrap();
                        let value: usize = std::str::from_utf8(&old).unwrap().parse().expect("a reader never sees half a value");
                        if backend.swap(key, Some(&old), Some((value + 1).to_string().as_bytes())).unwrap() {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(backend.read(key, 100).unwrap(), (RACERS * ROUNDS).to_string().as_bytes());
}

fn of_many_creating_swaps_exactly_one_wins(backend: &Arc<dyn Backend>) {
    let barrier = Barrier::new(RACERS);
    let winners: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    usize::from(backend.swap("refs/new", None, Some(&[u8::try_from(racer).unwrap()])).unwrap())
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
}

fn deleting_twice_is_no_error(backend: &dyn Backend) {
    backend.put("data/x", b"x").unwrap();
    backend.delete("data/x").unwrap();
    assert_eq!(backend.len("data/x").unwrap_err().kind(), ErrorKind::NotFound);
    backend.delete("data/x").unwrap();
    backend.delete("nowhere/x").unwrap();
    assert_eq!(backend.put("data/x", b"again").unwrap(), PutOutcome::Stored);
}

fn a_map_has_the_bytes_and_outlives_the_file(backend: &dyn Backend) {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    backend.put("index/x", &bytes).unwrap();
    let mapped = backend.map("index/x").unwrap();
    assert!(mapped.as_ref() == bytes);
    backend.delete("index/x").unwrap();
    assert!(mapped.as_ref() == bytes, "deleting a file leaves its mappings whole");
    backend.put("index/empty", b"").unwrap();
    assert_eq!(backend.map("index/empty").unwrap().as_ref(), b"");
}

fn a_read_is_limited(backend: &dyn Backend) {
    backend.put("data/five", b"12345").unwrap();
    assert_eq!(backend.read("data/five", 5).unwrap(), b"12345");
    assert_eq!(backend.read("data/five", 4).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn a_sweep_spares_what_is_published_and_what_is_being_written(backend: &dyn Backend) {
    backend.put("data/x", b"x").unwrap();
    backend.swap("refs/x", None, Some(b"x")).unwrap();
    let mut live = backend.stage().unwrap();
    live.append(b"half ").unwrap();
    assert_eq!(backend.sweep().unwrap(), 0);
    live.append(b"and half").unwrap();
    assert_eq!(live.publish("data/y").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.sweep().unwrap(), 0);
    assert_eq!(names(backend, "data"), ["x", "y"]);
    assert_eq!(backend.read("data/y", 100).unwrap(), b"half and half");
    assert_eq!(backend.read("refs/x", 100).unwrap(), b"x");
}

fn sweeps_beside_writers_disturb_nobody(backend: &Arc<dyn Backend>) {
    const FILES: usize = 40;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    for file in 0..FILES {
                        backend.put(&format!("data/{writer}-{file}"), b"bytes").unwrap();
                        let key = format!("refs/{writer}");
                        let old = file.checked_sub(1).map(|old| old.to_string());
                        let new = file.to_string();
                        assert!(backend.swap(&key, old.as_deref().map(str::as_bytes), Some(new.as_bytes())).unwrap());
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            // It may take a file that was made this instant; its writer then makes another.
            backend.sweep().unwrap();
        }
    });
    assert_eq!(backend.list("data").unwrap().len(), 4 * FILES);
}

fn hostile_keys_are_refused(backend: &dyn Backend) {
    let long = "x".repeat(201);
    let long_inside = format!("data/{long}");
    let keys = [
        "",
        "/",
        "//",
        "/x",
        "x/",
        "x//y",
        ".",
        "..",
        "../x",
        "x/..",
        "x/../y",
        "./x",
        ".hidden",
        "x/.hidden",
        "data/\0",
        "data/a\0b",
        "a b",
        "data/ä",
        "data\\x",
        "data/x\n",
        "data/*",
        "~\u{7f}",
        "a:b",
        "a/b/c/d/e",
        &long,
        &long_inside,
    ];
    for key in keys {
        let refused = |what: &str, kind: Option<ErrorKind>| assert_eq!(kind, Some(ErrorKind::InvalidInput), "{what} {key:?}");
        refused("read_at", backend.read_at(key, 0, &mut [0]).err().map(|error| error.kind()));
        refused("len", backend.len(key).err().map(|error| error.kind()));
        refused("list", backend.list(key).err().map(|error| error.kind()));
        refused("put", backend.put(key, b"x").err().map(|error| error.kind()));
        refused("swap", backend.swap(key, None, Some(b"x")).err().map(|error| error.kind()));
        refused("delete", backend.delete(key).err().map(|error| error.kind()));
        refused("map", backend.map(key).err().map(|error| error.kind()));
    }
    assert_eq!(backend.sweep().unwrap(), 0, "a refused file leaves nothing");
}

fn every_allowed_character_works(backend: &dyn Backend) {
    let longest = "y".repeat(200);
    for name in ["ABCXYZabcxyz0189-_.@+~", "a", "a.", "-", "~", longest.as_str()] {
        let key = format!("data/{name}");
        assert_eq!(backend.put(&key, name.as_bytes()).unwrap(), PutOutcome::Stored);
        assert_eq!(backend.read(&key, 1000).unwrap(), name.as_bytes());
        assert!(names(backend, "data").iter().any(|listed| listed == name), "{name}");
    }
    // Names differ by case.
    assert_eq!(backend.put("data/A", b"other").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.read("data/a", 10).unwrap(), b"a");
}
