//! Several processes side by side, one operation of one of them at a time; the power goes at every place. So what one of them had not synced was relied upon by
//! another, or was not.

use crate::ledger::Ledger;
use crate::objects::{self, keyed};
use crate::replay::{assert_sound, local, rounds, seed};
use crate::scenarios::{Base, digests, named};
use crate::sound::learn;
use crate::world::{ROOT, collect, forget, open, read, save_by, world};
use std::sync::Arc;
use std::time::Instant;
use vml_chunk::LocalBackend;
use vml_core::{Backend, EntryId, ErrorKind, Result};
use vml_testkit::crash::{Disk, Fault, Handle, Objects, Tally, Trouble, Turns, side_by_side};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise::Rng;

type Files = Arc<dyn Backend>;

/// What a process does.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Saves one of the trees in an area, by a clock that is so many years off.
    Save(&'static str, usize, i64),
    /// Reads all of the entry, if it is there.
    Read(EntryId),
    /// Forgets the entry.
    Forget(EntryId),
    Collect,
    Receive,
    Pull,
}

impl Act {
    pub fn draw(ids: &[EntryId], rng: &mut Rng) -> Self {
        match rng.below(11) {
            0..4 => {
                // Most hosts know the time.
                let years = [0, 0, 0, -90, 5][rng.below(5)];
                Self::Save(["a", "b", "work", "other"][rng.below(4)], rng.below(world().trees().len()), years)
            }
            10 if !ids.is_empty() => Self::Read(ids[rng.below(ids.len())]),
            4 | 5 if !ids.is_empty() => Self::Forget(ids[rng.below(ids.len())]),
            6 => Self::Receive,
            7 => Self::Pull,
            _ => Self::Collect,
        }
    }

    pub fn run(self, files: &Files, ledger: &Ledger) -> Result<()> {
        let repository = open(files)?;
        match self {
            Self::Save(area, tree, years) => save_by(years, &repository, ledger, area, world().trees()[tree], None).map(|_| ()),
            Self::Read(id) => read(&repository, ledger, &id),
            Self::Forget(id) => forget(&repository, ledger, id),
            Self::Collect => collect(&repository),
            Self::Receive => world().receive(&repository),
            Self::Pull => world().pull(&repository, false),
        }
    }
}

/// Whether a process may end so: it was killed, or it was told that another was faster, or that there is nothing to do it with.
pub fn may_end_so(result: &Result<()>) -> bool {
    use ErrorKind::{AlreadyExists, Interrupted, InvalidInput, Io, Locked};
    result.as_ref().err().is_none_or(|error| matches!(error.kind(), Io | Locked | Interrupted | AlreadyExists | InvalidInput))
}

/// The entries of a base, in an order that does not change.
pub fn ids(base: &Base) -> Vec<EntryId> {
    let mut ids: Vec<EntryId> = base.digests.keys().copied().collect();
    ids.sort_unstable();
    ids
}

/// What two to four processes do, one thing after the other; always a save and a collection among it.
fn draw(base: &Base, rng: &mut Rng) -> Vec<Vec<Act>> {
    let ids = ids(base);
    let mut processes: Vec<Vec<Act>> = (0..2 + rng.below(3)).map(|_| (0..rng.below(3)).map(|_| Act::draw(&ids, rng)).collect()).collect();
    processes[0].push(Act::Save("a", rng.below(world().trees().len()), 0));
    processes[1].push(Act::Collect);
    processes
}

fn run_all(acts: &[Act], files: &Files, ledger: &Ledger, what: &str) {
    for act in acts {
        let result = act.run(files, ledger);
        assert!(may_end_so(&result), "{what}, {act:?}: {result:?}");
    }
}

/// Bases with garbage, with and without a collection that was killed.
fn bases() -> Vec<Base> {
    ["collection", "collection after a killed one", "forget", "save of two areas"].iter().map(|name| named(name).base()).collect()
}

/// One order of what several processes do.
struct Order {
    what: String,
    processes: Vec<Vec<Act>>,
    rng: Rng,
    turns: Arc<Turns>,
}

impl Order {
    fn draw(number: u64, bases: &[Base]) -> (Self, &Base) {
        let mut rng = Rng::new(number);
        let base = &bases[rng.below(bases.len())];
        let processes = draw(base, &mut rng);
        let turns = Turns::new(processes.len(), Rng::new(number ^ 0x5eed));
        (Self { what: format!("order {number} of {processes:?}"), processes, rng, turns }, base)
    }

    /// Runs all; each opens its own access when it runs.
    fn run<O: FnOnce() -> Option<Files> + Send>(&mut self, ledger: &Ledger, mut access: impl FnMut(usize, &Arc<Turns>, &mut Rng) -> O) {
        let mut runs: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        for (actor, acts) in self.processes.iter().enumerate() {
            let (open, what) = (access(actor, &self.turns, &mut self.rng), &self.what);
            runs.push(Box::new(move || {
                // A dead one cannot even open it.
                if let Some(files) = open() {
                    run_all(acts, &files, ledger, what);
                }
            }));
        }
        side_by_side(&self.turns, runs);
    }
}

#[test]
fn whatever_the_order_of_several_processes_a_loss_of_power_loses_nothing_that_was_told() {
    let (tally, bases, started) = (Tally::default(), bases(), Instant::now());
    let mut orders = 0;
    while tally.distinct() < 25_000 * usize::try_from(rounds()).unwrap() {
        let (mut order, base) = Order::draw(orders + seed() * 1_000_000, &bases);
        orders += 1;
        let disk = Disk::holding(&base.image);
        let position = disk.clone();
        let ledger = Ledger::after(&base.facts, move || position.position());
        let mut smooth = true;
        order.run(&ledger, |actor, turns, rng| {
            let handle = Handle::taking_turns(&disk, turns, actor);
            if rng.below(4) == 0 {
                smooth = false;
                handle.fail(Fault { at: 1 + rng.below(200), trouble: Trouble::Eio, forever: true });
            }
            move || LocalBackend::open_on(handle, ROOT).ok().map(|backend| Arc::new(backend) as Files)
        });
        let files: Files = Arc::new(LocalBackend::open_on(Handle::new(&disk), ROOT).unwrap());
        let known = learn(&base.digests, &files, &order.what);
        let mut jobs = local(&order.what, &base.image, &disk.log(), 0, &ledger, &tally);
        jobs.iter_mut().for_each(|job| (job.smooth, job.indexed) = (smooth, smooth));
        assert_sound(&jobs, &known);
    }
    println!("side by side: {orders} orders, {tally}, {:.1?}", started.elapsed());
}

#[test]
fn whatever_the_order_of_several_processes_a_crash_of_an_object_store_loses_nothing_that_was_told() {
    let (tally, bases, started) = (Tally::default(), bases(), Instant::now());
    let mut orders = 0;
    while tally.distinct() < 15_000 * usize::try_from(rounds()).unwrap() {
        let (mut order, base) = Order::draw(orders + seed() * 1_000_000, &bases);
        orders += 1;
        let image = keyed(&base.image);
        let store = Objects::holding(&image);
        let position = store.clone();
        let ledger = Ledger::after(&base.facts, move || position.position());
        order.run(&ledger, |actor, turns, _| {
            let (turns, store) = (Arc::clone(turns), store.clone());
            move || Some(Arc::new(FaultyBackend::observed(Arc::new(store), move |_| turns.wait(actor))) as Files)
        });
        let files: Files = Arc::new(store.clone());
        let known = learn(&base.digests, &files, &order.what);
        assert_sound(&objects::jobs(&order.what, &image, &store, &ledger, &tally), &known);
    }
    println!("side by side on objects: {orders} orders, {tally}, {:.1?}", started.elapsed());
}

/// Far more orders than those whose crashes are tried: what is rare shows here.
#[test]
fn whatever_the_order_of_several_processes_every_entry_is_whole_in_the_end() {
    let (bases, started) = (bases(), Instant::now());
    let images: Vec<_> = bases.iter().map(|base| keyed(&base.image)).collect();
    let count = 3000 * rounds();
    for number in 0..count {
        let (mut order, base) = Order::draw((1 << 40) + number + seed() * 1_000_000, &bases);
        let image = bases.iter().position(|other| std::ptr::eq(other, base)).map(|at| &images[at]).unwrap();
        let store = Objects::holding(image);
        let ledger = Ledger::after(&base.facts, || 0);
        order.run(&ledger, |actor, turns, _| {
            let (turns, store) = (Arc::clone(turns), store.clone());
            move || Some(Arc::new(FaultyBackend::observed(Arc::new(store), move |_| turns.wait(actor))) as Files)
        });
        let files: Files = Arc::new(store);
        for (id, digest) in digests(&files, &order.what) {
            assert!(base.digests.get(&id).is_none_or(|known| *known == digest), "{}", order.what);
        }
    }
    println!("side by side, without a crash: {count} orders, {:.1?}", started.elapsed());
}
