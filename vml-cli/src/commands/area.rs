//! `vml area add|list|show|rm`

use super::{Context, Outcome, machine, patch_guest};
use crate::areas::{self, Area};
use crate::args::{AreaAddArgs, AreaCommand, AreaNameArgs, AreaRmArgs};
use crate::guests::{self, SshConfig};
use crate::images::DiskImage;
use crate::output::{complain, human, json};
use crate::{bases, machines};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use vml_core::refs::{RefKind, check_name, split_base};
use vml_core::tree::Exclude;
use vml_core::{Error, Repository};

pub fn run(context: &Context, command: AreaCommand) -> Result<Outcome> {
    match command {
        AreaCommand::Add(args) => add(context, *args),
        AreaCommand::List => list(context),
        AreaCommand::Show(args) => show(context, &args),
        AreaCommand::Start(args) => machine::start(context, &args),
        AreaCommand::Stop(args) => machine::stop(context, &args),
        AreaCommand::Suspend(args) => machine::suspend(context, &args),
        AreaCommand::Status(args) => machine::status(context, &args),
        AreaCommand::Patch(args) => patch_guest::run(context, &args),
        AreaCommand::Rm(args) => remove(context, &args),
    }
}

fn add(context: &Context, args: AreaAddArgs) -> Result<Outcome> {
    check_name("area", &args.name)?;
    Exclude::new(&args.tree.exclude)?;
    let ssh = args.ssh.config()?.map(Box::new);
    let is_machine = args.qemu.is_some() || args.libvirt.is_some() || args.vmware.is_some();
    if args.tree.tree.is_none() && args.disks.disks.is_empty() && !is_machine && ssh.is_none() {
        let places = "say --tree DIR, --disk FILE, --qemu DIR, --libvirt URI/DOMAIN, --vmware FILE or --ssh HOST";
        return Err(Error::invalid(format!("an area is a directory tree, disks, both, a machine, or a guest: {places}")).into());
    }
    if is_machine && (args.tree.tree.is_some() || args.disks.machine.is_some()) {
        let message = "a machine has a description of its own: --tree and --machine do not go with it";
        return Err(Error::invalid(message).into());
    }
    if ssh.is_some() && !is_machine && (args.tree.tree.is_some() || !args.disks.disks.is_empty()) {
        return Err(
            Error::invalid("a guest over SSH is an area of its own, or that of a machine: --tree and --disk do not go with it").into()
        );
    }
    let tree = args.tree.tree.as_deref().map(|tree| located(tree, "the tree")).transpose()?;
    if let Some(tree) = tree.as_ref().filter(|tree| !tree.is_dir()) {
        return Err(Error::invalid(format!("{} is not a directory", tree.display())).into());
    }
    let disks = args.disks.disks.iter().map(DiskImage::located).collect::<Result<Vec<_>>>()?;
    if let Some(twice) = disks.iter().enumerate().find(|(i, disk)| disks[..*i].iter().any(|other| other.name == disk.name)) {
        return Err(Error::invalid(format!("two disks have the name {:?}: write NAME=FILE", twice.1.name)).into());
    }
    let allow_dir = args.disks.allow_dir.iter().map(|dir| located(dir, "the folder")).collect::<Result<Vec<_>>>()?;
    let machine = args.disks.machine.as_deref().map(|file| located(file, "the machine's description")).transpose()?;
    let opening: Vec<PathBuf> =
        allow_dir.iter().cloned().chain(bases::all().iter().flat_map(|image| image.allowed().collect::<Vec<_>>())).collect();
    for disk in &disks {
        // What cannot be opened now could not be saved later.
        disk.open(&opening).with_context(|| format!("cannot use the disk {}", disk.name))?;
    }
    if let Some(base) = &args.base {
        split_base(base)?;
        let target = context.repository()?.refs().get(RefKind::Base, base)?;
        target.ok_or_else(|| Error::not_found(format!("there is no base {base:?} in the repository")))?;
    }
    let qemu = args.qemu.as_deref().map(|dir| machines::add(dir, &disks, &allow_dir)).transpose()?;
    let area = Area {
        name: args.name,
        tree,
        base: args.base,
        exclude: args.tree.exclude,
        default_exclude: !args.tree.no_default_exclude,
        one_file_system: args.tree.one_file_system,
        machine,
        // A machine's own description names its disks.
        allow_dir: if qemu.is_some() { Vec::new() } else { allow_dir },
        disks: if qemu.is_some() { Vec::new() } else { disks },
        qemu,
        libvirt: args.libvirt,
        vmware: args.vmware.as_deref().map(|file| located(file, "the machine's description")).transpose()?,
        ssh,
    };
    if is_machine {
        machines::check(&area).with_context(|| format!("cannot use the machine {}", area.place()))?;
    }
    let path = areas::add(&area)?;
    if context.json() {
        crate::output::value(&describe(&area, None)?)?;
    }
    context.say(format_args!("added the area {}, described in {}", area.name, path.display()))?;
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result<Outcome> {
    let mut problems = 0;
    let areas = areas::list()?;
    if areas.is_empty() {
        context.say("no areas on this host yet; `vml area add NAME --tree DIR`, or --disk FILE, adds one")?;
    }
    for (name, area) in areas {
        match area {
            Ok(area) => {
                if context.json() {
                    crate::output::value(&describe(&area, None)?)?;
                }
                let base = area.base.as_ref().map(|base| format!("  base {base}")).unwrap_or_default();
                context.say(format_args!("{name:<20} {}{base}", area.place()))?;
            }
            Err(error) => {
                problems += 1;
                complain(format_args!("vml: area {name}: {error:#}"));
            }
        }
    }
    Ok(Outcome::of(problems))
}

fn show(context: &Context, args: &AreaNameArgs) -> Result<Outcome> {
    let area = areas::get(&args.name)?;
    // An area can be looked at where there is no repository yet.
    let repository = context.repository().ok();
    if context.json() {
        crate::output::value(&describe(&area, repository.as_ref())?)?;
        return Ok(Outcome::Done);
    }
    let path = areas::path(&area.name)?;
    context.say(format_args!("area     {}\nfile     {}", area.name, path.display()))?;
    if let Some(tree) = &area.tree {
        context.say(format_args!("tree     {}", tree.display()))?;
    }
    if let Some(ssh) = &area.ssh {
        let guest = guests::source(ssh, area.default_exclude, area.one_file_system)?;
        context.say(format_args!("guest    {}{}", ssh.address, if ssh.command { ", by the ssh command" } else { "" }))?;
        context.say(format_args!("saves    {}", guest.dirs()))?;
    }
    for disk in &area.disks {
        let format = disk.format.as_ref().map(|format| format!(" ({format})")).unwrap_or_default();
        context.say(format_args!("disk     {}: {}{format}", disk.name, disk.file.display()))?;
    }
    for dir in &area.allow_dir {
        context.say(format_args!("allowed  {}", dir.display()))?;
    }
    if let Some(machine) = &area.machine {
        context.say(format_args!("machine  {}", machine.display()))?;
    }
    if area.is_machine() {
        show_machine(context, &area)?;
    }
    context.say(format_args!("base     {}", area.base.as_deref().unwrap_or("none")))?;
    for pattern in &area.exclude {
        context.say(format_args!("exclude  {pattern}"))?;
    }
    if area.tree.is_some() && !area.default_exclude {
        context.say("exclude  nothing by default, even of a guest's root")?;
    }
    if area.one_file_system {
        context.say("exclude  what is mounted inside")?;
    }
    let latest = repository.as_ref().map(|repository| latest(repository, &area.name)).transpose()?.flatten();
    match latest {
        Some((id, entry)) => {
            context.say(format_args!("latest   {}  {}  {}", id.short(), human::time(entry.time_ms), human::first_line(&entry.message)))?;
        }
        None => context.say("latest   nothing saved yet")?,
    }
    Ok(Outcome::Done)
}

fn show_machine(context: &Context, area: &Area) -> Result<()> {
    let machine = machines::need(area)?;
    let (description, capabilities) = (machine.describe()?, machine.capabilities());
    for disk in &description.disks {
        context.say(format_args!("disk     {}: {} ({})", disk.name, disk.file.display(), disk.format))?;
    }
    context.say(format_args!("machine  {}, with {} of memory", area.place(), human::size(description.memory_bytes)))?;
    context.say(format_args!("run by   {}: {}", capabilities.adapter, machines::abilities(&capabilities).join(", ")))?;
    context.say(format_args!("state    {}{}", machine.state()?.name(), machines::reached(machine.address()?.as_ref())))
}

fn latest(repository: &Repository, name: &str) -> Result<Option<(vml_core::EntryId, vml_core::Entry)>> {
    let Some(id) = repository.refs().get(RefKind::Area, name)? else { return Ok(None) };
    Ok(Some((id, repository.entry(&id)?)))
}

fn describe(area: &Area, repository: Option<&Repository>) -> Result<Value> {
    let latest = repository.map(|repository| repository.refs().get(RefKind::Area, &area.name)).transpose()?.flatten();
    Ok(json!({
        "area": area.name,
        "tree": area.tree.as_deref().map(json::host_path),
        "disks": area.disks.iter().map(disk).collect::<Vec<_>>(),
        "allow_dir": area.allow_dir.iter().map(|dir| json::host_path(dir)).collect::<Vec<_>>(),
        "machine": area.machine.as_deref().map(json::host_path),
        "qemu": area.qemu.as_deref().map(json::host_path),
        "libvirt": area.libvirt,
        "vmware": area.vmware.as_deref().map(json::host_path),
        "hypervisor": hypervisor(area),
        "ssh": area.ssh.as_deref().map(ssh),
        "base": area.base,
        "exclude": area.exclude,
        "default_exclude": area.default_exclude,
        "one_file_system": area.one_file_system,
        "description": json::host_path(&areas::path(&area.name)?),
        "latest": latest.map(|id| id.to_string()),
    }))
}

/// What runs an area's machine and can do with it; nothing where that is not known.
fn hypervisor(area: &Area) -> Option<Value> {
    let machine = machines::open(area).ok()??;
    let capabilities = machine.capabilities();
    let state = machine.state().ok().map(vml_core::machine::MachineState::name);
    Some(json!({ "adapter": capabilities.adapter, "abilities": machines::abilities(&capabilities), "state": state }))
}

fn remove(context: &Context, args: &AreaRmArgs) -> Result<Outcome> {
    // Asked for by name, so that one whose description is damaged can be removed too.
    let path = areas::path(&args.name)?;
    if !path.exists() {
        areas::get(&args.name)?;
    }
    context.confirm(&format!("Remove the description of the area {}? Its entries stay, and its tree and disks.", args.name), args.yes)?;
    areas::remove(&args.name)?;
    if context.json() {
        crate::output::value(&json!({ "removed": args.name }))?;
    }
    context.say(format_args!("removed the area {}; its log stays in the repository", args.name))?;
    Ok(Outcome::Done)
}

fn ssh(ssh: &SshConfig) -> Value {
    json!({ "address": ssh.address, "path": ssh.path, "all": ssh.all, "command": ssh.command })
}

fn disk(disk: &DiskImage) -> Value {
    json!({ "name": disk.name, "file": json::host_path(&disk.file), "format": disk.format })
}

/// A path as it is written down: from the root, without links.
fn located(path: &Path, what: &str) -> Result<PathBuf> {
    let found = std::fs::canonicalize(path).map_err(vml_error(&format!("cannot find {what} {}", path.display())))?;
    if found.to_str().is_none() {
        let message = format!("the path of {what} is not UTF-8, which its description must be: {}", found.display());
        return Err(Error::invalid(message).into());
    }
    Ok(found)
}

/// Turns a bare input error into one with a kind, for the exit code and the hint.
fn vml_error(message: &str) -> impl FnOnce(std::io::Error) -> anyhow::Error {
    let message = message.to_owned();
    move |error| {
        use vml_core::IoResultExt as _;
        let result: vml_core::Result<()> = Err(error).at(|| message);
        result.context("cannot add the area").expect_err("made from an error")
    }
}
