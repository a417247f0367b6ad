//! `vml save` of an area whose guest is reached over SSH.

use super::save::{What, find_base, print, what};
use super::{Context, Outcome};
use crate::areas::Area;
use crate::args::SaveArgs;
use crate::guests::{self, Guest, SshConfig};
use crate::output::human;
use crate::settings;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vml_core::entry::{EntryId, EntryKind, Fact, MachinePart};
use vml_core::repository::{SaveRequest, SaveTree, TreePlace};
use vml_core::{DiscardBackend, Repository};

pub fn run(context: &Context, args: &SaveArgs, area: &Area, ssh: &SshConfig) -> Result<Outcome> {
    let guest = guests::source(ssh, area.default_exclude, area.one_file_system)?;
    Ok(save(context, args, area, &guest, None, false)?.1)
}

/// Saves the directories of a guest, whichever way it was found, with the description of its machine, perhaps as a step of another command;
/// tells the entry.
pub fn save(
    context: &Context,
    args: &SaveArgs,
    area: &Area,
    guest: &Guest,
    machine: Option<MachinePart>,
    is_step: bool,
) -> Result<(EntryId, Outcome)> {
    let started = Instant::now();
    let mut repository = context.repository()?;
    if args.dry_run {
        repository = Repository::open(Arc::new(DiscardBackend::new(Arc::clone(repository.backend()))), context.options())?;
    }
    let base = area.base.as_deref().map(|name| find_base(&repository, name)).transpose()?;
    let exclude = guest.exclude(&area.exclude)?;
    let place = guest.transport.place();
    let progress = context.progress();
    let known = guest.identify().with_context(|| format!("cannot save {place}"))?;
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    let mut facts = vec![
        fact("host.name", settings::host()),
        fact("vml.version", env!("CARGO_PKG_VERSION").to_owned()),
        fact("guest.ssh", place.clone()),
        fact("guest.saved", guest.dirs()),
    ];
    facts.extend(known.facts);
    let (tree, spool) = (guest.tree()?, settings::spool());
    let request = SaveRequest {
        kind: EntryKind::State { area: area.name.clone() },
        tree: Some(SaveTree {
            place: TreePlace::Source { source: &tree, spool: &spool },
            exclude: &exclude,
            one_file_system: area.one_file_system,
            users: &known.owners.users,
            groups: &known.owners.groups,
        }),
        disks: &[],
        machine,
        memory: None,
        add_parts: true,
        base,
        author: &settings::author(),
        message: &args.message,
        tags: &args.tag,
        facts,
        now: settings::now(),
        learn: None,
        elapsed_ms: &|| settings::elapsed_ms(started),
    };
    let saved = repository.save(request, &progress);
    progress.finish();
    let saved = saved.with_context(|| format!("cannot save {place}"))?;
    let traffic = guest.transport.traffic();
    let (received, sent) = (traffic.received(), traffic.sent());
    let what = What { tree: Some(Path::new(&place)), disks: &[], traffic: Some((received, sent)), is_step, ..what(area, args, None) };
    print(context, &what, &saved, settings::elapsed_ms(started), &progress.problems(), &progress.notices())?;
    context.say(format_args!("{} came from {place}, {} went there", human::size(received), human::size(sent)))?;
    Ok((saved.id, Outcome::of(saved.problems_count)))
}
