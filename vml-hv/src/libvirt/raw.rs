//! Calls of libvirt that the crate `virt` does not wrap. All `unsafe` code of the adapter is here.
//!
//! What a [`Domain`] points to lives as long as the value does; every pointer that libvirt gives away is freed here, with the function
//! that its documentation names, and is not kept.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Once;
use virt::domain::Domain;
use virt::error::Error as VirtError;
use virt::sys;
use vml_core::{Error, Result};

/// Keeps libvirt from writing its errors to this process's own output.
pub(super) fn quiet() {
    static ONCE: Once = Once::new();
    extern "C" fn nothing(_: *mut c_void, _: sys::virErrorPtr) {}
    // SAFETY: the function lives as long as the process and uses neither of its arguments.
    ONCE.call_once(|| unsafe { sys::virSetErrorFunc(ptr::null_mut(), Some(nothing)) });
}

fn text(value: &str) -> Result<CString> {
    CString::new(value).map_err(|error| Error::invalid("a text for libvirt has a zero byte in it").because(error))
}

fn done(code: c_int) -> Result<()> {
    if code < 0 { Err(super::error::from_virt(&VirtError::last_error())) } else { Ok(()) }
}

/// A text that libvirt made for its caller.
fn taken(text: *mut c_char) -> Result<String> {
    if text.is_null() {
        return Err(super::error::from_virt(&VirtError::last_error()));
    }
    // SAFETY: it is not null, and ends with a zero byte.
    let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: libvirt made it with malloc for its caller to free; it is not used after this.
    unsafe { libc::free(text.cast()) };
    Ok(owned)
}

/// Begins a backup, and makes a checkpoint at the same moment.
pub(super) fn backup_begin(domain: &Domain, backup: &str, checkpoint: Option<&str>) -> Result<()> {
    let backup = text(backup)?;
    let checkpoint = checkpoint.map(text).transpose()?;
    let second = checkpoint.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: the domain is alive, the texts end with a zero byte and outlive the call; a null checkpoint means none.
    done(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), second, 0) })
}

/// The backup that is under way, in libvirt's words.
pub(super) fn backup_xml(domain: &Domain) -> Result<String> {
    // SAFETY: the domain is alive.
    taken(unsafe { sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0) })
}

/// Ends what the domain is doing for somebody: a backup, or writing its memory.
pub(super) fn abort_job(domain: &Domain) -> Result<()> {
    // SAFETY: the domain is alive.
    done(unsafe { sys::virDomainAbortJob(domain.as_ptr()) })
}

/// A checkpoint, freed when it is dropped.
struct Checkpoint(sys::virDomainCheckpointPtr);

impl Drop for Checkpoint {
    fn drop(&mut self) {
        // SAFETY: it is a checkpoint that libvirt gave to its caller, and nobody uses it after this.
        unsafe { sys::virDomainCheckpointFree(self.0) };
    }
}

/// A domain's checkpoints in libvirt's words, without what the domain was; parents come before children.
pub(super) fn checkpoints(domain: &Domain) -> Result<Vec<String>> {
    let mut list: *mut sys::virDomainCheckpointPtr = ptr::null_mut();
    // SAFETY: the domain is alive; libvirt puts a new list into `list`, or leaves it null.
    let count = unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), &mut list, sys::VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL) };
    done(count)?;
    // SAFETY: libvirt says that the list has `count` checkpoints; each is taken out once, and owned from here on.
    let owned: Vec<Checkpoint> = (0..usize::try_from(count).unwrap_or(0)).map(|at| Checkpoint(unsafe { *list.add(at) })).collect();
    // SAFETY: the list itself was made with malloc for its caller to free; its members are not freed by this.
    unsafe { libc::free(list.cast()) };
    // SAFETY: every checkpoint of the list is alive.
    owned.iter().map(|one| taken(unsafe { sys::virDomainCheckpointGetXMLDesc(one.0, sys::VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN) })).collect()
}

fn checkpoint(domain: &Domain, name: &str) -> Result<Checkpoint> {
    let name = text(name)?;
    // SAFETY: the domain is alive, and the name outlives the call.
    let found = unsafe { sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0) };
    if found.is_null() { Err(super::error::from_virt(&VirtError::last_error())) } else { Ok(Checkpoint(found)) }
}

/// A checkpoint with everything that libvirt needs to know it again.
pub(super) fn checkpoint_xml(domain: &Domain, name: &str) -> Result<String> {
    let found = checkpoint(domain, name)?;
    // SAFETY: the checkpoint is alive.
    taken(unsafe { sys::virDomainCheckpointGetXMLDesc(found.0, sys::VIR_DOMAIN_CHECKPOINT_XML_SECURE) })
}

/// Says anew what a checkpoint is; its name and its disks stay.
pub(super) fn checkpoint_redefine(domain: &Domain, xml: &str) -> Result<()> {
    let xml = text(xml)?;
    // SAFETY: the domain is alive, and the text outlives the call.
    let made = unsafe { sys::virDomainCheckpointCreateXML(domain.as_ptr(), xml.as_ptr(), sys::VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE) };
    if made.is_null() {
        return Err(super::error::from_virt(&VirtError::last_error()));
    }
    drop(Checkpoint(made));
    Ok(())
}

/// Deletes a checkpoint with what it knows; with `name_only` the images keep it.
pub(super) fn checkpoint_delete(domain: &Domain, name: &str, name_only: bool) -> Result<()> {
    let flags = if name_only { sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY } else { 0 };
    let found = checkpoint(domain, name)?;
    // SAFETY: the checkpoint is alive.
    done(unsafe { sys::virDomainCheckpointDelete(found.0, flags) })
}

/// Limits how long libvirt waits for the guest's agent.
pub(super) fn agent_limit(domain: &Domain, seconds: c_int) -> Result<()> {
    // SAFETY: the domain is alive.
    done(unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) })
}

/// Makes the guest's file systems quiet.
pub(super) fn freeze(domain: &Domain) -> Result<()> {
    // SAFETY: the domain is alive; no list of mount points means all of them.
    done(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0 as c_uint, 0) })
}

/// Lets them go on.
pub(super) fn thaw(domain: &Domain) -> Result<()> {
    // SAFETY: as above.
    done(unsafe { sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0 as c_uint, 0) })
}
