//! `vml key`

use super::{Context, Outcome};
use crate::args::{KeyCommand, KeyPolicyArgs, KeyTrustArgs};
use crate::keys::{self, KnownKey};
use crate::output::human;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;
use vml_core::repository::Policy;
use vml_core::{Error, IoResultExt as _};

pub fn run(context: &Context, command: KeyCommand) -> Result<Outcome> {
    match command {
        KeyCommand::New(args) => {
            let key = keys::create(&args.name)?;
            told(context, &key, "made")?;
        }
        KeyCommand::List => {
            let keys = keys::list()?;
            if keys.is_empty() {
                context.say("no keys yet; `vml key new` makes one")?;
            }
            for key in keys {
                if context.json() {
                    crate::output::value(&describe(&key))?;
                }
                let whose = if key.own { "yours" } else { "trusted" };
                context.say(format_args!("{:<16} {whose:<8} {}  {}", key.name, key.key, human::printable(&key.comment)))?;
            }
        }
        KeyCommand::Trust(args) => trust(context, args)?,
        KeyCommand::Policy(args) => policy(context, &args)?,
        KeyCommand::Export(args) => {
            let keys = keys::list()?;
            let Some(key) = keys.iter().find(|key| key.name == args.name) else {
                bail!(Error::not_found(format!("there is no key {:?}; `vml key list` shows the keys", args.name)))
            };
            if context.json() {
                crate::output::value(&describe(key))?;
            } else {
                crate::output::line(key.key.to_openssh(&key.comment))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn trust(context: &Context, args: KeyTrustArgs) -> Result<()> {
    if let Some(name) = args.remove {
        keys::distrust(&name)?;
        if context.json() {
            crate::output::value(&json!({ "removed": name }))?;
        }
        return context.say(format_args!("{name} is trusted no longer"));
    }
    let (Some(name), Some(key)) = (args.name, args.key) else { bail!(Error::invalid("say whose key it is, and the key")) };
    let text = match key.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut text).at(|| "cannot read standard input".to_owned())?;
            text
        }
        text if text.starts_with("ssh-") => text.to_owned(),
        path => keys::read_text(Path::new(path))?,
    };
    told(context, &keys::trust(&name, &text)?, "trusted")
}

fn told(context: &Context, key: &KnownKey, what: &str) -> Result<()> {
    if context.json() {
        crate::output::value(&describe(key))?;
    }
    context.say(format_args!("{what} the key {}: {}", key.name, key.key))
}

fn describe(key: &KnownKey) -> Value {
    json!({ "name": key.name, "own": key.own, "fingerprint": key.key.fingerprint(), "key": key.key.to_openssh(&key.comment) })
}

fn policy(context: &Context, args: &KeyPolicyArgs) -> Result<()> {
    let repository = context.repository()?;
    if args.require_signed || args.allow_unsigned {
        let policy = repository.policy()?;
        repository.set_policy(&Policy { require_signed: args.require_signed, ..policy })?;
    }
    let policy = repository.policy()?;
    if context.json() {
        crate::output::value(&json!({ "require_signed": policy.require_signed }))?;
    }
    context.say(if policy.require_signed {
        "entries are taken from files that a trusted key has signed, and from remotes that are your own"
    } else {
        "entries are taken from files and remotes whether they are signed or not"
    })
}
