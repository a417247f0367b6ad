//! VMware Workstation and Fusion, through their program `vmrun`.
//!
//! ```text
//! machine   one .vmx                          session   its disks while it runs: a snapshot, deleted at the end
//! vmx       its description, read and written   memory    its memory: .vmem and .vmss
//! vmrun     the program                       files     which files are whose
//! ```
//! A snapshot freezes the images that the machine had; VMware writes to new ones that stand on them. The frozen ones are read, and the
//! snapshot is deleted at the end, which merges what was written meanwhile. VMware itself cannot be had by a test: what is tested is
//! tested with a program that takes its place and drives QEMU (`vml-hv/tests/vmrun`).

mod files;
mod machine;
mod memory;
mod session;
mod vmrun;
mod vmx;

pub use machine::{CAPABILITIES, VmwareMachine, VmwareOptions};
pub use vmx::Vmx;
