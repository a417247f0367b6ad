//! Disk images on the host: raw, qcow2, vmdk.
