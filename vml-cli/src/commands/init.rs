//! `vml init`

use super::{Context, Outcome};
use crate::args::InitArgs;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use vml_chunk::seal::NewKey;
use vml_core::repository::{ChunkerParams, Policy};
use vml_core::{Config, Error, Repository};

pub fn run(context: &Context, args: &InitArgs) -> Result<Outcome> {
    let place = context.place()?;
    let mut config = Config::new(settings::random_id()?, settings::now_ms());
    if let Some(level) = args.level {
        config.level = level;
    }
    if let Some(frame) = args.frame {
        config.frame_len = frame;
    }
    if let Some(chunker) = &args.chunker {
        config.chunker = parse_chunker(chunker)?;
    }
    config.check()?;
    let key = match args.encrypt {
        true => {
            let label = args.label.clone().unwrap_or_else(settings::author);
            Some(NewKey::new(context.keys().for_new_repository()?, label, settings::now_ms()))
        }
        // Whoever has set one expects that it is used.
        false if context.keys().given()?.is_some() => {
            bail!(Error::invalid("a passphrase or a key is given, by an option or a variable, but not --encrypt"))
        }
        false => None,
    };
    let init = place.create().and_then(|backend| match &key {
        Some(key) => Ok(Repository::init_encrypted(&backend, config, context.options(), key)?),
        None => Ok(Repository::init(backend, config, context.options())?),
    });
    let repository = init.with_context(|| format!("cannot make a repository in {place}"))?;
    if let Some(percent) = args.parity.filter(|percent| *percent > 0) {
        repository.set_policy(&Policy { parity_percent: percent, ..Policy::default() })?;
    }
    if context.json() {
        crate::output::value(&json!({ "repository": crate::output::json::place(&place), "encrypted": key.is_some() }))?;
    }
    let what = if key.is_some() { "an encrypted repository" } else { "a repository" };
    context.say(format_args!("made {what} in {place}"))?;
    Ok(Outcome::Done)
}

/// Reads `fastcdc:2K/8K/64K` or `fixed:4K`.
pub(super) fn parse_chunker(text: &str) -> Result<ChunkerParams> {
    let wrong = || Error::invalid(format!("{text:?} is no chunker: write fastcdc:2K/8K/64K or fixed:4K"));
    let size = |text: &str| settings::parse_size(text).ok_or_else(wrong);
    let (name, sizes) = text.split_once(':').ok_or_else(wrong)?;
    Ok(match (name, sizes.split('/').collect::<Vec<_>>().as_slice()) {
        ("fastcdc", [min, avg, max]) => {
            ChunkerParams::FastCdc2020 { min_len: size(min)?, avg_len: size(avg)?, max_len: size(max)?, normalization: 1, seed: 0 }
        }
        ("fixed", [len]) => ChunkerParams::Fixed { len: size(len)? },
        _ => bail!(wrong()),
    })
}
