//! The same in an object store: what was acknowledged is there, what was on its way is there or is not.

use crate::ledger::Ledger;
use crate::replay::{LIMIT, assert_sound};
use crate::scenarios::ALL;
use crate::sound::{Job, Kind, learn};
use crate::world::ROOT;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vml_chunk::ChunkId;
use vml_core::Backend;
use vml_testkit::crash::{Image, Objects, Tally, objects};

/// The files of a repository by their keys.
pub fn keyed(image: &Image) -> Image {
    let key = |path: &String| path.strip_prefix(&format!("{ROOT}/")).filter(|key| !key.starts_with("tmp/")).map(str::to_owned);
    Image { files: image.files.iter().filter_map(|(path, content)| Some((key(path)?, content.clone()))).collect(), ..Image::default() }
}

/// The states that a crash may leave, but those that were tried before.
pub fn jobs(name: &str, base: &Image, store: &Objects, ledger: &Ledger, tally: &Tally) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut at = None;
    let mut expected = (Arc::default(), ChunkId::of(b""));
    objects::states(base, &store.events(), LIMIT, &mut |place, image| {
        if at.replace(place) != Some(place) {
            let now = Arc::new(ledger.expected_at(place));
            let key = ChunkId::of(format!("{now:?}").as_bytes());
            expected = (now, key);
            tally.prefixes.fetch_add(1, Ordering::Relaxed);
        }
        if tally.visit(image.digest(), expected.1) {
            let what = format!("{name}, a crash after {place} events");
            jobs.push(Job { image, kind: Kind::Objects, expected: Arc::clone(&expected.0), smooth: true, indexed: true, what });
        }
    });
    jobs
}

#[test]
fn a_crash_at_any_place_of_any_command_on_an_object_store_loses_nothing_that_was_told() {
    let tally = Tally::default();
    for scenario in &ALL {
        let base = scenario.base();
        let image = keyed(&base.image);
        let store = Objects::holding(&image);
        let files: Arc<dyn Backend> = Arc::new(store.clone());
        let position = store.clone();
        let ledger = Ledger::after(&base.facts, move || position.position());
        (scenario.run)(&files, &ledger).unwrap();
        let known = learn(&base.digests, &files, scenario.name);
        assert_sound(&jobs(scenario.name, &image, &store, &ledger, &tally), &known);
    }
    println!("commands on objects: {tally}");
    assert!(tally.distinct() > 100);
}
