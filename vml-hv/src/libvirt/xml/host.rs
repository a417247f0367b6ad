//! What of its host a domain reaches for. An entry's description may be somebody else's: who builds it should know.

use super::read::is_disk;
use super::tree::Tree;
use vml_core::Result;

/// Folders of programs and firmware that belong to the host's own packages.
const PACKAGED: [&str; 4] = ["/usr/bin/qemu-system-", "/usr/libexec/qemu", "/usr/share/", "/usr/lib/xen"];

/// Names, in the description's order, what a domain would use of its host besides its disks, ordinary networks and screens: files,
/// devices, programs and raw arguments of the emulator.
///
/// # Errors
/// `InvalidInput` for what is no XML.
pub fn reaches(text: &str) -> Result<Vec<String>> {
    let tree = Tree::read(text)?;
    let mut found = Vec::new();
    for (at, element) in tree.elements.iter().enumerate() {
        let parent = element.parent.map(|at| tree.elements[at].name.as_str()).unwrap_or_default();
        let kind = element.value("type").unwrap_or_default();
        // Attributes of any element may name a file.
        match (parent, element.name.as_str()) {
            ("domain", name) if name.contains(':') => found.push(format!("raw settings of the hypervisor (<{name}>)")),
            ("devices", "emulator") | ("os", "loader" | "kernel" | "initrd" | "dtb" | "nvram") => {
                let path = &element.text;
                if !path.is_empty() && (path.contains("..") || !PACKAGED.iter().any(|folder| path.starts_with(folder))) {
                    found.push(format!("the {} {path}", element.name));
                }
            }
            ("domain", "bootloader") => found.push(format!("the program {}", element.text)),
            ("devices", "hostdev" | "filesystem" | "shmem" | "redirdev" | "vsock" | "crypto") => {
                found.push(format!("a device of the kind {}", element.name));
            }
            ("devices", "interface") if !matches!(kind, "network" | "user" | "bridge") => {
                found.push(format!("a network card of the type {kind:?}"));
            }
            ("interface", "script" | "downscript") => found.push(format!("the program {}", element.value("path").unwrap_or_default())),
            ("devices", "disk") if !is_disk(&tree, at) && tree.find(at, &["source"]).is_some() => {
                let source = tree.find(at, &["source"]).map(|source| &tree.elements[source]);
                let path = source.and_then(|source| source.attributes.first()).map(|attribute| attribute.value.as_str());
                found.push(format!("the medium {}", path.unwrap_or_default()));
            }
            ("devices", "serial" | "console" | "parallel" | "channel" | "smartcard")
                if !matches!(kind, "pty" | "spicevmc" | "null" | "vc") =>
            {
                // A socket that libvirt names itself is a machine's own.
                let own = kind == "unix" && tree.value(at, &["source"], "path").is_none();
                if !own {
                    found.push(format!("a {} of the type {kind:?}", element.name));
                }
            }
            ("devices", "input") if matches!(kind, "passthrough" | "evdev") => found.push("an input device of the host".to_owned()),
            ("tpm", "backend") if kind != "emulator" => found.push(format!("a TPM of the type {kind:?}")),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::DOMAIN;
    use super::*;

    #[test]
    fn what_a_stranger_could_ask_for_is_named() {
        let told = reaches(DOMAIN).unwrap();
        assert_eq!(told, ["the nvram /var/lib/libvirt/qemu/nvram/web.fd", "the medium /iso/debian.iso"]);
        let evil = "<domain xmlns:qemu='q'><os><kernel>/etc/shadow</kernel><loader>/usr/share/../../evil</loader></os><devices>
            <emulator>/tmp/evil</emulator><filesystem/><hostdev/><serial type='file'><source path='/etc/passwd'/></serial>
            <interface type='ethernet'><script path='/tmp/run'/></interface></devices>
            <qemu:commandline><qemu:arg value='-drive'/></qemu:commandline></domain>";
        assert_eq!(reaches(evil).unwrap().len(), 9);
        assert_eq!(reaches("<domain><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>").unwrap(), [""; 0]);
    }
}
