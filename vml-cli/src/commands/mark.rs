//! `vml note` and `vml tag`

use super::{Context, Outcome};
use crate::args::{NoteArgs, TagArgs};
use crate::output::{complain, human};
use crate::settings;
use anyhow::{Result, bail};
use serde_json::json;
use vml_core::entry::Note;
use vml_core::refs::RefKind;
use vml_core::{Error, ErrorKind};

pub fn note(context: &Context, args: NoteArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let entry = repository.resolve(&args.entry)?;
    repository.add_note(&Note { entry, time_ms: settings::now_ms(), author: settings::author(), text: args.text })?;
    if context.json() {
        crate::output::value(&json!({ "entry": entry.to_string() }))?;
    }
    context.say(format_args!("noted on {}", entry.short()))?;
    Ok(Outcome::Done)
}

pub fn tag(context: &Context, args: &TagArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let refs = repository.refs();
    if let Some(name) = &args.remove {
        let target = refs.get(RefKind::Tag, name)?.ok_or_else(|| Error::not_found(format!("there is no tag {name:?}")))?;
        refs.set(RefKind::Tag, name, Some(target), None)?;
        if context.json() {
            crate::output::value(&json!({ "removed": name, "entry": target.to_string() }))?;
        }
        context.say(format_args!("removed the tag {name} from {}", target.short()))?;
        return Ok(Outcome::Done);
    }
    let (Some(entry), Some(name)) = (&args.entry, &args.name) else { return list(context, &refs) };
    let target = repository.resolve(entry)?;
    // Read first, so that an entry that is damaged does not get a name.
    repository.entry(&target)?;
    let present = refs.get(RefKind::Tag, name)?;
    if let Some(other) = present.filter(|other| *other != target && !args.force) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("the tag {name:?} is taken: it names {}", other.short())));
    }
    if present != Some(target) {
        refs.set(RefKind::Tag, name, present, Some(target))?;
    }
    if context.json() {
        crate::output::value(&json!({ "tag": name, "entry": target.to_string() }))?;
    }
    context.say(format_args!("{name} names {}", target.short()))?;
    Ok(Outcome::Done)
}

fn list(context: &Context, refs: &vml_core::refs::Refs) -> Result<Outcome> {
    let mut problems = 0;
    let tags = refs.list(RefKind::Tag)?;
    if tags.is_empty() {
        context.say("no tags yet; `vml tag ENTRY NAME` gives one")?;
    }
    for (name, target) in tags {
        match target {
            Ok(id) => {
                if context.json() {
                    crate::output::value(&json!({ "tag": name, "entry": id.to_string() }))?;
                }
                context.say(format_args!("{name:<24} {}", id.short()))?;
            }
            Err(error) => {
                problems += 1;
                complain(format_args!("vml: tag {}: {:#}", human::printable(&name), anyhow::Error::from(error)));
            }
        }
    }
    Ok(Outcome::of(problems))
}
