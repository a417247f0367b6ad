//! Compaction: every entry is what it was, in less room, whatever goes on beside it or cuts it off.

use crate::collect::{Trees, collect, opened};
use crate::remote::send;
use crate::support::{assert_equal, assert_whole, build_new, copy_of, init, let_files_age, memory, open, save, subdir, temp, try_save};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use vml_core::monitor::{Monitor, NoMonitor, Problem, Task};
use vml_core::repository::{CompactOptions, Compacted, RepairOptions};
use vml_core::share::{ReceiveOptions, ShareRequest, receive, share};
use vml_core::{Backend, EntryId, ErrorKind};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::{incompressible, text};

const LOW: CompactOptions = CompactOptions { dry_run: false, level: 3, max: None, portion: 1 << 30 };

fn compact(files: &Arc<dyn Backend>) -> Compacted {
    open(files).compact(LOW, &mut |_| {}, &NoMonitor).unwrap()
}

fn data_len(files: &Arc<dyn Backend>) -> u64 {
    files.list("data").unwrap().iter().map(|listed| listed.len).sum()
}

/// Three states of a tree, in which files of several frames are much like each other, and noise.
struct Sample {
    files: Arc<dyn Backend>,
    trees: Vec<PathBuf>,
    ids: Vec<EntryId>,
    _dir: TempDir,
}

fn sample() -> Sample {
    let dir = temp();
    let trees: Vec<PathBuf> = (0..3_u8)
        .map(|state| {
            let tree = subdir(&dir, &state.to_string());
            for number in 0..6 {
                let mut bytes = text(number, 60_000);
                // Every chunk is another one in each state.
                (0..bytes.len()).step_by(1500).for_each(|at| bytes[at] = b'0' + state);
                std::fs::create_dir_all(tree.join(format!("d{}", number % 2))).unwrap();
                std::fs::write(tree.join(format!("d{}/text {number}", number % 2)), bytes).unwrap();
            }
            std::fs::write(tree.join("noise"), incompressible(1, 100_000)).unwrap();
            std::fs::write(tree.join("own noise"), incompressible(u64::from(state) + 5, 70_000)).unwrap();
            tree
        })
        .collect();
    let_files_age();
    let files = memory();
    let repository = init(&files);
    let ids = trees.iter().map(|tree| save(&repository, "work", tree).id).collect();
    Sample { files, trees, ids, _dir: dir }
}

fn assert_all(files: &Arc<dyn Backend>, sample: &Sample) {
    let repository = open(files);
    for (id, tree) in sample.ids.iter().zip(&sample.trees) {
        assert_equal(tree, build_new(&repository, id).path());
    }
    assert_whole(files);
}

#[test]
fn every_entry_is_what_it_was_in_less_room_and_a_dry_run_says_so_before() {
    let sample = sample();
    let before = data_len(&sample.files);
    let dry = open(&sample.files).compact(CompactOptions { dry_run: true, ..LOW }, &mut |_| {}, &NoMonitor).unwrap();
    assert_eq!(data_len(&sample.files), before, "a dry run changes nothing");
    assert!(sample.files.list("gc").unwrap().is_empty());
    let mut told = None;
    let done = open(&sample.files).compact(LOW, &mut |plan| told = Some(plan.clone()), &NoMonitor).unwrap();
    assert_eq!(told.map(|plan| (plan.plan, plan.expected_bytes)), Some((dry.collected.plan.clone(), dry.expected_bytes)));
    assert_eq!((done.collected.entries_count, done.collected.swept.deleted_packs_count), (3, 3));
    assert!(dry.expected_gain_bytes() > 0 && dry.expected_bytes > 0);
    // The texts are there thrice, nearly, and the noise is what it is.
    let noise = 100_000 + 3 * 70_000;
    assert!((data_len(&sample.files) - noise) * 2 < before - noise, "{before} and {}", data_len(&sample.files));
    assert_all(&sample.files, &sample);
    let again = compact(&sample.files);
    assert_eq!((again.collected.plan.packs().count(), again.collected.swept.copied_chunks_count), (0, 0));
    assert_eq!(collect(&sample.files).swept.deleted_packs_count, 0, "nothing is left for a collection");
    let higher = CompactOptions { level: 4, ..LOW };
    assert_eq!(open(&sample.files).compact(higher, &mut |_| {}, &NoMonitor).unwrap().collected.swept.deleted_packs_count, 1);
    assert_all(&sample.files, &sample);
    for level in [0, 20] {
        let refused = open(&sample.files).compact(CompactOptions { level, ..LOW }, &mut |_| {}, &NoMonitor);
        assert_eq!(refused.map(|_| ()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn the_latest_entry_stands_in_the_order_in_which_it_is_restored() {
    let sample = sample();
    compact(&sample.files);
    let repository = open(&sample.files);
    let store = repository.store(&NoMonitor).unwrap();
    let view = store.view();
    let mut places = Vec::new();
    // What the walk of a restore meets, in its order.
    for name in ["noise", "own noise", "d0/text 0", "d0/text 2", "d0/text 4", "d1/text 1"] {
        let bytes = std::fs::read(sample.trees[2].join(name)).unwrap();
        let first = store.ids().id(&bytes[..vml_chunk_cut(&bytes)]);
        let place = view.locate(&first).next().unwrap();
        places.push((place.frame_offset, place.chunk_offset));
    }
    assert!(places.is_sorted(), "{places:?}");
}

/// Where the default chunker cuts first.
fn vml_chunk_cut(bytes: &[u8]) -> usize {
    use vml_core::repository::ChunkerParams;
    ChunkerParams::default().build().unwrap().cut(bytes)
}

#[test]
fn killed_between_any_two_steps_it_loses_nothing_and_the_next_one_ends_it() {
    let trees = Trees::new();
    let base = memory();
    let repository = init(&base);
    let ids: Vec<EntryId> = trees.paths.iter().enumerate().map(|(i, tree)| save(&repository, &format!("area{i}"), tree).id).collect();
    repository.forget(&ids[..1], false, &NoMonitor).unwrap();
    let kept = [(ids[1], trees.paths[1].as_path()), (ids[2], trees.paths[2].as_path())];
    let assert_kept = |files: &Arc<dyn Backend>, what: &str| {
        let repository = open(files);
        for (id, tree) in kept {
            assert!(repository.entry(&id).is_ok(), "{what}: an entry is gone");
            assert_equal(tree, build_new(&repository, &id).path());
        }
        assert_whole(files);
    };
    for effect in [Effect::Nothing, Effect::Done] {
        let mut at = 0;
        loop {
            let what = format!("stopped at operation {at}, {effect:?}");
            let files = copy_of(base.as_ref());
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::Io, Repeat::Forever, effect);
            let result = opened(Arc::new(faulty.clone())).and_then(|repository| repository.compact(LOW, &mut |_| {}, &NoMonitor));
            if faulty.fired() == 0 {
                assert!(result.is_ok() && at > 40, "{what}: {result:?}");
                break;
            }
            assert_kept(&files, &what);
            match at % 3 {
                0 => _ = compact(&files),
                1 => _ = collect(&files),
                _ => {
                    save(&open(&files), "area0", &trees.paths[0]);
                    compact(&files);
                }
            }
            assert_kept(&files, &what);
            assert_eq!(collect(&files).unfinished_packs_count, 0, "{what}");
            at += 1;
        }
    }
}

/// Does something once, when the first chunk was copied.
struct Beside<F: Fn() + Sync> {
    done: AtomicBool,
    what: F,
}

impl<F: Fn() + Sync> Monitor for Beside<F> {
    fn advance(&self, task: Task, _files: u64, _bytes: u64) {
        if task == Task::Compact && !self.done.swap(true, Ordering::Relaxed) {
            (self.what)();
        }
    }

    fn problem(&self, problem: Problem) {
        panic!("{problem}");
    }
}

#[test]
fn saves_and_restores_beside_it_do_not_wait_and_a_collection_takes_over() {
    let sample = sample();
    let more = temp();
    std::fs::write(more.path().join("text"), text(0, 60_000)).unwrap();
    std::fs::copy(sample.trees[0].join("own noise"), more.path().join("noise")).unwrap();
    let_files_age();
    let beside = || {
        // In part what is in packs that go.
        try_save(&open(&sample.files), "beside", more.path(), &NoMonitor).unwrap();
        assert_all(&sample.files, &sample);
    };
    let monitor = Beside { done: AtomicBool::new(false), what: beside };
    open(&sample.files).compact(LOW, &mut |_| {}, &monitor).unwrap();
    assert!(monitor.done.into_inner());
    let check = |files: &Arc<dyn Backend>| {
        assert_all(files, &sample);
        let repository = open(files);
        let saved = repository.refs().get(vml_core::refs::RefKind::Area, "beside").unwrap().unwrap();
        assert_equal(more.path(), build_new(&repository, &saved).path());
    };
    check(&sample.files);
    // Another one that is taken over by a collection at its first chunk.
    let taking_over = || _ = collect(&sample.files);
    let monitor = Beside { done: AtomicBool::new(false), what: taking_over };
    let higher = CompactOptions { level: 5, ..LOW };
    let ended = open(&sample.files).compact(higher, &mut |_| {}, &monitor);
    assert_eq!(ended.map(|_| ()).unwrap_err().kind(), ErrorKind::Locked);
    check(&sample.files);
    compact(&sample.files);
    collect(&sample.files);
    check(&sample.files);
}

#[test]
fn what_was_compacted_can_be_pushed_and_shared() {
    let sample = sample();
    compact(&sample.files);
    let from = open(&sample.files);
    let latest = *sample.ids.last().unwrap();
    let there = memory();
    send(&from, &init(&there), &[latest]).unwrap();
    assert_all(&there, &sample);
    for solid in [false, true] {
        let request = ShareRequest {
            entries: &[latest],
            since: &[],
            full: true,
            level: 3,
            solid,
            threads: 2,
            author: "eva",
            time_ms: 1,
            signer: None,
        };
        let mut bytes = Vec::new();
        share(&from, &request, &mut bytes, &NoMonitor).unwrap();
        let received = memory();
        let options = ReceiveOptions { trusted: &|_| None, require_signed: false, time_ms: 5 };
        receive(&init(&received), &mut &bytes[..], &options, &NoMonitor).unwrap();
        let built = build_new(&open(&received), &latest);
        assert_equal(&sample.trees[2], built.path());
    }
}

#[test]
fn a_repair_of_a_compacted_pack_loses_what_is_damaged_and_a_save_heals_it() {
    let sample = sample();
    compact(&sample.files);
    let key = format!("data/{}", sample.files.list("data").unwrap()[0].name);
    let original = sample.files.read(&key, u64::MAX).unwrap();
    for at in [20, 3000, original.len() / 2, original.len() - 40] {
        let files = copy_of(sample.files.as_ref());
        let mut bytes = original.clone();
        bytes[at] ^= 4;
        assert!(files.swap(&key, Some(&original), Some(&bytes)).unwrap());
        let repository = open(&files);
        let plan = repository.plan_repair(RepairOptions { data: true }, &NoMonitor).unwrap();
        assert_eq!(plan.packs.len(), 1, "byte {at}");
        repository.repair(&plan, &[], 9, &NoMonitor).unwrap();
        for tree in &sample.trees {
            save(&open(&files), "work", tree);
        }
        assert_all(&files, &sample);
        compact(&files);
        assert_all(&files, &sample);
    }
}

#[test]
fn a_portion_is_deleted_before_the_next_is_written() {
    let sample = sample();
    let packs: Vec<u64> = sample.files.list("data").unwrap().iter().map(|listed| listed.len).collect();
    let in_portions = |portion| {
        let files = copy_of(sample.files.as_ref());
        let watched = FaultyBackend::new(Arc::clone(&files));
        let repository = opened(Arc::new(watched.clone())).unwrap();
        let done = repository.compact(CompactOptions { portion, ..LOW }, &mut |_| {}, &NoMonitor).unwrap();
        assert_all(&files, &sample);
        assert_eq!(done.collected.plan.packs().count(), packs.len());
        assert_eq!(compact(&files).collected.plan.packs().count(), 0, "all of it is done");
        let of_data = |operation: &vml_testkit::faulty::Operation| match operation.name {
            "publish" | "delete" if operation.key.starts_with("data/") => Some(operation.name),
            _ => None,
        };
        let mut steps: Vec<&str> = watched.operations().iter().filter_map(of_data).collect();
        steps.dedup();
        (steps, done.collected.swept.deleted_bytes)
    };
    assert_eq!(in_portions(u64::MAX), (vec!["publish", "delete"], packs.iter().sum()));
    let (steps, deleted_bytes) = in_portions(*packs.iter().max().unwrap());
    assert!(steps.len() >= 4 && steps.len() % 2 == 0, "{steps:?}");
    assert!(deleted_bytes >= packs.iter().sum(), "a small pack of a portion may be joined with the next ones");
}

#[test]
fn a_limit_takes_some_packs_in_hand_and_the_next_run_the_others() {
    let sample = sample();
    let largest = sample.files.list("data").unwrap().iter().map(|listed| listed.len).max().unwrap();
    let some = CompactOptions { max: Some(largest), ..LOW };
    let mut runs = 0;
    while open(&sample.files).compact(some, &mut |_| {}, &NoMonitor).unwrap().collected.swept.deleted_packs_count > 0 {
        assert_all(&sample.files, &sample);
        runs += 1;
        assert!(runs < 5);
    }
    assert!(runs > 1);
}
