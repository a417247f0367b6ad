//! Measurements: what the benches of the hot parts share, and the comparison with other tools (`--bin compare`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod compare;
pub mod sample;
