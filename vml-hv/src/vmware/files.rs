//! Which files belong to a machine. Its description may be somebody else's: files that it names are taken from its own folder,
//! or from those that the caller allows.

use super::vmx::Vmx;
use std::fs;
use std::path::{Component, Path, PathBuf};
use vml_core::machine::MachineDisk;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// Longest description that is read.
const VMX_MAX: u64 = 4 << 20;
/// What disks hang on.
const BUSES: [&str; 4] = ["scsi", "sata", "nvme", "ide"];
/// Where a description says what memory a suspended machine has.
pub(super) const STATE: &str = "checkpoint.vmState";

/// Reads a description, or what is written like one.
pub(super) fn read(path: &Path) -> Result<Vmx> {
    let failed = || format!("cannot read the machine's description {}", path.display());
    let meta = fs::metadata(path).at(failed)?;
    if !meta.is_file() || meta.len() > VMX_MAX {
        return Err(Error::invalid(format!("{} is no description of a machine of VMware", path.display())));
    }
    Vmx::parse(&fs::read(path).at(failed)?).map_err(|error| error.context(format!("cannot use {}", path.display())))
}

/// Writes a description, at once.
pub(super) fn write(path: &Path, vmx: &Vmx) -> Result<()> {
    let part = path.with_extension("vmx.part");
    let written = fs::write(&part, vmx.to_bytes()).and_then(|()| fs::rename(&part, path));
    written.at(|| format!("cannot write {}", path.display()))
}

/// The disks that a description in the folder `dir` names, by where they hang: `scsi0-1`.
pub(super) fn disks(dir: &Path, vmx: &Vmx) -> Result<Vec<MachineDisk>> {
    let mut disks: Vec<MachineDisk> = Vec::new();
    for (key, _) in vmx.settings() {
        let Some(place) = key.to_ascii_lowercase().strip_suffix(".filename").map(str::to_owned) else { continue };
        let numbers = BUSES.iter().find_map(|bus| place.strip_prefix(bus)).and_then(|rest| rest.split_once(':'));
        let is_number = |text: &str| !text.is_empty() && text.len() < 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !numbers.is_some_and(|(bus, unit)| is_number(bus) && is_number(unit)) || !vmx.is_true(&format!("{place}.present")) {
            continue;
        }
        let kind = vmx.get(&format!("{place}.deviceType")).unwrap_or("disk").to_ascii_lowercase();
        if !(kind == "disk" || kind.ends_with("harddisk")) {
            continue;
        }
        let name = place.replace(':', "-");
        let file = vmx.get(key).unwrap_or_default();
        if !file.to_ascii_lowercase().ends_with(".vmdk") || disks.iter().any(|disk| disk.name == name) {
            return Err(Error::invalid(format!("the machine's disk {place} has no image of its own: {file:?}")));
        }
        disks.push(MachineDisk { name, file: dir.join(file), format: "vmdk".to_owned() });
    }
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(disks)
}

/// The file in `dir` that a description means by `name`, which is a name and no path.
pub(super) fn inside(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) => Ok(dir.join(only)),
        _ => Err(Error::new(ErrorKind::PermissionDenied, format!("the machine's description names {name:?}, which is not in its folder"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_those_with_images_that_are_present() {
        let text = b"scsi0:1.fileName = \"data.vmdk\"\nscsi0:1.present = \"TRUE\"\nSCSI0:0.FILENAME = \"/images/a.vmdk\"\nscsi0:0.present = \"true\"\n\
            scsi0:0.deviceType = \"scsi-hardDisk\"\nide1:0.fileName = \"x.iso\"\nide1:0.present = \"TRUE\"\nide1:0.deviceType = \"cdrom-image\"\n\
            sata0:0.fileName = \"gone.vmdk\"\nfloppy0.fileName = \"f.img\"\nscsi0:x.fileName = \"y.vmdk\"\n";
        let found = disks(Path::new("/vm"), &Vmx::parse(text).unwrap()).unwrap();
        let found: Vec<_> = found.iter().map(|disk| (disk.name.as_str(), disk.file.to_str().unwrap())).collect();
        assert_eq!(found, [("scsi0-0", "/images/a.vmdk"), ("scsi0-1", "/vm/data.vmdk")]);
        let raw = b"scsi0:0.fileName = \"/dev/sda\"\nscsi0:0.present = \"TRUE\"\n";
        assert!(disks(Path::new("/vm"), &Vmx::parse(raw).unwrap()).is_err());
    }

    #[test]
    fn state_lies_in_the_machines_folder() {
        assert_eq!(inside(Path::new("/vm"), "a.vmss").unwrap(), Path::new("/vm/a.vmss"));
        for name in ["", "/etc/shadow", "../a", "a/../../b", "."] {
            assert_eq!(inside(Path::new("/vm"), name).unwrap_err().kind(), ErrorKind::PermissionDenied, "{name}");
        }
    }
}
