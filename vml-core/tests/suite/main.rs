//! Everything about `vml-core` that is tested through its public interface, in one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;
mod counting;
mod damage;
mod existing;
mod format_page;
mod restore;
mod round_trip;
mod support;
mod hostile;
mod faults;
mod names;
mod trouble;
