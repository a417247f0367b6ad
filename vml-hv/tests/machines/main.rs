//! One suite over every hypervisor: on a guest that is really booted, for which `scripts/test-machines.sh` makes the guest and runs it, and on a
//! fake one, which tells whether the suite asks for no more than the interface promises.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
mod guest;
#[cfg(feature = "libvirt")]
mod libvirt;
mod qemu;
mod suite;
mod vmware;
