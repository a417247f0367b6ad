//! The disks of a running machine at one moment: a backup in pull mode, which QEMU serves over NBD, and a checkpoint of the same moment.
//!
//! ```text
//! vml-4f0c…  "VML: entry one"       what was written since that entry; the backup shows it as a dirty bitmap
//! vml-91aa…  "VML: not finished"    what is written since this session began
//! ```
//! libvirt's checkpoints cannot be renamed, and an entry has its name only when it is whole. So a checkpoint's own name is made up, and its
//! description says which entry it belongs to. One without an entry is a save's that did not end. Raw images keep no
//! checkpoints: they are read whole.

use super::machine::LibvirtMachine;
use super::xml::{DomainXml, Tree, XmlDisk, escaped};
use super::{memory, raw};
use crate::command::run;
use crate::nbd::{NbdAddress, NbdDisk, NbdOptions};
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};
use virt::domain::Domain;
use vml_core::machine::{DiskSession, LiveDisk, Machine as _, MachineState};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// What the names of this adapter's checkpoints begin with.
const PREFIX: &str = "vml-";
/// How a checkpoint is described: of an entry, and of a save that has not ended.
const OF_ENTRY: &str = "VML: entry ";
const UNFINISHED: &str = "VML: not finished";
/// Longest path of a socket.
const SOCKET_MAX: usize = 107;
/// What the socket's folder is named beside a disk, and the socket.
const FOLDER: &str = ".vml-backup";
const SOCKET: &str = "vml-backup.sock";

/// A session.
pub(super) struct Session<'m> {
    machine: &'m LibvirtMachine,
    disks: Vec<LiveDisk>,
    /// The checkpoint that this session has made.
    checkpoint: Option<String>,
    socket: PathBuf,
    ended: bool,
}

/// One of this adapter's checkpoints.
struct Checkpoint {
    name: String,
    /// The entry it belongs to; none for a save that has not ended.
    entry: Option<String>,
    disks: Vec<String>,
}

impl<'m> Session<'m> {
    pub(super) fn begin(machine: &'m LibvirtMachine, since: Option<&str>) -> Result<Self> {
        if !matches!(machine.state()?, MachineState::Running | MachineState::Paused) {
            return Err(Error::invalid("the machine is not running"));
        }
        let domain = machine.domain(false)?;
        let disks: Vec<XmlDisk> = domain.disks.iter().filter(|disk| !disk.read_only).cloned().collect();
        if let Some(disk) = disks.iter().find(|disk| disk.file.is_none()) {
            let message = format!("the disk {} of {} is neither a file nor a device of this host", disk.target, domain.name);
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let (busy, known) = machine.call(|domain| Ok((raw::backup_xml(domain).is_ok(), checkpoints(domain)?)))?;
        if busy || known.iter().any(|one| one.entry.is_none()) {
            return Err(Error::new(ErrorKind::Locked, "another save of the machine is under way, or ended half-way"));
        }
        let mut since = since.and_then(|since| known.iter().find(|one| one.entry.as_deref() == Some(since)));
        let socket = socket(machine, &disks)?;
        let keeps = disks.iter().any(keeps);
        let checkpoint = keeps.then(|| format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish()));
        for disk in &disks {
            // Left by a QEMU and a libvirt that were both killed; nobody reads it any more.
            _ = fs::remove_file(scratch(disk, &socket));
        }
        let made = checkpoint.as_ref().map(|name| checkpoint_text(name, &domain, &disks));
        let mut session = Self { machine, disks: Vec::new(), checkpoint, socket, ended: false };
        // Whatever fails from here on is undone when the session is dropped.
        let begun = session.start(&domain, backup_text(&domain, &disks, since, &session.socket)?, made.clone());
        match (begun, since) {
            (Err(error), Some(_)) if error.kind() != ErrorKind::Interrupted => {
                // QEMU was killed, say, and the bitmap is not to be trusted: everything is read.
                since = None;
                session.start(&domain, backup_text(&domain, &disks, None, &session.socket)?, made)?;
            }
            (begun, _) => begun?,
        }
        for disk in &disks {
            let since = since.filter(|since| since.disks.contains(&disk.target)).map(|since| since.name.as_str());
            let options = NbdOptions {
                export: disk.target.clone(),
                bitmaps: since.iter().map(|since| (*since).to_owned()).collect(),
                limit: machine.options.answer_limit,
                ..NbdOptions::default()
            };
            let opened = NbdDisk::open(&NbdAddress::Unix(session.socket.clone()), &options)?;
            let changed = since.map(|since| opened.dirty_ranges(since)).transpose()?;
            session.disks.push(LiveDisk { name: disk.target.clone(), format: disk.format.clone(), disk: Box::new(opened), changed });
        }
        Ok(session)
    }

    /// Begins the backup while the guest's file systems are quiet, if its agent makes them so.
    fn start(&self, domain: &DomainXml, backup: String, checkpoint: Option<String>) -> Result<()> {
        let options = &self.machine.options;
        let quiet = options.quiesce && domain.agent && self.machine.state()? == MachineState::Running;
        let agent_seconds = i32::try_from(options.agent_limit.as_secs()).unwrap_or(i32::MAX).max(1);
        if quiet {
            // An agent that does not answer leaves the disks as after a loss of power, which file systems survive.
            let frozen = self.machine.call(move |domain| {
                raw::agent_limit(domain, agent_seconds)?;
                raw::freeze(domain)
            });
            if frozen.is_err() {
                _ = self.machine.call(raw::thaw);
            }
        }
        let begun = self.machine.call(move |domain| raw::backup_begin(domain, &backup, checkpoint.as_deref()));
        if quiet {
            // Where it failed there is nothing to thaw, or the agent does it by itself.
            _ = self.machine.call(raw::thaw);
        }
        begun
    }

    /// Ends the backup, then does `last`.
    fn end(&mut self, last: impl FnOnce(&Domain) -> Result<()> + Send + 'static) -> Result<()> {
        self.ended = true;
        self.disks.clear();
        let ended = end_backup(self.machine).and_then(|()| self.machine.call(last));
        remove_folder(&self.socket);
        ended
    }
}

impl DiskSession for Session<'_> {
    fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    fn commit(mut self: Box<Self>, checkpoint: &str) -> Result<()> {
        // A backup that has ended by itself, with its QEMU say, has not shown what it should have.
        self.machine.call(raw::backup_xml).map_err(|error| error.context("the backup has ended before it was told to"))?;
        let (own, entry) = (self.checkpoint.take(), checkpoint.to_owned());
        self.end(move |domain| {
            if let Some(own) = &own {
                let xml = described(&raw::checkpoint_xml(domain, own)?, &format!("{OF_ENTRY}{entry}"))?;
                raw::checkpoint_redefine(domain, &xml)?;
            }
            checkpoints(domain)?.iter().filter(|one| Some(&one.name) != own.as_ref()).try_for_each(|one| delete(domain, &one.name))
        })
    }

    fn abort(mut self: Box<Self>) -> Result<()> {
        let own = self.checkpoint.take();
        self.end(move |domain| remove_unfinished(domain, own.as_deref()).map(|_| ()))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let own = self.checkpoint.take();
            // Nobody can be told; what is left is cleaned at the next command.
            _ = self.end(move |domain| remove_unfinished(domain, own.as_deref()).map(|_| ()));
        }
    }
}

/// Whether the disk's image keeps checkpoints.
fn keeps(disk: &XmlDisk) -> bool {
    disk.format == "qcow2"
}

/// The file that keeps what the guest overwrites while the disk is read. libvirt makes it, and removes it at the end.
fn scratch(disk: &XmlDisk, socket: &Path) -> PathBuf {
    match disk.file.as_ref().filter(|file| !file.starts_with("/dev")) {
        Some(file) => PathBuf::from(format!("{}.vml-scratch", file.display())),
        None => socket.with_file_name(format!("{}.vml-scratch", disk.target)),
    }
}

fn backup_text(domain: &DomainXml, disks: &[XmlDisk], since: Option<&Checkpoint>, socket: &Path) -> Result<String> {
    let utf8 = |path: &Path| path.to_str().map(escaped).ok_or_else(|| Error::invalid(format!("{} is not UTF-8", path.display())));
    let mut xml = format!("<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks>", utf8(socket)?);
    for disk in &domain.disks {
        let name = escaped(&disk.target);
        if !disks.contains(disk) {
            _ = write!(xml, "<disk name='{name}' backup='no'/>");
            continue;
        }
        let mode = match since.filter(|since| since.disks.contains(&disk.target)).map(|since| escaped(&since.name)) {
            Some(bitmap) => format!("backupmode='incremental' incremental='{bitmap}' exportbitmap='{bitmap}'"),
            None => "backupmode='full'".to_owned(),
        };
        let file = utf8(&scratch(disk, socket))?;
        _ = write!(
            xml,
            "<disk name='{name}' backup='yes' type='file' {mode} exportname='{name}'><driver type='qcow2'/><scratch file='{file}'/></disk>"
        );
    }
    xml.push_str("</disks></domainbackup>");
    Ok(xml)
}

fn checkpoint_text(name: &str, domain: &DomainXml, disks: &[XmlDisk]) -> String {
    let mut xml = format!("<domaincheckpoint><name>{name}</name><description>{UNFINISHED}</description><disks>");
    for disk in &domain.disks {
        let kind = if keeps(disk) && disks.contains(disk) { "bitmap" } else { "no" };
        _ = write!(xml, "<disk name='{}' checkpoint='{kind}'/>", escaped(&disk.target));
    }
    xml.push_str("</disks></domaincheckpoint>");
    xml
}

/// A checkpoint's XML with another description.
fn described(xml: &str, description: &str) -> Result<String> {
    let tree = Tree::read(xml)?;
    let place = tree.find(0, &["description"]).map(|at| tree.elements[at].content.clone());
    let place = place.ok_or_else(|| Error::corrupt("libvirt's checkpoint has lost its description"))?;
    Ok(format!("{}{}{}", &xml[..place.start], escaped(description), &xml[place.end..]))
}

/// This adapter's checkpoints of the domain.
fn checkpoints(domain: &Domain) -> Result<Vec<Checkpoint>> {
    let mut found = Vec::new();
    for xml in raw::checkpoints(domain)? {
        let tree = Tree::read(&xml)?;
        let (Some(name), Some(description)) = (tree.text(0, &["name"]), tree.text(0, &["description"])) else { continue };
        let entry = description.strip_prefix(OF_ENTRY);
        if !name.starts_with(PREFIX) || (entry.is_none() && description != UNFINISHED) {
            continue;
        }
        let disks = tree.find(0, &["disks"]).map(|disks| tree.children(disks, "disk").collect::<Vec<_>>()).unwrap_or_default();
        let has = |at: &usize| tree.elements[*at].value("checkpoint") == Some("bitmap");
        let disks = disks.into_iter().filter(has).filter_map(|at| tree.elements[at].value("name").map(str::to_owned)).collect();
        found.push(Checkpoint { name: name.to_owned(), entry: entry.map(str::to_owned), disks });
    }
    Ok(found)
}

/// Deletes a checkpoint; one whose bitmap is not there any more only loses its name.
fn delete(domain: &Domain, name: &str) -> Result<()> {
    raw::checkpoint_delete(domain, name, false).or_else(|first| raw::checkpoint_delete(domain, name, true).map_err(|_| first))
}

/// Deletes the checkpoint `own`, if it was made, or all that no entry belongs to; says how many.
fn remove_unfinished(domain: &Domain, own: Option<&str>) -> Result<usize> {
    let unfinished = |one: &&Checkpoint| one.entry.is_none() && own.is_none_or(|own| own == one.name);
    let names: Vec<String> = checkpoints(domain)?.iter().filter(unfinished).map(|one| one.name.clone()).collect();
    names.iter().try_for_each(|name| delete(domain, name))?;
    Ok(names.len())
}

/// Ends the backup, if there is one, and waits until it has.
fn end_backup(machine: &LibvirtMachine) -> Result<()> {
    let deadline = Instant::now() + machine.options.answer_limit;
    loop {
        let busy = machine.call(|domain| match raw::backup_xml(domain) {
            Ok(_) => raw::abort_job(domain).map(|()| true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(false),
            Err(error) => Err(error),
        });
        match busy {
            Ok(false) => return Ok(()),
            // It may have ended between the two calls.
            Ok(true) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted || Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Interrupted, "libvirt does not end the backup"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where QEMU makes its socket: a folder that it can write to and others cannot.
fn socket(machine: &LibvirtMachine, disks: &[XmlDisk]) -> Result<PathBuf> {
    let folder = match &machine.options.run_dir {
        Some(folder) => folder.clone(),
        None => qemu_folder(machine)?.map_or_else(|| beside(disks), Ok)?,
    };
    let path = folder.join(SOCKET);
    if path.as_os_str().len() > SOCKET_MAX {
        return Err(Error::invalid(format!("the path {} is longer than {SOCKET_MAX} bytes", path.display())));
    }
    _ = fs::remove_file(&path);
    Ok(path)
}

/// The folder of the machine's QEMU, in which its monitor's socket is.
fn qemu_folder(machine: &LibvirtMachine) -> Result<Option<PathBuf>> {
    let id = machine.call(|domain| Ok(domain.get_id()))?;
    let (Some(id), Some(parent)) = (id, machine.options.save_dir.parent()) else { return Ok(None) };
    let begin = format!("domain-{id}-");
    let folders = fs::read_dir(parent).into_iter().flatten().flatten();
    let found = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin)).map(|entry| entry.path());
    // It may be there and not be ours to look into.
    Ok(found.filter(|path| fs::read_dir(path).is_ok()).min())
}

/// A folder beside the first disk, which belongs to whom the disk does while the machine runs.
fn beside(disks: &[XmlDisk]) -> Result<PathBuf> {
    let file = disks.iter().find_map(|disk| disk.file.as_ref()).ok_or_else(|| Error::invalid("the machine has no disk"))?;
    let folder = file.parent().unwrap_or(Path::new("/")).join(FOLDER);
    let failed = || format!("cannot make {}", folder.display());
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error).at(failed),
        _ => {}
    }
    let (owner, found) = (fs::metadata(file).at(failed)?, fs::symlink_metadata(&folder).at(failed)?);
    if !found.is_dir() {
        return Err(Error::invalid(format!("{} is no folder", folder.display())));
    }
    if (owner.uid(), owner.gid()) != (found.uid(), found.gid()) {
        std::os::unix::fs::lchown(&folder, Some(owner.uid()), Some(owner.gid())).at(failed)?;
    }
    Ok(folder)
}

fn remove_folder(socket: &Path) {
    if let Some(folder) = socket.parent().filter(|folder| folder.ends_with(FOLDER)) {
        _ = fs::remove_file(socket);
        _ = fs::remove_dir(folder);
    }
}

/// The same for a machine that is off: libvirt changes the images of a running one only.
fn remove_offline(machine: &LibvirtMachine) -> Result<usize> {
    let unfinished: Vec<Checkpoint> =
        machine.call(|domain| Ok(checkpoints(domain)?.into_iter().filter(|one| one.entry.is_none()).collect()))?;
    if unfinished.is_empty() {
        return Ok(0);
    }
    let disks = machine.domain(true)?.disks;
    for one in &unfinished {
        for file in disks.iter().filter(|disk| one.disks.contains(&disk.target)).filter_map(|disk| disk.file.as_ref()) {
            let mut command = Command::new("qemu-img");
            command.args(["bitmap", "--remove", "-f", "qcow2"]).arg(file).arg(&one.name);
            let ran = run(command, machine.options.answer_limit)?;
            // One that was never written into the image is not there.
            if !ran.status.success() && !ran.words().contains("not found") {
                return Err(Error::new(ErrorKind::Io, format!("cannot remove a checkpoint from {}: {}", file.display(), ran.words())));
            }
        }
        let name = one.name.clone();
        machine.call(move |domain| raw::checkpoint_delete(domain, &name, true))?;
    }
    Ok(unfinished.len())
}

/// Removes what a save left that did not end.
pub(super) fn clean(machine: &LibvirtMachine) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let active = matches!(machine.state()?, MachineState::Running | MachineState::Paused);
    if active {
        let ours = machine.call(|domain| Ok(raw::backup_xml(domain).is_ok_and(|xml| xml.contains(SOCKET))))?;
        if ours {
            let domain = machine.domain(false)?;
            if domain.agent {
                _ = machine.call(raw::thaw);
            }
            end_backup(machine)?;
            told.push("ended the backup of a save that did not end".to_owned());
        }
    }
    if active && memory::let_go(machine)? {
        told.push("let the machine go on that was held by a save of its memory".to_owned());
    }
    let removed = if active { machine.call(|domain| remove_unfinished(domain, None))? } else { remove_offline(machine)? };
    if removed > 0 && told.is_empty() {
        told.push("removed the checkpoint of a save that did not end".to_owned());
    }
    Ok(told)
}
