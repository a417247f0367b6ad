//! `vml area start|stop|suspend|status`

use super::{Context, Outcome};
use crate::areas::{self, Area};
use crate::args::{AreaNameArgs, AreaStatusArgs, AreaStopArgs};
use crate::output::{complain, human};
use crate::{machines, settings};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};
use vml_core::machine::{Machine, Stop};

/// Does something to an area's machine, and tells how long it took.
fn act(context: &Context, name: &str, act: impl FnOnce(&dyn Machine) -> Result<&'static str>) -> Result<Outcome> {
    let started = Instant::now();
    let area = areas::get(name)?;
    let machine = machines::need(&area)?;
    let _lock = areas::lock(name)?;
    tell_cleaning(name, machine.as_ref())?;
    let done = act(machine.as_ref()).with_context(|| format!("cannot do that with the machine of {name}"))?;
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        crate::output::value(&json!({ "area": name, "done": done, "state": machine.state()?.name(), "elapsed_ms": elapsed_ms }))?;
    }
    let reached = machines::reached(machine.address()?.as_ref());
    context.say(format_args!("{name}: {done} in {}{reached}", human::elapsed(elapsed_ms)))?;
    Ok(Outcome::Done)
}

/// Removes what an earlier command left behind that was killed, and says so.
pub fn tell_cleaning(name: &str, machine: &dyn Machine) -> Result<()> {
    for told in machine.clean().with_context(|| format!("cannot look at the machine of {name}"))? {
        complain(format_args!("vml: {name}: {told}"));
    }
    // The memory of a save that was killed.
    for file in fs::read_dir(areas::folder(name)?).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with("memory-") {
            _ = fs::remove_file(file.path());
        }
    }
    Ok(())
}

pub fn start(context: &Context, args: &AreaNameArgs) -> Result<Outcome> {
    act(context, &args.name, machines::bring_up)
}

pub fn stop(context: &Context, args: &AreaStopArgs) -> Result<Outcome> {
    let how = if args.now { Stop::Kill } else { Stop::Shutdown(Duration::from_secs(args.timeout)) };
    act(context, &args.name, |machine| {
        machine.stop(how)?;
        Ok("stopped")
    })
}

pub fn suspend(context: &Context, args: &AreaNameArgs) -> Result<Outcome> {
    act(context, &args.name, |machine| {
        machine.suspend()?;
        Ok("suspended")
    })
}

pub fn status(context: &Context, args: &AreaStatusArgs) -> Result<Outcome> {
    let areas = match &args.name {
        Some(name) => vec![(name.clone(), areas::get(name))],
        None => areas::list()?,
    };
    let mut problems = 0;
    for (name, area) in areas {
        let told = area.and_then(|area| Ok(machines::open(&area)?.map(|machine| (area, machine))));
        let told = told.and_then(|found| match found {
            Some((area, machine)) => tell(context, &area, machine.as_ref()),
            None if args.name.is_some() => context.say(format_args!("{name} is no machine that can be run")),
            None => Ok(()),
        });
        if let Err(error) = told {
            problems += 1;
            complain(format_args!("vml: area {name}: {error:#}"));
        }
    }
    Ok(Outcome::of(problems))
}

fn tell(context: &Context, area: &Area, machine: &dyn Machine) -> Result<()> {
    let (state, address) = (machine.state()?, machine.address()?);
    if context.json() {
        let (adapter, address) = (machine.capabilities().adapter, crate::output::json::address(address.as_ref()));
        crate::output::value(&json!({ "area": area.name, "adapter": adapter, "state": state.name(), "address": address }))?;
    }
    let address = address.map(|address| format!("  ssh -p {} {}", address.ssh_port, address.host)).unwrap_or_default();
    context.say(format_args!("{:<20} {:<10}{address}", area.name, state.name()))
}
