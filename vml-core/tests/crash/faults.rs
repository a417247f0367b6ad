//! The Nth operation of every command fails, for every N, once and for ever, and so does one of what follows: what was told is there, and the next ones go on.

use crate::ledger::Ledger;
use crate::replay::{assert_sound, local, rounds, seed};
use crate::scenarios::{ALL, Base, Scenario};
use crate::sound::{Job, Kind, learn};
use crate::world::{ROOT, collect, open, save, world};
use std::sync::Arc;
use vml_chunk::LocalBackend;
use vml_core::{Backend, ErrorKind, Result};
use vml_testkit::crash::{Disk, Fault, Handle, Tally, Trouble};
use vml_testkit::noise::Rng;

fn open_on(handle: Handle, named: bool) -> Result<Arc<dyn Backend>> {
    let backend = LocalBackend::create_on(handle, ROOT)?;
    Ok(Arc::new(if named { backend.with_named_staging() } else { backend }))
}

/// Runs the command with a fault in it, and then another with a fault in that; tells whether the first fault was reached.
fn run(scenario: &Scenario, base: &Base, fault: Fault, then: Option<Fault>, tally: &Tally) -> bool {
    let what = format!("{}, {fault:?}, then {then:?}", scenario.name);
    let named = fault.at % 2 == 1;
    let disk = Disk::holding(&base.image);
    let position = disk.clone();
    let ledger = Ledger::after(&base.facts, move || position.position());
    let handle = Handle::new(&disk);
    handle.fail(fault);
    let result = open_on(handle.clone(), named).and_then(|files| (scenario.run)(&files, &ledger));
    let fired = handle.fired() > 0;
    judge(&result, fired, fault.trouble, &what);
    if let Some(then) = then {
        let handle = Handle::new(&disk);
        handle.fail(then);
        let result = open_on(handle.clone(), named).and_then(|files| {
            let repository = open(&files)?;
            save(&repository, &ledger, "work", &world().small[2], None)?;
            collect(&repository)
        });
        // Where there is no repository yet, there is nothing to go on with.
        if !matches!(&result, Err(error) if error.kind() == ErrorKind::NotFound) {
            judge(&result, handle.fired() > 0, then.trouble, &what);
        }
    }
    let files = open_on(Handle::new(&disk), false).unwrap();
    let known = learn(&base.digests, &files, &what);
    let log = disk.log();
    let mut jobs = local(&what, &base.image, &log, log.len(), &ledger, tally);
    jobs.iter_mut().for_each(|job| (job.smooth, job.indexed) = (false, false));
    // What a process that goes on sees, and what is left if the power goes too.
    jobs.push(Job {
        image: disk.image(),
        kind: Kind::Local,
        expected: Arc::new(ledger.expected_at(log.len())),
        smooth: false,
        indexed: false,
        what,
    });
    assert_sound(&jobs, &known);
    fired
}

/// A failure is told as what it is; what needs no telling is not.
fn judge(result: &Result<()>, fired: bool, trouble: Trouble, what: &str) {
    match result {
        Ok(()) => {}
        Err(error) if fired => {
            let kind = match trouble {
                Trouble::Eio => ErrorKind::Io,
                Trouble::Enospc => ErrorKind::NoSpace,
                Trouble::Eintr | Trouble::Short => panic!("{what}: {error:?}"),
            };
            let told = [kind, ErrorKind::Interrupted].contains(&error.kind());
            assert!(told, "{what}: {error:?}");
        }
        // The one before left a ref or a tag that is in the way.
        Err(error) => assert!(matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Locked), "{what}: {error:?}"),
    }
}

/// Operations of the command when nothing fails.
fn count(scenario: &Scenario, base: &Base) -> usize {
    let handle = Handle::new(&Disk::holding(&base.image));
    let files = open_on(handle.clone(), false).unwrap();
    (scenario.run)(&files, &Ledger::after(&base.facts, || 0)).unwrap();
    handle.count()
}

#[test]
fn a_fault_at_any_operation_of_any_command_loses_nothing_that_was_told() {
    let (tally, mut faults) = (Tally::default(), 0);
    let mut rng = Rng::new(seed() ^ 0xfa17);
    let started = std::time::Instant::now();
    let kinds = [(Trouble::Eio, false), (Trouble::Eio, true), (Trouble::Enospc, false), (Trouble::Enospc, true)];
    for scenario in &ALL {
        let base = scenario.base();
        let operations = count(scenario, &base);
        for (salt, (trouble, forever)) in kinds.into_iter().enumerate() {
            for at in 0.. {
                // Every operation fails in one of these ways in the bounded run, in all of them in the long one.
                if rounds() < 10 && at < operations && (at + salt) % kinds.len() != 0 {
                    continue;
                }
                let fault = Fault { at, trouble, forever };
                let then = (rng.below(2) == 0).then(|| Fault { at: rng.below(250), trouble, forever: rng.below(2) == 0 });
                if !run(scenario, &base, fault, then, &tally) {
                    assert!(at + 20 > operations, "{}: {at} of {operations}", scenario.name);
                    break;
                }
                faults += 1 + u64::from(then.is_some());
            }
        }
    }
    println!("faults: {faults} of {} commands, {tally}, {:.1?}", ALL.len(), started.elapsed());
}

#[test]
fn signals_and_short_writes_disturb_no_command() {
    let (mut interrupted, tally) = (0, Tally::default());
    for scenario in &ALL {
        let base = scenario.base();
        for named in [false, true] {
            let disk = Disk::holding(&base.image);
            let position = disk.clone();
            let ledger = Ledger::after(&base.facts, move || position.position());
            let handle = Handle::nervous(&disk);
            let files = open_on(handle.clone(), named).unwrap();
            (scenario.run)(&files, &ledger).unwrap_or_else(|error| panic!("{}: {error:?}", scenario.name));
            let known = learn(&base.digests, &files, scenario.name);
            let log = disk.log();
            assert_sound(&local(scenario.name, &base.image, &log, log.len(), &ledger, &tally), &known);
            interrupted += handle.interrupted();
        }
    }
    println!("signals: {interrupted} operations were interrupted, {tally}");
    assert!(interrupted > 1000);
}
