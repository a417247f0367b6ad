//! A loss of power at every place of every command, on a local disk.

use crate::ledger::Ledger;
use crate::replay::{assert_sound, local};
use crate::scenarios::{ALL, Base, Scenario};
use crate::sound::learn;
use crate::world::ROOT;
use std::collections::HashMap;
use std::sync::Arc;
use vml_chunk::{ChunkId, LocalBackend};
use vml_core::{Backend, EntryId};
use vml_testkit::crash::{Disk, Handle, Op, Tally};

/// A command, as it was run once to its end.
pub struct Recorded {
    pub name: &'static str,
    pub run: fn(&Arc<dyn Backend>, &Ledger) -> vml_core::Result<()>,
    pub base: Base,
    pub log: Vec<Op>,
    pub ledger: Ledger,
    pub known: HashMap<EntryId, ChunkId>,
}

impl Recorded {
    pub fn of(scenario: &Scenario, named: bool) -> Self {
        let base = scenario.base();
        let disk = Disk::holding(&base.image);
        let mut backend = LocalBackend::open_on(Handle::new(&disk), ROOT).unwrap();
        if named {
            backend = backend.with_named_staging();
        }
        let files: Arc<dyn Backend> = Arc::new(backend);
        let position = disk.clone();
        let ledger = Ledger::after(&base.facts, move || position.position());
        (scenario.run)(&files, &ledger).unwrap_or_else(|error| panic!("{}: {error:?}", scenario.name));
        let log = disk.log();
        let known = learn(&base.digests, &files, scenario.name);
        Self { name: scenario.name, run: scenario.run, base, log, ledger, known }
    }
}

#[test]
fn a_loss_of_power_at_any_place_of_any_command_loses_nothing_that_was_told() {
    let tally = Tally::default();
    for named in [false, true] {
        for scenario in &ALL {
            let recorded = Recorded::of(scenario, named);
            let before = tally.distinct();
            let jobs = local(recorded.name, &recorded.base.image, &recorded.log, 0, &recorded.ledger, &tally);
            let started = std::time::Instant::now();
            assert_sound(&jobs, &recorded.known);
            let (operations, states) = (recorded.log.len(), tally.distinct() - before);
            println!("{}: {operations} operations, {states} new states, {:.1?}", recorded.name, started.elapsed());
        }
    }
    println!("commands: {tally}");
    assert!(tally.distinct() > 200);
}
