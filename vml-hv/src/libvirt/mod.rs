//! libvirt: machines of QEMU and KVM, with everything; those of Xen and of its other drivers, with what they offer.
//!
//! ```text
//! machine   one domain                       session   its disks while it runs: a backup, and checkpoints
//! memory    its memory: the managed save     xml/      its description, read and adapted
//! saved     the file it is in                uri       where it is
//! call · raw · error   libvirt's calls, with a time limit
//! ```
//! All but `uri` and `xml` needs libvirt's library, and is there with the feature `libvirt`.

pub mod uri;
pub mod xml;

#[cfg(feature = "libvirt")]
mod call;
#[cfg(feature = "libvirt")]
mod error;
#[cfg(feature = "libvirt")]
mod machine;
#[cfg(feature = "libvirt")]
mod memory;
#[cfg(feature = "libvirt")]
mod raw;
#[cfg(feature = "libvirt")]
mod saved;
#[cfg(feature = "libvirt")]
mod session;

#[cfg(feature = "libvirt")]
pub use machine::{LibvirtMachine, LibvirtOptions};

use vml_core::machine::Capabilities;

/// What can be done with machines of QEMU on this host.
pub const QEMU: Capabilities = Capabilities {
    adapter: "libvirt-qemu",
    drives: "QEMU and KVM machines of libvirt on this host",
    live_disks: true,
    changed_ranges: true,
    memory: true,
    suspend: true,
    quiesce: true,
    address: true,
};

/// What can be done with machines of Xen.
pub const XEN: Capabilities = Capabilities {
    adapter: "libvirt-xen",
    drives: "Xen machines of libvirt",
    live_disks: false,
    changed_ranges: false,
    memory: false,
    suspend: true,
    quiesce: false,
    address: true,
};

/// What can be done with other machines of libvirt, and with those on other hosts, whose disks are not here.
pub const OTHER: Capabilities =
    Capabilities { adapter: "libvirt-other", drives: "machines of libvirt's other drivers, and on other hosts", ..XEN };
