//! Saves, forgetting and collections side by side, one operation of one of them at a time, in an order that a seed decides.

use crate::collect::{REAL, Trees, collect, opened};
use crate::support::{assert_equal, assert_whole, build_new, init, memory, open, save, try_save};
use std::sync::{Arc, Mutex};
use vml_core::monitor::NoMonitor;
use vml_core::{Backend, EntryId, ErrorKind, Repository};
use vml_testkit::crash::{self, Turns};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::Rng;

/// What an actor does, with a handle of its own.
type Act<'a> = Box<dyn FnOnce(Repository) + Send + 'a>;

/// Runs all of them to their ends; `stops` says at which operation one of them dies.
fn side_by_side(files: &Arc<dyn Backend>, rng: Rng, stops: &[Option<usize>], acts: Vec<Act<'_>>) {
    let turns = Turns::new(acts.len(), rng);
    let runs = acts.into_iter().zip(stops).enumerate().map(|(actor, (act, stop))| -> Box<dyn FnOnce() + Send + '_> {
        let own = Arc::clone(&turns);
        let faulty = FaultyBackend::observed(Arc::clone(files), move |_| own.wait(actor));
        if let Some(at) = stop {
            faulty.fail_at(*at, ErrorKind::Io, Repeat::Forever, Effect::Done);
        }
        Box::new(move || {
            // A dead one cannot even open it.
            if let Ok(repository) = opened(Arc::new(faulty)) {
                act(repository);
            }
        })
    });
    crash::side_by_side(&turns, runs.collect());
}

fn seeds() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    number("VML_TEST_SEED").map_or_else(|| (0, number("VML_TEST_ROUNDS").unwrap_or(150)), |seed| (seed, seed + 1))
}

#[test]
fn whatever_the_order_of_operations_every_entry_stays_whole() {
    let trees = Trees::new();
    let (first, end) = seeds();
    let (mut saved_count, mut deleted_count) = (0, 0);
    for seed in first..end {
        let mut rng = Rng::new(seed);
        let files = memory();
        let repository = init(&files);
        let ids: Vec<EntryId> = (0..3).map(|i| save(&repository, &format!("area{i}"), &trees.paths[i]).id).collect();
        // What is forgotten before leaves garbage on which the saves are going to rely.
        let before = rng.below(3);
        repository.forget(&ids[..before], false, &NoMonitor).unwrap();
        drop(repository);
        let saved = Mutex::new(Vec::new());
        let deleted = Mutex::new(0);
        let save_some = |area: &'static str, tree: usize| -> Act<'_> {
            let (trees, saved) = (&trees, &saved);
            Box::new(move |repository| match try_save(&repository, area, &trees.paths[tree], &NoMonitor) {
                Ok(entry) => saved.lock().unwrap().push((entry.id, tree)),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Locked | ErrorKind::Interrupted), "seed {seed}: {error:?}");
                }
            })
        };
        let collect_some = || -> Act<'_> {
            let deleted = &deleted;
            Box::new(move |repository| match repository.collect(REAL, &NoMonitor) {
                Ok(collected) => *deleted.lock().unwrap() += collected.swept.deleted_packs_count,
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Locked), "seed {seed}: {error:?}"),
            })
        };
        let forget = ids[2];
        let forgets: Act<'_> = Box::new(move |repository| match repository.forget(&[forget], false, &NoMonitor) {
            Ok(()) => {}
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Locked), "seed {seed}: {error:?}"),
        });
        let mut acts = vec![save_some("area0", 0), collect_some()];
        match rng.below(4) {
            0 => acts.push(save_some("area2", 2)),
            1 => acts.push(collect_some()),
            2 => acts.push(forgets),
            _ => acts.extend([save_some("area1", 1), collect_some(), forgets]),
        }
        let stops: Vec<Option<usize>> = acts.iter().map(|_| (rng.below(5) == 0).then(|| rng.below(90))).collect();
        side_by_side(&files, Rng::new(seed ^ 0x5eed), &stops, acts);
        let saved = saved.into_inner().unwrap();
        saved_count += saved.len();
        deleted_count += deleted.into_inner().unwrap();
        // Those of before that are still there, and those that came; then all again when two more collections have ended what was left.
        for round in 0..3 {
            println!("seed {seed}, round {round}");
            let repository = open(&files);
            for id in repository.entry_ids().unwrap() {
                let tree =
                    ids.iter().position(|known| *known == id).or_else(|| saved.iter().find(|(new, _)| *new == id).map(|(_, tree)| *tree));
                let built = build_new(&repository, &id);
                if let Some(tree) = tree {
                    assert_equal(&trees.paths[tree], built.path());
                }
            }
            for (id, _) in &saved {
                assert!(repository.entry(id).is_ok(), "seed {seed}, round {round}: a save that said it was done is gone");
            }
            assert_whole(&files);
            collect(&files);
        }
    }
    println!("{} orders, {saved_count} saves, {deleted_count} packs deleted beside others", end - first);
    assert!(end - first < 2 || (saved_count > 0 && deleted_count > 0));
}
