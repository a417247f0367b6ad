//! Machines of libvirt, where this `vml` was built with it.

use crate::areas::Area;
use crate::images::DiskImage;
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use vml_core::Error;
use vml_core::entry::MachinePart;
use vml_core::machine::Machine;
use vml_hv::libvirt::xml::{self, Adaptation, NewDisk};

/// The file's name that says that a description is libvirt's.
const FILE_NAME: &str = "domain.xml";

/// Opens the machine at `URI/DOMAIN`.
#[cfg(feature = "libvirt")]
pub fn open(uri: &str, area: &Area) -> Result<Box<dyn Machine>> {
    Ok(Box::new(vml_hv::libvirt::LibvirtMachine::open(uri, options(&area.allow_dir))?))
}

#[cfg(feature = "libvirt")]
fn options(allow_dir: &[PathBuf]) -> vml_hv::libvirt::LibvirtOptions {
    vml_hv::libvirt::LibvirtOptions { allowed_dirs: allow_dir.to_vec(), ..vml_hv::libvirt::LibvirtOptions::default() }
}

#[cfg(not(feature = "libvirt"))]
pub fn open(_: &str, _: &Area) -> Result<Box<dyn Machine>> {
    bail!(left_out())
}

#[cfg(not(feature = "libvirt"))]
fn left_out() -> Error {
    let message = "this vml was built without libvirt: build it with --features libvirt, for which libvirt's headers are needed";
    Error::new(vml_core::ErrorKind::UnsupportedFormat, message)
}

/// A saved description as that of a machine called `name` with these images, and what it reaches for on the host.
pub fn adapt(saved: Option<&MachinePart>, name: &str, images: &[DiskImage]) -> Result<(String, Vec<String>)> {
    let Some(saved) = saved.filter(|saved| saved.name == FILE_NAME) else {
        let message = "the entry was not saved from a machine of libvirt: without --libvirt it becomes one that VML runs with QEMU";
        bail!(Error::invalid(message));
    };
    let text = std::str::from_utf8(&saved.bytes).map_err(|_| Error::corrupt("the saved machine's description is no text"))?;
    let disk = |image: &DiskImage| NewDisk {
        target: image.name.clone(),
        file: image.file.clone(),
        format: image.format.clone().unwrap_or_else(|| "raw".to_owned()),
    };
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot make up a UUID")?;
    let new = Adaptation { name: name.to_owned(), uuid: uuid.trim().to_owned(), disks: images.iter().map(disk).collect() };
    let adapted = xml::adapt(text, &new).context("the saved machine's description cannot be used")?;
    let reaches = xml::reaches(&adapted)?;
    Ok((adapted, reaches))
}

/// Makes it known to libvirt; tells its `URI/DOMAIN`.
#[cfg(feature = "libvirt")]
pub fn define(uri: &str, description: &str, allow_dir: &[PathBuf]) -> Result<String> {
    let machine = vml_hv::libvirt::LibvirtMachine::define(uri, description, options(allow_dir))?;
    Ok(machine.uri().to_string())
}

#[cfg(not(feature = "libvirt"))]
pub fn define(_: &str, _: &str, _: &[PathBuf]) -> Result<String> {
    bail!(left_out())
}

/// Makes libvirt forget a machine that was defined here.
#[cfg(feature = "libvirt")]
pub fn undefine(uri: &str) -> Result<()> {
    Ok(vml_hv::libvirt::LibvirtMachine::open(uri, options(&[]))?.undefine()?)
}

#[cfg(not(feature = "libvirt"))]
pub fn undefine(_: &str) -> Result<()> {
    bail!(left_out())
}
