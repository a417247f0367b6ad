//! QEMU, without anything in between: machines that VML starts, described by a `machine.toml` in a folder of their own.
//!
//! ```text
//! machine   one machine                    config    what it is: machine.toml
//! session   its disks while it runs        memory    its memory, to a file and back
//! process   the emulator                   qmp       its protocol
//! ```
//! Nothing but `qemu-system-*` is needed. State lies in the folder only: whoever opens a machine finds out what it does by asking QEMU.

mod config;
mod machine;
mod memory;
mod process;
mod qmp;
mod session;

pub use config::{Accelerator, CONFIG_FILE, DiskConfig, Kernel, MachineConfig};
pub use machine::{CAPABILITIES, QemuMachine, QemuOptions};
pub use qmp::Qmp;
