//! Looks for what should not leave the house: private keys, credentials, tokens, histories.
//!
//! Only what a share file would carry is looked at: files that are new or differ from those that the receiver has. Rules are data, see `rules.toml` beside this
//! file and `docs/sharing.md`. What is found is told by path and rule, never by its content.

mod content;
mod rules;
mod scan;

pub use rules::SecretRules;
pub use scan::{Finding, Found, scan};
