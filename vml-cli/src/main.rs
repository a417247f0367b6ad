//! `vml`: version control for virtual machines, from the command line.
//!
//! `args` says what can be typed, `commands` does it with one call to the library each, `output` prints. Only here are
//! the environment, the clock and the terminal.

mod areas;
mod args;
mod bases;
mod catalogues;
mod checks;
mod commands;
#[cfg(feature = "object")]
mod credentials;
mod failure;
mod files;
mod guests;
mod images;
mod keys;
mod machines;
// Some of it is for the client of a service, which comes next.
#[allow(dead_code, unused_imports)]
mod net;
mod online;
mod output;
mod places;
mod progress;
mod remotes;
mod service;
mod settings;
mod tokens;
mod unlock;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let (json, quiet) = (args.global.json, args.global.quiet);
    raise_file_limit();
    match commands::run(args) {
        Ok(commands::Outcome::Done) => ExitCode::SUCCESS,
        Ok(commands::Outcome::Problems) => ExitCode::from(1),
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, json, quiet),
    }
}

/// A deep or wide tree needs more open directories than the usual soft limit of 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
