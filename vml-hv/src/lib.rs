//! What VML knows of guests and of the hypervisors that run them.
//!
//! [`guest`] looks at a directory tree and tells whether it is the root of a Linux guest, which one, whom its numeric
//! owners are, and what of it is not worth keeping. [`image`] reads and writes disk images, [`nbd`] reads disks that a server
//! exports, [`qemu`], [`libvirt`] and [`vmware`] run machines, [`ssh`] reaches into guests that run.

mod command;
pub mod guest;
pub mod image;
pub mod libvirt;
pub mod nbd;
pub mod qemu;
pub mod ssh;
pub mod vmware;

use vml_core::machine::Capabilities;

/// What each adapter can do, also those that this build leaves out; `docs/hypervisors.md` has it as a table.
pub fn capabilities() -> Vec<Capabilities> {
    vec![qemu::CAPABILITIES, libvirt::QEMU, libvirt::XEN, libvirt::OTHER, vmware::CAPABILITIES]
}
