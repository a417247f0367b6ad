//! `vml token`

use super::{Context, Outcome};
use crate::args::TokenCommand;
use crate::output::human;
use crate::tokens;
use crate::{output, settings};
use anyhow::Result;
use serde_json::json;

pub fn run(context: &Context, command: TokenCommand) -> Result<Outcome> {
    match command {
        TokenCommand::New(args) => {
            let path = tokens::path(args.file.tokens.as_deref())?;
            let token = tokens::create(&path, &args.name, &args.scopes, settings::now_ms())?;
            if context.json() {
                output::value(&json!({ "name": args.name, "scopes": args.scopes, "token": token }))?;
            } else {
                output::line(&token)?;
                if !context.global.quiet {
                    output::complain("vml: this is the only time that the token is shown");
                }
            }
        }
        TokenCommand::List(args) => {
            let tokens = tokens::list(&tokens::path(args.tokens.as_deref())?)?;
            if tokens.is_empty() {
                context.say("no tokens yet; `vml token new` makes one")?;
            }
            for token in tokens {
                let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
                if context.json() {
                    let time = human::time_utc(token.made_ms);
                    output::value(&json!({ "name": token.name, "scopes": scopes, "time": time, "time_ms": token.made_ms }))?;
                }
                context.say(format_args!("{:<16} {}  {}", token.name, human::time(token.made_ms), scopes.join(",")))?;
            }
        }
        TokenCommand::Revoke(args) => {
            tokens::revoke(&tokens::path(args.file.tokens.as_deref())?, &args.name)?;
            if context.json() {
                output::value(&json!({ "revoked": args.name }))?;
            }
            context.say(format_args!("revoked {}", args.name))?;
        }
    }
    Ok(Outcome::Done)
}
