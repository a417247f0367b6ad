//! `vml base catalogue`

use super::{Context, Outcome};
use crate::args::CatalogueCommand;
use crate::catalogues::{self, Loaded, Place};
use crate::online::Settings;
use crate::output::human;
use anyhow::Result;
use serde_json::{Value, json};
use vml_core::refs::RefKind;
use vml_core::share::PublicKey;

pub fn run(context: &Context, command: CatalogueCommand) -> Result<Outcome> {
    match command {
        CatalogueCommand::List => list(context)?,
        CatalogueCommand::Add(args) => {
            let place = Place::of(&args.at, args.require_signed)?;
            let loaded = catalogues::load(&Settings::read()?.network(None)?, &place)?;
            let place = catalogues::add(&args.name, &args.at, args.require_signed)?;
            if context.json() {
                let mut value = describe(&place);
                value["bases"] = loaded.catalogue.offers.len().into();
                crate::output::value(&value)?;
            }
            let bases = human::counted(loaded.catalogue.offers.len() as u64, "base");
            context.say(format_args!("added the catalogue {}: {bases}, {}", place.name, signed(&loaded)))?;
        }
        CatalogueCommand::Rm(args) => {
            catalogues::remove(&args.name)?;
            if context.json() {
                crate::output::value(&json!({ "removed": args.name }))?;
            }
            context.say(format_args!("{} is asked no more", args.name))?;
        }
        CatalogueCommand::Show(args) => show(context, &args.name)?,
    }
    Ok(Outcome::Done)
}

fn signed(loaded: &Loaded) -> String {
    super::receive::signed_by(loaded.signer.as_ref(), loaded.known_as.as_deref())
}

fn describe(place: &Place) -> Value {
    json!({ "catalogue": place.name, "at": place.at, "require_signed": place.require_signed })
}

fn list(context: &Context) -> Result<()> {
    let places = catalogues::list()?;
    if places.is_empty() {
        context.say("no catalogues yet; `vml base catalogue add NAME URL` adds one")?;
    }
    for place in places {
        if context.json() {
            crate::output::value(&describe(&place))?;
        }
        let signed = if place.require_signed { "  signed only" } else { "" };
        context.say(format_args!("{:<16} {}{signed}", place.name, place.at))?;
    }
    Ok(())
}

fn show(context: &Context, name: &str) -> Result<()> {
    let known = catalogues::list()?.into_iter().find(|place| place.name == name);
    let place = known.map_or_else(|| Place::of(name, false), Ok)?;
    let loaded = catalogues::load(&Settings::read()?.network(None)?, &place)?;
    // There may be no repository yet.
    let here = |base: &str| context.repository().ok().and_then(|repository| repository.refs().get(RefKind::Base, base).ok().flatten());
    for offer in &loaded.catalogue.offers {
        let (base, entry) = (offer.base(), here(&offer.base()));
        if context.json() {
            crate::output::value(&json!({
                "base": base,
                "kind": offer.format.kind(),
                "format": offer.format.name(),
                "compression": offer.compression.name(),
                "architecture": offer.architecture,
                "description": offer.description,
                "bytes": offer.size,
                "digest": offer.digest.to_string(),
                "urls": offer.urls,
                "entry": entry.map(|entry| entry.to_string()),
                "signer": loaded.signer.as_ref().map(PublicKey::fingerprint),
                "known_as": loaded.known_as,
            }))?;
        }
        let here = if entry.is_some() { "here" } else { "" };
        let line = format!(
            "{base:<32} {here:<5} {:>11}  {:<6} {:<8} {}",
            super::fetch::size(offer),
            offer.format.name(),
            offer.architecture,
            human::first_line(&offer.description)
        );
        context.say(line.trim_end())?;
    }
    context.say(format_args!("{}, {}", human::counted(loaded.catalogue.offers.len() as u64, "base"), signed(&loaded)))
}
