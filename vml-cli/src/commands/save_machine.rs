//! `vml save` of an area that is a machine.
//!
//! ```text
//! running    disk: the disks of one moment, of which only what changed since the latest entry is read    full: its memory of that moment too
//! suspended  disk: its images                                                                         full: the memory on disk too
//! off        disk: its images
//! running    tree: directories of its guest, over SSH
//! ```

use super::save::{self, Live, What};
use super::trees::TreeFrom;
use super::{Context, Outcome, machine::tell_cleaning};
use crate::areas::{self, Area};
use crate::args::SaveArgs;
use crate::images::DiskImage;
use crate::output::complain;
use crate::{guests, machines};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use vml_core::entry::EntryId;
use vml_core::machine::{Description, DiskSession, LiveDisks, LiveMemory, Machine, MachineState, SavedMemory};
use vml_core::refs::RefKind;
use vml_core::repository::SaveMemory;
use vml_core::{Error, ErrorKind};

pub fn run(context: &Context, args: &SaveArgs, area: &Area) -> Result<Outcome> {
    let _lock = areas::lock(&area.name)?;
    let machine = machines::need(area)?;
    tell_cleaning(&area.name, machine.as_ref())?;
    Ok(save(context, args, area, machine.as_ref(), false)?.1)
}

/// Saves a machine that nobody else is at work on, perhaps as a step of another command; tells the entry.
pub fn save(context: &Context, args: &SaveArgs, area: &Area, machine: &dyn Machine, is_step: bool) -> Result<(EntryId, Outcome)> {
    let state = machine.state()?;
    let full = match (args.mode.as_deref(), state) {
        (Some("tree"), _) => return tree(context, args, area, machine, is_step),
        (Some("full"), MachineState::Off) => {
            bail!(Error::invalid(format!("{} is off, and has no memory: --mode disk saves it", area.name)))
        }
        (Some("full"), _) | (None, MachineState::Suspended) => true,
        _ => false,
    };
    let description = machine.describe()?;
    let saving = Saving { context, args, area, description: &description, machine, is_step };
    match state {
        MachineState::Off => saving.images(None),
        MachineState::Suspended if full => {
            let (path, memory) = saving.memory_ability()?.suspended()?;
            saving.images(Some((&path, &memory)))
        }
        MachineState::Suspended => saving.images(None),
        MachineState::Running | MachineState::Paused if full => saving.with_memory(),
        MachineState::Running | MachineState::Paused => {
            let latest = saving.latest()?;
            let session = begin(saving.disks_ability()?, latest)?;
            saving.session(session, latest, None)
        }
    }
}

/// Saves the directories of a machine's guest over SSH, and its description.
fn tree(context: &Context, args: &SaveArgs, area: &Area, machine: &dyn Machine, is_step: bool) -> Result<(EntryId, Outcome)> {
    let guest = guests::source(&machines::login(area, machine)?, area.default_exclude, area.one_file_system)?;
    let part = machines::part(&machine.describe()?);
    save::store(context, What { tree: Some(TreeFrom::Guest(&guest)), is_step, ..save::what(area, args, Some(part)) })
}

struct Saving<'a> {
    context: &'a Context,
    args: &'a SaveArgs,
    area: &'a Area,
    description: &'a Description,
    machine: &'a dyn Machine,
    is_step: bool,
}

impl<'a> Saving<'a> {
    fn disks_ability(&self) -> Result<&'a dyn LiveDisks> {
        let adapter = self.machine.capabilities().adapter;
        let message = || format!("{adapter} cannot show the disks of a machine that runs: stop or suspend it first");
        Ok(self.machine.live_disks().ok_or_else(|| Error::new(ErrorKind::UnsupportedFormat, message()))?)
    }

    fn memory_ability(&self) -> Result<&'a dyn LiveMemory> {
        let adapter = self.machine.capabilities().adapter;
        let message = || format!("{adapter} cannot save a machine's memory: --mode disk leaves it out");
        Ok(self.machine.live_memory().ok_or_else(|| Error::new(ErrorKind::UnsupportedFormat, message()))?)
    }

    fn latest(&self) -> Result<Option<EntryId>> {
        Ok(self.context.repository()?.refs().get(RefKind::Area, &self.area.name)?)
    }

    fn store(&self, images: &[DiskImage], live: Live<'_>) -> Result<(EntryId, Outcome)> {
        let what = save::what(self.area, self.args, Some(machines::part(self.description)));
        let facts = self.description.facts.clone();
        let allow_dir = &self.description.allowed_dirs;
        save::store(self.context, What { disks: images, allow_dir, live: Live { facts, ..live }, is_step: self.is_step, ..what })
    }

    /// Saves the images of a machine that does not run.
    fn images(&self, memory: Option<(&Path, &SavedMemory)>) -> Result<(EntryId, Outcome)> {
        let images = machines::images(self.description);
        let open = memory.map(|(path, _)| memory_image(path).open(&[])).transpose()?;
        let memory = memory.zip(open.as_deref()).map(|((_, saved), file)| SaveMemory { format: &saved.format, file, facts: &saved.facts });
        self.store(&images, Live { memory, ..Live::default() })
    }

    /// Saves a running machine's memory and the disks of the same moment.
    fn with_memory(&self) -> Result<(EntryId, Outcome)> {
        let (memory, disks) = (self.memory_ability()?, self.disks_ability()?);
        let latest = self.latest()?;
        let file = tempfile::Builder::new().prefix("memory-").tempfile_in(areas::folder(&self.area.name)?).context("cannot keep memory")?;
        let mut session = None;
        let saved = memory.save(file.path(), &mut || {
            session = Some(begin(disks, latest)?);
            Ok(())
        });
        let (saved, session) = match (saved, session) {
            (Ok(saved), Some(session)) => (saved, session),
            (Err(error), _) => bail!(error),
            (Ok(_), None) => bail!(Error::corrupt("the machine was never held")),
        };
        let open = memory_image(file.path()).open(&[])?;
        let memory = SaveMemory { format: &saved.format, file: open.as_ref(), facts: &saved.facts };
        self.session(session, latest, Some(memory))
    }

    /// Saves what a session shows, and ends it.
    fn session(
        &self,
        session: Box<dyn DiskSession + '_>,
        since: Option<EntryId>,
        memory: Option<SaveMemory<'_>>,
    ) -> Result<(EntryId, Outcome)> {
        let images = machines::images(self.description);
        match self.store(&images, Live { disks: session.disks(), since, memory, ..Live::default() }) {
            Ok((id, outcome)) if !self.args.dry_run => {
                let Err(error) = session.commit(&id.to_string()) else { return Ok((id, outcome)) };
                // The entry is whole all the same.
                complain(format_args!("vml: {}: the next save will read everything: {:#}", self.area.name, anyhow::Error::from(error)));
                Ok((id, Outcome::Problems))
            }
            Ok(saved) => session.abort().map(|()| saved).context("the snapshot was not ended; the next command tries again"),
            Err(error) => {
                if let Err(second) = session.abort() {
                    complain(format_args!("vml: {}: the snapshot was not ended; the next command tries again: {second}", self.area.name));
                }
                Err(error)
            }
        }
    }
}

/// Begins a session since the entry after which the latest checkpoint is called.
fn begin(disks: &dyn LiveDisks, latest: Option<EntryId>) -> Result<Box<dyn DiskSession + '_>, Error> {
    disks.begin(latest.map(|id| id.to_string()).as_deref())
}

fn memory_image(path: &Path) -> DiskImage {
    DiskImage { name: "memory".to_owned(), file: path.to_owned(), format: Some("raw".to_owned()) }
}
