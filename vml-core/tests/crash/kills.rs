//! A command is killed, others go on where it was, and then the power goes: what a killed process had not come to sync was seen by those after it. And the power goes
//! twice: once in a command, and once in those that go on from what that left.

use crate::beside::{Act, ids, may_end_so};
use crate::ledger::Ledger;
use crate::local::Recorded;
use crate::replay::{LIMIT, failure, local, rounds, seed};
use crate::scenarios::ALL;
use crate::sound::learn;
use crate::world::{OPTIONS, ROOT, config};
use std::sync::Arc;
use std::time::Instant;
use vml_chunk::LocalBackend;
use vml_core::{Backend, ErrorKind, Repository};
use vml_testkit::crash::{Disk, Handle, Image, Op, Survivors, Tally};
use vml_testkit::noise::Rng;

/// What those after a killed command do.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The same again.
    Again,
    /// Something else.
    Else(Act),
}

fn draw(recorded: &Recorded, rng: &mut Rng) -> Vec<Next> {
    let one = |rng: &mut Rng| if rng.below(3) == 0 { Next::Again } else { Next::Else(Act::draw(&ids(&recorded.base), rng)) };
    let mut next: Vec<Next> = (0..1 + rng.below(3)).map(|_| one(rng)).collect();
    next.push(Next::Else(Act::Collect));
    next
}

/// What goes on from what is on a disk.
struct GoingOn<'a> {
    recorded: &'a Recorded,
    /// What is durable on it, and what is done.
    base: &'a Image,
    disk: &'a Disk,
    ledger: &'a Ledger,
    next: &'a [Next],
    what: String,
    /// Makes the access; real ones go straight to the disk.
    access: fn(Arc<dyn Backend>) -> Arc<dyn Backend>,
}

/// Goes on, and through all states that a loss of power leaves then; gives what is wrong with one of them.
fn go_on(going: &GoingOn<'_>, tally: &Tally) -> Option<String> {
    let GoingOn { recorded, base, disk, ledger, next, what, access } = going;
    let from = disk.position();
    let files = access(Arc::new(LocalBackend::create_on(Handle::new(disk), ROOT).unwrap()));
    for step in *next {
        let result = match step {
            Next::Again => (recorded.run)(&files, ledger),
            Next::Else(act) => act.run(&files, ledger),
        };
        match &result {
            // There was no repository yet.
            Err(error) if error.kind() == ErrorKind::NotFound && !ledger.expected_at(from).made => {
                Repository::init(Arc::clone(&files), config(), OPTIONS).unwrap();
            }
            // What it was about was forgotten by now.
            Err(error) if error.kind() == ErrorKind::NotFound && matches!(step, Next::Again) => {}
            // A command that was done but for its last word cannot always be done again.
            result => assert!(may_end_so(result), "{what}, {step:?}: {result:?}"),
        }
    }
    let known = learn(&recorded.known, &files, what);
    let mut jobs = local(what, base, &disk.log(), from, ledger, tally);
    jobs.iter_mut().for_each(|job| job.indexed = false);
    failure(&jobs, &known)
}

/// Whether others see another state after it.
fn is_seen(op: &Op) -> bool {
    op.name().is_some() || matches!(op, Op::MakeDir(_))
}

fn killed(recorded: &Recorded, place: usize, rng: &mut Rng, tally: &Tally) {
    let next = draw(recorded, rng);
    let disk = Disk::after(&recorded.base.image, &recorded.log[..place]);
    let position = disk.clone();
    let ledger = recorded.ledger.stopped_at(place, move || position.position());
    let what = format!("{}, killed after {place} operations, then {next:?}", recorded.name);
    let going = GoingOn { recorded, base: &recorded.base.image, disk: &disk, ledger: &ledger, next: &next, what, access: |files| files };
    assert_eq!(go_on(&going, tally), None);
}

fn cut_off(recorded: &Recorded, place: usize, rng: &mut Rng, tally: &Tally) {
    let mut survivors = Survivors::of(&recorded.base.image);
    for op in &recorded.log[..place] {
        survivors.apply(op);
    }
    let mut images = Vec::new();
    survivors.states(LIMIT, &mut Rng::new(rng.next_u64()), &mut |image| images.push(image));
    let image = images.swap_remove(rng.below(images.len()));
    let next = draw(recorded, rng);
    let disk = Disk::holding(&image);
    let position = disk.clone();
    let ledger = recorded.ledger.stopped_at(place, move || position.position());
    let what = format!("{}, the power goes after {place} operations, then {next:?}", recorded.name);
    let going = GoingOn { recorded, base: &image, disk: &disk, ledger: &ledger, next: &next, what, access: |files| files };
    assert_eq!(go_on(&going, tally), None);
}

/// Kills a command at every place, and has it done again by processes that make nothing durable that others did.
pub fn careless(scenario: &str) -> Option<String> {
    let recorded = Recorded::of(crate::scenarios::named(scenario), false);
    let tally = Tally::default();
    (1..=recorded.log.len()).filter(|place| is_seen(&recorded.log[place - 1])).find_map(|place| {
        let disk = Disk::after(&recorded.base.image, &recorded.log[..place]);
        let position = disk.clone();
        let ledger = recorded.ledger.stopped_at(place, move || position.position());
        let what = format!("{scenario}, killed after {place} operations, then again by the careless");
        let next = [Next::Again, Next::Else(Act::Collect)];
        let access = crate::rules::careless;
        go_on(&GoingOn { recorded: &recorded, base: &recorded.base.image, disk: &disk, ledger: &ledger, next: &next, what, access }, &tally)
    })
}

#[test]
fn whoever_goes_on_after_a_killed_command_relies_on_nothing_that_the_power_takes() {
    let (tally, started) = (Tally::default(), Instant::now());
    let mut rng = Rng::new(seed() ^ 0x6b11);
    let all: Vec<Recorded> = ALL.iter().map(|scenario| Recorded::of(scenario, false)).collect();
    let mut kills = 0;
    // Every place once, and then as it comes.
    for recorded in &all {
        for place in (1..=recorded.log.len()).filter(|place| is_seen(&recorded.log[place - 1])) {
            killed(recorded, place, &mut rng, &tally);
            kills += 1;
        }
    }
    println!("killed at each place: {kills} kills, {tally}, {:.1?}", started.elapsed());
    while tally.distinct() < 30_000 * usize::try_from(rounds()).unwrap() {
        let recorded = &all[rng.below(all.len())];
        killed(recorded, 1 + rng.below(recorded.log.len()), &mut rng, &tally);
        kills += 1;
    }
    println!("killed, then the power goes: {kills} kills, {tally}, {:.1?}", started.elapsed());
}

#[test]
fn a_loss_of_power_in_what_goes_on_after_another_loses_nothing_that_was_told() {
    let (tally, started) = (Tally::default(), Instant::now());
    let mut rng = Rng::new(seed() ^ 0x2cf1);
    let all: Vec<Recorded> = ALL.iter().map(|scenario| Recorded::of(scenario, false)).collect();
    let mut first = 0;
    while tally.distinct() < 30_000 * usize::try_from(rounds()).unwrap() {
        let recorded = &all[rng.below(all.len())];
        cut_off(recorded, rng.below(recorded.log.len() + 1), &mut rng, &tally);
        first += 1;
    }
    println!("the power goes twice: {first} first times, {tally}, {:.1?}", started.elapsed());
}
