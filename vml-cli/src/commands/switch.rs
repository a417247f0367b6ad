//! `vml switch AREA`: puts one project away and brings another up.
//!
//! ```text
//! save (if a message is given) ─► suspend the area that runs ─► resume, start or build the other
//!                                          ▲──────── resumed when that fails ──────┘
//! ```

use super::machine::tell_cleaning;
use super::{Context, Outcome, build_machine, save_machine};
use crate::areas::{self, Area};
use crate::args::{BuildArgs, SaveArgs, SshArgs, SwitchArgs};
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

pub fn run(context: &Context, args: &SwitchArgs) -> Result<Outcome> {
    check_name("area", &args.area)?;
    let started = Instant::now();
    let to = Target::find(context, &args.area)?;
    let from = leaving(args)?;
    let mut steps = Steps { context, done: Vec::new() };
    let _locks = (lock(from.as_ref())?, lock(if let Target::Area(area) = &to { Some(area) } else { None })?);
    let (mut outcome, mut saved) = (Outcome::Done, None);
    if let Some(area) = &from {
        tell_cleaning(&area.name, machines::need(area)?.as_ref())?;
    }
    let arrival = to.look()?;
    if let Some(area) = &from {
        let machine = machines::need(area)?;
        if let Some(message) = message(args, area)? {
            let save = save_args(area, message);
            let (entry, ended) = steps.run(&area.name, "save", || save_machine::save(context, &save, area, machine.as_ref(), true))?;
            (saved, outcome) = (Some(entry.to_string()), ended);
        }
        steps.run(&area.name, "suspend", || Ok(machine.suspend()?))?;
    }
    let arrived = match (&to, &arrival) {
        (Target::Area(area), name) => steps.run(&area.name, name, || machines::bring_up(machines::need(area)?.as_ref()).map(|_| ())),
        (Target::Log(name), _) => steps.run(name, "build", || {
            let build = build_args(name);
            let made = build_machine::make(context, &build, name)?;
            machines::bring_up(machines::need(&made.area)?.as_ref()).map(|_| ()).inspect_err(|_| build_machine::unmake(&made.area))
        }),
    };
    if let Err(error) = arrived {
        if let Some(area) = &from {
            // What was put away goes on.
            let back = steps.run(&area.name, "resume", || Ok(machines::need(area)?.resume()?));
            _ = back.map_err(|second| complain(format_args!("vml: {second:#}")));
        }
        return Err(error);
    }
    let machine = machines::need(&areas::get(&args.area)?)?;
    let (state, address, elapsed_ms) = (machine.state()?, machine.address()?, settings::elapsed_ms(started));
    if context.json() {
        crate::output::value(&json!({
            "area": args.area,
            "from": from.as_ref().map(|area| &area.name),
            "entry": saved,
            "steps": steps.done,
            "state": state.name(),
            "address": address.as_ref().map(|address| json!({ "host": address.host, "ssh_port": address.ssh_port })),
            "elapsed_ms": elapsed_ms,
        }))?;
    }
    context.say(format_args!(
        "{} is {}{}, in {}",
        args.area,
        state.name(),
        machines::reached(address.as_ref()),
        human::elapsed(elapsed_ms)
    ))?;
    Ok(outcome)
}

/// Where to go.
enum Target {
    /// An area of this host.
    Area(Box<Area>),
    /// A log in the repository, of an area that this host does not have.
    Log(String),
}

impl Target {
    fn find(context: &Context, name: &str) -> Result<Self> {
        if areas::path(name)?.exists() {
            return Ok(Self::Area(Box::new(areas::get(name)?)));
        }
        let latest = context.repository()?.refs().get(RefKind::Area, name)?;
        latest.ok_or_else(|| Error::not_found(format!("there is no area {name:?} on this host, and no log of one in the repository")))?;
        Ok(Self::Log(name.to_owned()))
    }

    /// Finds out what would be in the way before anything is done; says how it is brought up.
    fn look(&self) -> Result<&'static str> {
        let Self::Area(area) = self else { return Ok("build") };
        let machine = machines::need(area)?;
        tell_cleaning(&area.name, machine.as_ref())?;
        match machine.state()? {
            MachineState::Running => bail!(Error::invalid(format!("{} is running already", area.name))),
            MachineState::Off => Ok("start"),
            MachineState::Paused | MachineState::Suspended => Ok("resume"),
        }
    }
}

/// The area that is left: the one that was named, or the only one that runs.
fn leaving(args: &SwitchArgs) -> Result<Option<Area>> {
    if let Some(name) = &args.from {
        if *name == args.area {
            bail!(Error::invalid("--from names the area to go to"));
        }
        let area = areas::get(name)?;
        let state = machines::need(&area)?.state()?;
        if state != MachineState::Running {
            bail!(Error::invalid(format!("{name} is {}: there is nothing to put away", state.name())));
        }
        return Ok(Some(area));
    }
    let mut running = Vec::new();
    for (name, area) in areas::list()? {
        // One that cannot be read is not what this is about.
        let Ok(area) = area else { continue };
        if name != args.area && area.is_machine() && machines::need(&area).and_then(|machine| is_running(machine.as_ref())).unwrap_or(false)
        {
            running.push(area);
        }
    }
    if running.len() > 1 {
        let names = running.iter().map(|area| area.name.as_str()).collect::<Vec<_>>().join(", ");
        bail!(Error::invalid(format!("several areas run: {names}; say which to leave with --from")));
    }
    Ok(running.pop())
}

fn is_running(machine: &dyn Machine) -> Result<bool> {
    Ok(machine.state()? == MachineState::Running)
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

fn lock(area: Option<&Area>) -> Result<Option<std::fs::File>> {
    area.map(|area| areas::lock(&area.name)).transpose()
}

fn save_args(area: &Area, message: String) -> SaveArgs {
    SaveArgs { area: area.name.clone(), message, tag: Vec::new(), dry_run: false, mode: Some("full".to_owned()), in_use: false }
}

fn build_args(name: &str) -> BuildArgs {
    BuildArgs {
        entry: format!("{name}@latest"),
        dir: None,
        area: Some(name.to_owned()),
        allow_special: false,
        start: false,
        no_memory: false,
        delete: false,
        yes: false,
        format: "auto".to_owned(),
        replace: false,
        verify: false,
        only: None,
        ssh: SshArgs::default(),
        libvirt: None,
    }
}
