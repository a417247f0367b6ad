//! What VML needs to know of a domain.

use super::tree::Tree;
use std::path::PathBuf;
use vml_core::{Error, Result};

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainXml {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The type of machine, such as `pc-q35-10.0`.
    pub machine: Option<String>,
    /// Whose virtual machine it is, such as `kvm` or `xen`.
    pub kind: String,
    /// Its disks, without those whose medium can be taken out.
    pub disks: Vec<XmlDisk>,
    /// Folders of images that its disks stand on, as far as the description tells.
    pub backing_dirs: Vec<PathBuf>,
    /// Whether a guest agent is connected; only a running domain's description tells.
    pub agent: bool,
}

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmlDisk {
    /// As what the guest sees it, such as `vda`: by this a domain's disks are told apart.
    pub target: String,
    /// Its image, where that is a file or a device of the host.
    pub file: Option<PathBuf>,
    /// The image's format.
    pub format: String,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
}

/// Reads a description.
///
/// # Errors
/// `InvalidInput` for what describes no domain.
pub fn read(text: &str) -> Result<DomainXml> {
    let tree = Tree::read(text)?;
    if tree.elements[0].name != "domain" {
        return Err(Error::invalid(format!("it describes no domain, but is <{}>", tree.elements[0].name)));
    }
    let name = tree.text(0, &["name"]).filter(|name| !name.is_empty()).ok_or_else(|| Error::invalid("the domain has no name"))?;
    let devices = tree.find(0, &["devices"]);
    let mut disks = Vec::new();
    let mut backing_dirs = Vec::new();
    for at in devices.iter().flat_map(|devices| tree.children(*devices, "disk")).filter(|at| is_disk(&tree, *at)) {
        let target = tree.value(at, &["target"], "dev").ok_or_else(|| Error::invalid("a disk of the domain has no target"))?;
        disks.push(XmlDisk {
            target: target.to_owned(),
            file: file(&tree, at),
            format: tree.value(at, &["driver"], "type").unwrap_or("raw").to_owned(),
            read_only: tree.find(at, &["readonly"]).is_some(),
        });
        let mut below = at;
        while let Some(next) = tree.find(below, &["backingStore"]) {
            below = next;
            backing_dirs.extend(file(&tree, next).and_then(|file| file.parent().map(PathBuf::from)));
        }
    }
    backing_dirs.sort();
    backing_dirs.dedup();
    let agent = |at: usize| {
        let target = tree.find(at, &["target"]).map(|at| &tree.elements[at]);
        target.is_some_and(|target| target.value("name") == Some("org.qemu.guest_agent.0") && target.value("state") == Some("connected"))
    };
    Ok(DomainXml {
        name: name.to_owned(),
        uuid: tree.text(0, &["uuid"]).map(str::to_owned),
        memory_bytes: memory(&tree)?,
        machine: tree.value(0, &["os", "type"], "machine").map(str::to_owned),
        kind: tree.elements[0].value("type").unwrap_or_default().to_owned(),
        disks,
        backing_dirs,
        agent: devices.iter().flat_map(|devices| tree.children(*devices, "channel")).any(agent),
    })
}

/// Whether a `disk` element is a disk, not a drive whose medium can be taken out.
pub(super) fn is_disk(tree: &Tree, at: usize) -> bool {
    matches!(tree.elements[at].value("device"), None | Some("disk" | "lun"))
}

fn file(tree: &Tree, at: usize) -> Option<PathBuf> {
    tree.value(at, &["source"], "file").or_else(|| tree.value(at, &["source"], "dev")).map(PathBuf::from)
}

fn memory(tree: &Tree) -> Result<u64> {
    let bad = || Error::invalid("the domain's description does not say how much memory it has");
    let at = tree.find(0, &["memory"]).ok_or_else(bad)?;
    let number: u64 = tree.elements[at].text.parse().ok().ok_or_else(bad)?;
    let unit = match tree.elements[at].value("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(unit).ok_or_else(bad)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const DOMAIN: &str = r"<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web &amp; co</name>
  <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>
  <metadata><my:note xmlns:my='http://example.org/'>kept  as   it is</my:note></metadata>
  <memory unit='MiB'>512</memory>
  <sysinfo type='smbios'><system><entry name='uuid'>c7a5fdbd-edaf-9455-926a-d65c16db1809</entry></system></sysinfo>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type><nvram template='/usr/share/OVMF/VARS.fd'>/var/lib/libvirt/qemu/nvram/web.fd</nvram></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='/images/web.qcow2'><seclabel model='dac' relabel='no'/></source>
      <backingStore type='file'><format type='raw'/><source file='/bases/debian.raw'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='block'><source dev='/dev/vg/data'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><source file='/iso/debian.iso'/><target dev='sda'/><readonly/></disk>
    <interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/></interface>
    <interface type='network'><mac address='52:54:00:11:22:34'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <unheard-of x='1'>  <of/>  </unheard-of>
  </devices>
</domain>
";

    #[test]
    fn a_domain_is_read() {
        let domain = read(DOMAIN).unwrap();
        assert_eq!((domain.name.as_str(), domain.memory_bytes, domain.agent), ("web & co", 512 << 20, true));
        assert_eq!(domain.machine.as_deref(), Some("pc-q35-10.0"));
        let disks: Vec<_> = domain.disks.iter().map(|disk| (disk.target.as_str(), disk.format.as_str(), disk.file.as_deref())).collect();
        let path = std::path::Path::new;
        assert_eq!(disks, [("vda", "qcow2", Some(path("/images/web.qcow2"))), ("vdb", "raw", Some(path("/dev/vg/data")))]);
        assert_eq!(domain.backing_dirs, [path("/bases")]);
        for wrong in [
            "<network/>",
            "<domain/>",
            "<domain><name>a</name></domain>",
            "<domain><name>a</name><memory unit='GiB'>99999999999999</memory></domain>",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
