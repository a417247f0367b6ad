//! One suite over every hypervisor, on a guest that is really booted. `scripts/test-machines.sh` makes the guest and runs it.
#![allow(clippy::unwrap_used, missing_docs)]

mod guest;
#[cfg(feature = "libvirt")]
mod libvirt;
mod qemu;
mod suite;
mod vmware;
