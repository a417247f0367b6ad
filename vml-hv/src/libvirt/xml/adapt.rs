//! Makes a domain's XML that of another machine: what names the old one is replaced, everything else stays as it is.

use super::read::is_disk;
use super::tree::{Tree, escaped};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use vml_core::{Error, Result};

/// What is new of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adaptation {
    /// Its name.
    pub name: String,
    /// Its UUID, of which the addresses of its network cards are made too.
    pub uuid: String,
    /// Images of all its disks.
    pub disks: Vec<NewDisk>,
}

/// The image of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// As what the guest sees it, such as `vda`.
    pub target: String,
    /// The image.
    pub file: PathBuf,
    /// The image's format.
    pub format: String,
}

/// A part of the text and what stands there from now on.
type Edit = (Range<usize>, String);

/// Adapts a description.
///
/// # Errors
/// `InvalidInput` for what describes no domain, a name or path that cannot stand in one, and a disk without a new image.
pub fn adapt(text: &str, new: &Adaptation) -> Result<String> {
    let old = super::read(text)?;
    let tree = Tree::read(text)?;
    if new.name.is_empty() || new.name.contains(['/', '\n']) || !is_uuid(&new.uuid) {
        return Err(Error::invalid(format!("{:?} with the UUID {:?} is no name of a domain", new.name, new.uuid)));
    }
    let mut edits: Vec<Edit> = Vec::new();
    let set_text = |edits: &mut Vec<Edit>, at: Option<usize>, value: &str| {
        // An empty `<uuid/>` has no place for one: libvirt makes one up.
        if let Some(element) = at.map(|at| &tree.elements[at]).filter(|element| !element.content.is_empty()) {
            edits.push((element.content.clone(), escaped(value)));
        }
    };
    set_text(&mut edits, tree.find(0, &["name"]), &new.name);
    set_text(&mut edits, tree.find(0, &["uuid"]), &new.uuid);
    // What the firmware tells must be the same UUID.
    if let Some(entries) = tree.find(0, &["sysinfo", "system"]) {
        let is_old = |at: &usize| tree.elements[*at].value("name") == Some("uuid") && Some(&tree.elements[*at].text) == old.uuid.as_ref();
        let entry = tree.children(entries, "entry").find(is_old);
        set_text(&mut edits, entry, &new.uuid);
    }
    // The firmware's variables are one machine's own: libvirt makes a new file from the template.
    if let Some(nvram) = tree.find(0, &["os", "nvram"]) {
        edits.push((tree.elements[nvram].place.clone(), String::new()));
    }
    if let Some(devices) = tree.find(0, &["devices"]) {
        for (i, card) in tree.children(devices, "interface").enumerate() {
            if let Some(address) = tree.find(card, &["mac"]).and_then(|mac| tree.elements[mac].attribute("address")) {
                edits.push((address.place.clone(), mac(&new.uuid, i)));
            }
        }
        for disk in tree.children(devices, "disk").filter(|disk| is_disk(&tree, *disk)) {
            adapt_disk(&tree, text, disk, new, &mut edits)?;
        }
    }
    apply(text, edits)
}

fn adapt_disk(tree: &Tree, text: &str, disk: usize, new: &Adaptation, edits: &mut Vec<Edit>) -> Result<()> {
    let target = tree.value(disk, &["target"], "dev").unwrap_or_default();
    let image = new.disks.iter().find(|image| image.target == target);
    let image = image.ok_or_else(|| Error::invalid(format!("the domain's disk {target} has no image among the new ones")))?;
    let file = image.file.to_str().ok_or_else(|| Error::invalid(format!("{} is not UTF-8", image.file.display())))?;
    let element = &tree.elements[disk];
    match element.attribute("type") {
        Some(kind) => edits.push((kind.place.clone(), "file".to_owned())),
        None => edits.push((behind_name(tree, disk), " type='file'".to_owned())),
    }
    let mut missing = String::new();
    match tree.find(disk, &["driver"]).map(|driver| (driver, tree.elements[driver].attribute("type"))) {
        Some((_, Some(format))) => edits.push((format.place.clone(), escaped(&image.format))),
        Some((driver, None)) => edits.push((behind_name(tree, driver), format!(" type='{}'", escaped(&image.format)))),
        None => _ = write!(missing, "<driver type='{}'/>", escaped(&image.format)),
    }
    match tree.find(disk, &["source"]).map(|source| (source, tree.elements[source].attribute("file"))) {
        Some((_, Some(old))) => edits.push((old.place.clone(), escaped(file))),
        Some((source, None)) => edits.push((tree.elements[source].place.clone(), format!("<source file='{}'/>", escaped(file)))),
        None => _ = write!(missing, "<source file='{}'/>", escaped(file)),
    }
    for below in tree.children(disk, "backingStore") {
        edits.push((tree.elements[below].place.clone(), String::new()));
    }
    if !missing.is_empty() {
        // A disk has a target, so it has content.
        debug_assert!(text[..element.content.start].ends_with('>'));
        edits.push((element.content.start..element.content.start, missing));
    }
    Ok(())
}

/// The place for another attribute.
fn behind_name(tree: &Tree, at: usize) -> Range<usize> {
    let element = &tree.elements[at];
    let place = element.place.start + 1 + element.name.len();
    place..place
}

fn apply(text: &str, mut edits: Vec<Edit>) -> Result<String> {
    edits.sort_by_key(|(place, _)| (place.start, place.end));
    let mut out = String::with_capacity(text.len() + 1024);
    let mut at = 0;
    for (place, value) in edits {
        // Nothing is changed within what goes away.
        let kept =
            text.get(at..place.start).ok_or_else(|| Error::invalid("the domain's description cannot be adapted: it contradicts itself"))?;
        out.push_str(kept);
        out.push_str(&value);
        at = place.end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

/// An address of the range that QEMU's cards have.
fn mac(uuid: &str, card: usize) -> String {
    let hash = blake3::hash(format!("{uuid} {card}").as_bytes());
    let bytes = hash.as_bytes();
    format!("52:54:00:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2])
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, byte)| if matches!(i, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::read::tests::DOMAIN;
    use super::*;
    use proptest::prelude::*;

    fn new() -> Adaptation {
        let disk = |target: &str, format: &str| NewDisk {
            target: target.to_owned(),
            file: format!("/new/{target} <'>.img").into(),
            format: format.to_owned(),
        };
        Adaptation {
            name: "copy's".to_owned(),
            uuid: "00000000-1111-2222-3333-444444444444".to_owned(),
            disks: vec![disk("vda", "raw"), disk("vdb", "qcow2")],
        }
    }

    #[test]
    fn what_names_the_old_machine_is_replaced_and_all_else_is_kept() {
        let adapted = adapt(DOMAIN, &new()).unwrap();
        let domain = read(&adapted).unwrap();
        assert_eq!((domain.name.as_str(), domain.uuid.as_deref()), ("copy's", Some("00000000-1111-2222-3333-444444444444")));
        let images: Vec<_> = domain.disks.iter().map(|disk| (disk.file.clone().unwrap(), disk.format.as_str())).collect();
        assert_eq!(images, [("/new/vda <'>.img".into(), "raw"), ("/new/vdb <'>.img".into(), "qcow2")]);
        for gone in ["c7a5fdbd", "52:54:00:11", "web", "/images", "/bases", "/dev/vg", "nvram"] {
            assert!(!adapted.contains(gone), "{gone} in {adapted}");
        }
        let kept = [
            "<my:note xmlns:my='http://example.org/'>kept  as   it is</my:note>",
            "<unheard-of x='1'>  <of/>  </unheard-of>",
            "discard='unmap'",
            "<seclabel model='dac' relabel='no'/></source>",
            "/iso/debian.iso",
            "<source network='default'/>",
        ];
        for part in kept {
            assert!(adapted.contains(part), "{part} in {adapted}");
        }
        assert_eq!(adapt(&adapted, &new()).unwrap(), adapted, "the same again changes nothing");
    }

    #[test]
    fn a_disk_without_a_new_image_is_refused() {
        let one = Adaptation { disks: new().disks[..1].to_vec(), ..new() };
        assert!(adapt(DOMAIN, &one).unwrap_err().to_string().contains("vdb"));
        assert!(adapt(DOMAIN, &Adaptation { uuid: "x' y='z".to_owned(), ..new() }).is_err());
        assert!(adapt(DOMAIN, &Adaptation { name: "../a".to_owned(), ..new() }).is_err());
    }

    proptest! {
        #[test]
        fn damaged_text_is_an_error_or_a_domain_but_no_panic(at in 0..DOMAIN.len(), cut in 0..40_usize, insert in "[<>/='\"& a-z!\\[\\]-]{0,6}") {
            let end = (at + cut).min(DOMAIN.len());
            let text = format!("{}{insert}{}", &DOMAIN[..at], &DOMAIN[end..]);
            if let Ok(adapted) = adapt(&text, &new()) {
                prop_assert_eq!(read(&adapted).unwrap().name, "copy's");
            }
            _ = super::super::reaches(&text);
        }

        #[test]
        fn any_name_and_path_comes_back(name in "[^/\n\r\u{0}-\u{1f}\u{fffe}\u{ffff}]{0,20}x", path in "/[^\u{0}-\u{1f}\u{fffe}\u{ffff}]{0,30}") {
            let disks = new().disks.into_iter().map(|disk| NewDisk { file: path.clone().into(), ..disk }).collect();
            let name = name.trim().to_owned();
            let adapted = adapt(DOMAIN, &Adaptation { name: name.clone(), disks, ..new() }).unwrap();
            let domain = read(&adapted).unwrap();
            prop_assert_eq!(domain.name, name);
            prop_assert_eq!(domain.disks[0].file.as_deref(), Some(std::path::Path::new(&path)));
        }
    }
}
