//! `vml switch AREA`: puts one project away and brings another up.
//!
//! ```text
//! save (if a message is given) ─► suspend the area that runs ─► resume, start or build the other
//!                                          ▲──────── resumed when that fails ──────┘
//! ```

use super::machine::tell_cleaning;
use super::{Context, Outcome, build_machine, save_machine};
use crate::areas::{self, Area};
use crate::args::{BuildArgs, SaveArgs, SwitchArgs};
use crate::output::{complain, human};
use crate::{machines, settings};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Instant;
use vml_core::Error;
use vml_core::machine::{Machine, MachineState};
use vml_core::refs::{RefKind, check_name};

/// What was done, and how long it took.
struct Steps<'a> {
    context: &'a Context,
    done: Vec<Value>,
}

impl Steps<'_> {
    fn run<T>(&mut self, area: &str, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = act().with_context(|| format!("cannot {name} {area}"))?;
        let elapsed_ms = settings::elapsed_ms(started);
        self.done.push(json!({ "area": area, "step": name, "elapsed_ms": elapsed_ms }));
        self.context.say(format_args!("{name} {area}: {}", human::elapsed(elapsed_ms)))?;
        Ok(result)
    }
}

/// An area of this host and its machine.
struct Place {
    area: Area,
    machine: Box<dyn Machine>,
}

impl Place {
    fn open(area: Area) -> Result<Self> {
        let machine = machines::need(&area)?;
        Ok(Self { area, machine })
    }

    /// How it is brought up.
    fn step(&self) -> Result<&'static str> {
        match self.machine.state()? {
            MachineState::Running => bail!(Error::invalid(format!("{} is running already", self.area.name))),
            MachineState::Off => Ok("start"),
            MachineState::Paused | MachineState::Suspended => Ok("resume"),
        }
    }
}

pub fn run(context: &Context, args: &SwitchArgs) -> Result<Outcome> {
    let name = args.area.as_str();
    check_name("area", name)?;
    let started = Instant::now();
    let to = find(context, name)?;
    let from = leaving(args)?;
    let mut steps = Steps { context, done: Vec::new() };
    let places = || from.iter().chain(&to);
    let _locks = places().map(|place| areas::lock(&place.area.name)).collect::<Result<Vec<_>>>()?;
    places().try_for_each(|place| tell_cleaning(&place.area.name, place.machine.as_ref()))?;
    let arrival = to.as_ref().map_or(Ok("build"), Place::step)?;
    let (mut outcome, mut saved) = (Outcome::Done, None);
    if let Some(Place { area, machine }) = &from {
        if let Some(message) = message(args, area)? {
            let save = save_args(area, message);
            let (entry, ended) = steps.run(&area.name, "save", || save_machine::save(context, &save, area, machine.as_ref(), true))?;
            (saved, outcome) = (Some(entry.to_string()), ended);
        }
        steps.run(&area.name, "suspend", || Ok(machine.suspend()?))?;
    }
    let arrived = steps.run(name, arrival, || match to {
        Some(place) => machines::bring_up(place.machine.as_ref()).map(|_| place),
        None => build(context, name, args.no_fetch),
    });
    let Place { machine, .. } = match arrived {
        Ok(place) => place,
        Err(error) => {
            if let Some(Place { area, machine }) = &from {
                // What was put away goes on.
                let back = steps.run(&area.name, "resume", || Ok(machine.resume()?));
                _ = back.map_err(|second| complain(format_args!("vml: {second:#}")));
            }
            return Err(error);
        }
    };
    let (state, address, elapsed_ms) = (machine.state()?, machine.address()?, settings::elapsed_ms(started));
    if context.json() {
        crate::output::value(&json!({
            "area": name,
            "from": from.as_ref().map(|place| &place.area.name),
            "entry": saved,
            "steps": steps.done,
            "state": state.name(),
            "address": crate::output::json::address(address.as_ref()),
            "elapsed_ms": elapsed_ms,
        }))?;
    }
    let (reached, elapsed) = (machines::reached(address.as_ref()), human::elapsed(elapsed_ms));
    context.say(format_args!("{name} is {}{reached}, in {elapsed}", state.name()))?;
    Ok(outcome)
}

/// Where to go; none where this host does not have the area, and the repository has a log of it.
fn find(context: &Context, name: &str) -> Result<Option<Place>> {
    if areas::path(name)?.exists() {
        return Place::open(areas::get(name)?).map(Some);
    }
    let latest = context.repository()?.refs().get(RefKind::Area, name)?;
    latest.ok_or_else(|| Error::not_found(format!("there is no area {name:?} on this host, and no log of one in the repository")))?;
    Ok(None)
}

/// Builds an area from the latest entry of its log, and starts it.
fn build(context: &Context, name: &str, no_fetch: bool) -> Result<Place> {
    let entry = format!("{name}@latest");
    let args = BuildArgs { entry, area: Some(name.to_owned()), format: "auto".to_owned(), no_fetch, ..BuildArgs::default() };
    let made = build_machine::make(context, &args, name)?;
    let started = machines::need(&made.area).and_then(|machine| machines::bring_up(machine.as_ref()).map(|_| machine));
    let machine = started.inspect_err(|_| build_machine::unmake(&made.area))?;
    Ok(Place { area: made.area, machine })
}

/// The area that is left: the one that was named, or the only one that runs.
fn leaving(args: &SwitchArgs) -> Result<Option<Place>> {
    if let Some(name) = &args.from {
        if *name == args.area {
            bail!(Error::invalid("--from names the area to go to"));
        }
        let place = Place::open(areas::get(name)?)?;
        let state = place.machine.state()?;
        if state != MachineState::Running {
            bail!(Error::invalid(format!("{name} is {}: there is nothing to put away", state.name())));
        }
        return Ok(Some(place));
    }
    let mut running = Vec::new();
    for (name, area) in areas::list()? {
        // One that cannot be read is not what this is about.
        let Some(area) = area.ok().filter(|area| name != args.area && area.is_machine()) else { continue };
        let Ok(place) = Place::open(area) else { continue };
        if place.machine.state().is_ok_and(|state| state == MachineState::Running) {
            running.push(place);
        }
    }
    if running.len() > 1 {
        let names = running.iter().map(|place| place.area.name.as_str()).collect::<Vec<_>>().join(", ");
        bail!(Error::invalid(format!("several areas run: {names}; say which to leave with --from")));
    }
    Ok(running.pop())
}

/// What the area that is left is saved with; none when it is not to be saved.
fn message(args: &SwitchArgs, area: &Area) -> Result<Option<String>> {
    if args.no_save || args.message.is_some() {
        return Ok(args.message.clone());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!(Error::invalid(format!("save {} first? say --message TEXT, or --no-save to suspend it only", area.name)));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "Save {} first? A message saves it, an empty line does not: ", area.name)
        .and_then(|()| err.flush())
        .context("cannot ask")?;
    drop(err);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty()))
}

fn save_args(area: &Area, message: String) -> SaveArgs {
    SaveArgs { area: area.name.clone(), message, mode: Some("full".to_owned()), ..SaveArgs::default() }
}
