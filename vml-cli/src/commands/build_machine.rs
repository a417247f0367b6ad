//! `vml build ENTRY --area NAME`: a machine that runs, and an area of its own for it, whose log goes on from the entry.

use super::build::{self, Done, Job};
use super::{Context, Outcome, fetch, has_members, patch_guest};
use crate::areas::{self, Area};
use crate::args::BuildArgs;
use crate::guests::{self, Patch, SshConfig};
use crate::images::DiskImage;
use crate::machines::{self, libvirt};
use crate::output::{complain, human, json};
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vml_core::disk::restore_disk;
use vml_core::entry::MemoryPart;
use vml_core::machine::Stop;
use vml_core::refs::{RefKind, check_name};
use vml_core::{Entry, EntryId, Error, ErrorKind, Monitor as _, Repository, Task};
use vml_hv::image::write::RawTarget;

/// Where the machine of an area lies that was given no folder.
const FOLDER: &str = "vm";

/// How long a guest may take to boot, until it is reached over SSH.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// What became of an entry.
pub struct Made {
    pub area: Area,
    pub memory: bool,
    disks: Done,
}

pub fn run(context: &Context, args: &BuildArgs, name: &str) -> Result<Outcome> {
    let started = Instant::now();
    if args.delete || args.only.is_some() {
        bail!(Error::invalid("a machine is built of an entry's disks: --delete and --only are for trees"));
    }
    let made = make(context, args, name)?;
    let did = if args.start { Some(bring_up(&made.area)?) } else { None };
    let machine = machines::need(&made.area)?;
    let (state, address) = (machine.state()?, machine.address()?);
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        crate::output::value(&json!({
            "area": name,
            "description": json::host_path(&areas::path(name)?),
            "disks": build::disks_json(&made.disks),
            "memory": made.memory,
            "state": state.name(),
            "address": json::address(address.as_ref()),
            "elapsed_ms": elapsed_ms,
            "notices": made.disks.notices,
        }))?;
    }
    build::tell_disks(context, &made.disks, args.verify)?;
    let memory = if made.memory { ", suspended where it was saved" } else { "" };
    context.say(format_args!("made the area {name}, a machine in {}{memory}, in {}", made.area.place(), human::elapsed(elapsed_ms)))?;
    match did {
        Some(did) => context.say(format_args!("{did}{}", machines::reached(address.as_ref()))),
        None => context.say(format_args!("`vml area start {name}` starts it")),
    }?;
    Ok(Outcome::Done)
}

fn bring_up(area: &Area) -> Result<&'static str> {
    let _lock = areas::lock(&area.name)?;
    let machine = machines::need(area)?;
    machines::bring_up(machine.as_ref())
        .with_context(|| format!("the area {0} is there, but does not start; `vml area start {0}` tries again", area.name))
}

/// Builds the machine and its area; leaves nothing behind when that fails.
pub fn make(context: &Context, args: &BuildArgs, name: &str) -> Result<Made> {
    check_name("area", name)?;
    if areas::path(name)?.exists() {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("there is an area {name:?} on this host already: give another name")));
    }
    let dir = args.dir.clone().map_or_else(|| Ok(areas::folder(name)?.join(FOLDER)), Ok::<_, anyhow::Error>)?;
    if has_members(&dir) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is not empty", dir.display())));
    }
    let repository = context.repository()?;
    let id = repository.resolve(&args.entry)?;
    let entry = repository.entry(&id)?;
    let needs_base = entry.disks().next().is_none();
    let repository = fetch::base_of(context, repository, &entry, args.no_fetch, needs_base || args.format == "overlay")?;
    let base = match entry.base.as_ref().filter(|_| needs_base) {
        Some(base) => fetch::base_here(&repository, base)?,
        None => None,
    };
    let source = base.as_ref().unwrap_or(&entry);
    if source.disks().next().is_none() {
        bail!(Error::invalid("neither the entry nor its base has disks, of which --area makes a machine"));
    }
    let ssh = args.ssh.config()?;
    if base.is_some() && ssh.is_none() {
        let message = "the entry has files only: they are brought into a machine with its base's disks over SSH; say --ssh USER@NAME";
        bail!(Error::invalid(message));
    }
    let taken = repository.refs().get(RefKind::Area, name)?;
    if taken.is_some_and(|latest| latest != id) && !is_of(&entry, name) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("the repository has a log of an area {name:?} already: give another name")));
    }
    let existed = dir.exists();
    let make = Make { dir: &dir, context, args, name, repository: &repository, entry: &entry, source, ssh: ssh.map(Box::new) };
    make.all(&id, taken).inspect_err(|_| {
        empty(&dir);
        if !existed {
            _ = fs::remove_dir(&dir);
        }
        _ = areas::remove(name);
    })
}

/// Removes a machine that was made here and could not be used.
pub fn unmake(area: &Area) {
    forget(area);
    if let Some(dir) = &area.qemu {
        empty(dir);
        _ = fs::remove_dir(dir);
    }
    _ = areas::remove(&area.name);
}

/// Makes the hypervisor forget it, where it knows it.
fn forget(area: &Area) {
    if let Some(uri) = &area.libvirt
        && let Err(error) = libvirt::undefine(uri)
    {
        complain(format_args!("vml: {}: libvirt still knows {uri}: {error:#}", area.name));
    }
}

/// Removes what is in a folder that was empty before.
fn empty(dir: &Path) {
    let members = fs::read_dir(dir).into_iter().flatten().flatten().map(|member| member.path());
    members.for_each(|path| _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
}

/// Whether an entry is of the area of that name: it is brought back.
fn is_of(entry: &Entry, name: &str) -> bool {
    matches!(&entry.kind, vml_core::entry::EntryKind::State { area } if area == name)
}

struct Make<'a> {
    context: &'a Context,
    args: &'a BuildArgs,
    name: &'a str,
    repository: &'a Repository,
    entry: &'a Entry,
    /// What has its disks: itself, or its base.
    source: &'a Entry,
    ssh: Option<Box<SshConfig>>,
    dir: &'a Path,
}

impl Make<'_> {
    fn all(&self, id: &EntryId, taken: Option<EntryId>) -> Result<Made> {
        let args = self.args;
        let job =
            Job { entry: self.source, dir: self.dir, format: &args.format, replace: args.replace, verify: args.verify, machine: false };
        let disks = build::build_disks(self.context, self.repository, &job)?;
        let dir = fs::canonicalize(self.dir)?;
        let images: Vec<DiskImage> = disks
            .disks
            .iter()
            .map(|disk| DiskImage {
                name: disk.name.clone(),
                file: disk.path.file_name().unwrap_or_default().into(),
                format: Some(disk.format.to_owned()),
            })
            .collect();
        let allowed: Vec<PathBuf> = disks.disks.iter().flat_map(|disk| disk.allowed.clone()).collect();
        let base = self.entry.base.as_ref().map(|base| format!("{}@{}", base.name, base.version));
        let area = Area { base, ssh: self.ssh.clone(), ..Area::new(self.name) };
        let area = self.describe(area, dir, &images, allowed)?;
        self.finish(&area, id, taken).inspect_err(|_| forget(&area)).map(|memory| Made { area, memory, disks })
    }

    /// Puts the memory into a machine that is there, and makes it an area.
    fn finish(&self, area: &Area, id: &EntryId, taken: Option<EntryId>) -> Result<bool> {
        let memory = match self.entry.memory().filter(|_| !self.args.no_memory) {
            Some(memory) => self.put_memory(area, memory)?,
            None => false,
        };
        areas::add(area)?;
        // What is saved next follows the entry that the machine was built from.
        if taken.is_none() {
            self.repository.refs().set(RefKind::Area, self.name, None, Some(*id))?;
        }
        if self.entry.disks().next().is_none() {
            self.patch(area).inspect_err(|_| _ = machines::need(area).and_then(|machine| Ok(machine.stop(Stop::Kill)?)))?;
        }
        Ok(memory)
    }

    /// Makes a hypervisor's machine of the images.
    fn describe(&self, area: Area, dir: PathBuf, images: &[DiskImage], allowed: Vec<PathBuf>) -> Result<Area> {
        let saved = self.entry.machine().or(self.source.machine());
        let Some(uri) = &self.args.libvirt else {
            if let Some(notice) = machines::describe_from(saved, &dir, images, &allowed)? {
                complain(format_args!("vml: {}: {notice}", self.name));
            }
            return Ok(Area { qemu: Some(dir), ..area });
        };
        let images: Vec<DiskImage> = images.iter().map(|image| DiskImage { file: dir.join(&image.file), ..image.clone() }).collect();
        let (description, reaches) = libvirt::adapt(saved, self.name, &images)?;
        if !reaches.is_empty() {
            let question = format!("The saved machine uses of this host: {}. Make it?", reaches.join(", "));
            self.context.confirm(&question, self.args.yes)?;
        }
        let uri = libvirt::define(uri, &description, &allowed)?;
        Ok(Area { libvirt: Some(uri), allow_dir: allowed, ..area })
    }

    /// Starts the machine as its base is, and brings the entry's files into it.
    fn patch(&self, area: &Area) -> Result<()> {
        let machine = machines::need(area)?;
        machine.start()?;
        let guest = guests::source(&machines::login(area, machine.as_ref())?, area.default_exclude, area.one_file_system)?;
        let deadline = Instant::now() + BOOT_LIMIT;
        // It boots; a key that is refused stays refused.
        while let Err(error) = guest.identify() {
            let kind = error.downcast_ref::<Error>().map(Error::kind);
            if Instant::now() >= deadline || kind == Some(ErrorKind::PermissionDenied) {
                return Err(error.context("the machine was started, and its guest is not reached"));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let exclude = guest.exclude(&[])?;
        let patch = Patch { guest: &guest, exclude: &exclude, entry: self.entry, area: self.name };
        let (_, problems) = patch_guest::bring(self.context, self.repository, &patch, |_| Ok(true))?;
        problems.iter().for_each(|problem| complain(format_args!("vml: {}: {}", problem.subject, problem.message)));
        if !self.args.start {
            machine.suspend()?;
        }
        Ok(())
    }

    fn put_memory(&self, area: &Area, memory: &MemoryPart) -> Result<bool> {
        let machine = machines::need(area)?;
        let hint = "the saved memory cannot be used here; --no-memory builds the machine without it, to start from its disks";
        let Some(ability) = machine.live_memory() else {
            return Err(Error::new(ErrorKind::UnsupportedFormat, "this kind of machine has no memory to put back")).context(hint);
        };
        let progress = self.context.progress();
        let store = self.repository.store(&progress)?;
        let put = ability.put(&memory.facts, &mut |path| {
            let len = memory.recipe.len;
            progress.expect(Task::Restore, len);
            let target = RawTarget::create(path, len, true)?;
            restore_disk(store, &memory.recipe, std::iter::once(0..len), &target, self.context.options().threads, &progress)?;
            target.finish()
        });
        progress.finish();
        put.context(hint)?;
        Ok(true)
    }
}
