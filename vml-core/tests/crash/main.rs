//! Crashes and faults: every state that a loss of power, a kill or a failing disk can leave, for every command that writes.
//!
//! ```text
//! scenarios  what is there before, and a command; one line adds one        ledger  what was acknowledged, and when
//! local      a loss of power at every place of each, on a local disk        beside  the same, several processes side by side
//! objects    the same in an object store                                    kills   killed at every place; the next one goes on, and then the power goes
//! faults     the Nth operation fails, for every N                           rules   logs that break a rule of write order must be found out
//! sound      what must hold in every state
//! ```
//! `VML_CRASH_ROUNDS` (soak: 100 or more) makes the sampled parts longer, `VML_TEST_SEED` draws other samples. `docs/testing.md` says what a run tries.
#![allow(clippy::unwrap_used, missing_docs)]

mod beside;
mod faults;
mod full;
mod kills;
mod ledger;
mod local;
mod objects;
mod replay;
mod rules;
mod scenarios;
mod sound;
mod world;
