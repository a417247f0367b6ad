//! `vml` with machines that really run. `scripts/test-machines.sh` makes the guest and runs these.
#![allow(clippy::unwrap_used, missing_docs)]

mod building;
mod kills;
mod lab;
#[cfg(feature = "libvirt")]
mod libvirt;
mod saving;
mod sharing;
#[allow(dead_code)]
#[path = "../suite/support.rs"]
mod support;
mod switching;
