//! `vml access`: who has a key of an encrypted repository.

use super::{Context, Outcome};
use crate::args::{AccessAddArgs, AccessCommand, AccessRemoveArgs};
use crate::output::human;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use vml_chunk::seal::{NewKey, Rights, Slot, SlotKind};
use vml_core::repository::keys_of;
use vml_core::{Error, ErrorKind};

pub fn run(context: &Context, command: AccessCommand) -> Result<Outcome> {
    match command {
        AccessCommand::List => list(context),
        AccessCommand::Add(args) => add(context, &args),
        AccessCommand::Remove(args) => remove(context, &args),
        AccessCommand::Rotate => rotate(context),
    }
}

fn list(context: &Context) -> Result<Outcome> {
    let place = context.place()?;
    let keys = place.open(false).and_then(|backend| {
        keys_of(backend.as_ref()).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::not_found("there is no repository here").because(error).into(),
            _ => error.into(),
        })
    });
    let keys = keys.with_context(|| format!("cannot list the keys of {place}"))?;
    if keys.is_none() {
        context.say("this repository is not encrypted")?;
    }
    for slot in keys.unwrap_or_default() {
        if context.json() {
            crate::output::value(&describe(&slot))?;
        }
        let rights = if slot.rights == Rights::Full { "full" } else { "put only" };
        let time = human::time(slot.created_ms);
        context.say(format_args!("{}  {time}  {rights:<8}  {:<10}  {}", slot.id(), kind_of(&slot), human::printable(&slot.label)))?;
    }
    Ok(Outcome::Done)
}

fn kind_of(slot: &Slot) -> &'static str {
    match slot.kind {
        SlotKind::Passphrase(_) => "passphrase",
        SlotKind::KeyFile => "key file",
    }
}

fn describe(slot: &Slot) -> Value {
    json!({
        "id": slot.id(),
        "label": slot.label,
        "created_ms": slot.created_ms,
        "rights": if slot.rights == Rights::Full { "full" } else { "put-only" },
        "kind": kind_of(slot),
    })
}

fn add(context: &Context, args: &AccessAddArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let access = repository.access()?;
    if repository.rights() == Some(Rights::PutOnly) {
        bail!(Error::new(ErrorKind::NeedsKey, "this key can save but not read: keys are given with a full key"));
    }
    let unlock = context.keys().for_new_key(&args.new, &args.label)?;
    let rights = if args.put_only { Rights::PutOnly } else { Rights::Full };
    let slot = access.add_key(&NewKey { rights, ..NewKey::new(unlock, args.label.clone(), settings::now_ms()) })?;
    if context.json() {
        crate::output::value(&describe(&slot))?;
    }
    let what = if args.put_only { ", which can save but not read" } else { "" };
    context.say(format_args!("gave the key {} ({}){what}", human::printable(&slot.label), slot.id()))?;
    Ok(Outcome::Done)
}

fn remove(context: &Context, args: &AccessRemoveArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let access = repository.access()?;
    context.confirm(&format!("Take the key {} away?", human::printable(&args.key)), args.yes)?;
    let slot = access.remove_key(&args.key)?;
    if context.json() {
        crate::output::value(&describe(&slot))?;
    }
    context.say(format_args!("took the key {} away; what is written from now on it cannot read", human::printable(&slot.label)))?;
    Ok(Outcome::Done)
}

fn rotate(context: &Context) -> Result<Outcome> {
    let repository = context.repository()?;
    let epochs = repository.access()?.rotate_keys()?;
    if context.json() {
        crate::output::value(&json!({ "rotations": epochs - 1 }))?;
    }
    let keys: Vec<String> = repository.access()?.keys()?.iter().map(|slot| human::printable(&slot.label)).collect();
    context.say(format_args!("what is written from now on has new secrets, which these keys open: {}", keys.join(", ")))?;
    Ok(Outcome::Done)
}
