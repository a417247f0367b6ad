//! What commands print, for people and as JSON.

pub mod human;
pub mod json;

use anyhow::Result;
use std::io::Write;

/// Prints one line to standard output; a reader that has gone is an error that ends the command quietly.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Tells of trouble on standard error; a reader that has gone does not matter there.
pub fn complain(text: impl std::fmt::Display) {
    _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints one JSON value on a line.
pub fn value(value: &serde_json::Value) -> Result<()> {
    line(value)
}
