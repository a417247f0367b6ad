//! Reads the text of a catalogue. What is wrong is told with its line.

use super::{Catalogue, Compression, Digest, Format, MachineDefaults, Offer};
use crate::name::check_name;
use serde::Deserialize;
use std::collections::HashSet;
use toml::Spanned;
use vml_chunk::{Error, Result};

/// Longest text of a catalogue.
pub const CATALOGUE_MAX_LEN: u64 = 4 << 20;
/// The version of the form that is read here.
const VERSION: u32 = 1;
/// Most bases of one catalogue.
const OFFERS_MAX: usize = 4096;
/// Most addresses of one base.
const URLS_MAX: usize = 32;
/// Longest address.
const URL_MAX_LEN: usize = 2048;
/// Longest text for people.
const TEXT_MAX_LEN: usize = 1000;
/// Largest file: 16 TiB.
const SIZE_MAX: u64 = 16 << 40;
/// Largest memory in MiB: 16 TiB.
const MEMORY_MAX_MIB: u64 = 16 << 20;
/// Most processors.
const CPUS_MAX: u32 = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[allow(dead_code)] // It was checked before the rest was looked at.
    version: u32,
    description: Option<Spanned<String>>,
    #[serde(default, rename = "base")]
    bases: Vec<Spanned<Base>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    name: String,
    version: String,
    kind: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    architecture: String,
    format: String,
    #[serde(default)]
    compression: String,
    urls: Vec<String>,
    size: Option<u64>,
    sha256: Option<String>,
    sha512: Option<String>,
    blake3: Option<String>,
    unpacked_size: Option<u64>,
    disk: Option<String>,
    machine: Option<Machine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    #[serde(default = "default_memory")]
    memory_mib: u64,
    #[serde(default = "default_cpus")]
    cpus: u32,
}

fn default_memory() -> u64 {
    1024
}

fn default_cpus() -> u32 {
    1
}

/// Reads the text of a catalogue.
///
/// # Errors
/// `InvalidInput` for what is none, with the line; `UnsupportedFormat` for one of a later version.
pub fn read(text: &str) -> Result<Catalogue> {
    if text.len() as u64 > CATALOGUE_MAX_LEN {
        return Err(Error::invalid("the catalogue is too long"));
    }
    check_version(text)?;
    let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let at =
        |start: usize, what: &str, error: &Error| Error::invalid(format!("line {} of the catalogue: {what}{error}", line(text, start)));
    let mut description = String::new();
    if let Some(text) = file.description {
        check_text("the description", text.as_ref()).map_err(|error| at(text.span().start, "", &error))?;
        description = text.into_inner();
    }
    if file.bases.len() > OFFERS_MAX {
        return Err(Error::invalid(format!("the catalogue has more than {OFFERS_MAX} bases")));
    }
    let mut offers = Vec::new();
    let mut seen = HashSet::new();
    for base in file.bases {
        let start = base.span().start;
        let base = base.into_inner();
        let what = format!("the base {:?}: ", base.name.chars().take(100).collect::<String>());
        let offer = check(base).map_err(|error| at(start, &what, &error))?;
        if !seen.insert(offer.base()) {
            return Err(at(start, "", &Error::invalid(format!("the base {} stands in it twice", offer.base()))));
        }
        offers.push(offer);
    }
    Ok(Catalogue { description, offers })
}

/// A later form may have keys that are not known here; it shall be called a later form all the same.
fn check_version(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    match toml::from_str::<Head>(text) {
        Ok(head) if head.version == VERSION => Ok(()),
        Ok(head) => Err(Error::new(
            vml_chunk::ErrorKind::UnsupportedFormat,
            format!("the catalogue is of version {}, and only {VERSION} is known", head.version),
        )),
        Err(error) => Err(syntax(text, &error)),
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Error {
    let place = error.span().map(|span| format!("line {} of the catalogue", line(text, span.start)));
    // A line is as long as somebody else made it.
    let message: String = error.message().chars().take(300).collect();
    Error::invalid(format!("{}: {message}", place.unwrap_or_else(|| "the catalogue".to_owned())))
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if text.len() > TEXT_MAX_LEN || text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid(format!("{what} is longer than {TEXT_MAX_LEN} bytes, or has control characters in it")));
    }
    Ok(())
}

fn check(base: Base) -> Result<Offer> {
    check_name("base", &base.name)?;
    check_name("base's version", &base.version)?;
    check_text("the description", &base.description)?;
    let is_architecture = |text: &str| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !is_architecture(&base.architecture) {
        return Err(Error::invalid("the architecture is no name such as x86_64 or aarch64"));
    }
    let named = |what: &str, names: &str| Error::invalid(format!("{what} is none of {names}"));
    let format = Format::ALL.into_iter().find(|format| format.name() == base.format);
    let format = format.ok_or_else(|| named("the format", "raw, qcow2, vmdk, tar, vml"))?;
    if base.kind.as_deref().is_some_and(|kind| kind != format.kind()) {
        return Err(Error::invalid(format!("a file of the format {} makes a base of the kind {}", format.name(), format.kind())));
    }
    let compression = match base.compression.as_str() {
        "" => Some(Compression::None),
        name => Compression::ALL.into_iter().find(|compression| compression.name() == name),
    };
    let compression = compression.ok_or_else(|| named("the compression", "none, gz, zst (xz and others cannot be undone here)"))?;
    if format == Format::Share && compression != Compression::None {
        return Err(Error::invalid("a share file is compressed in itself"));
    }
    if base.urls.is_empty() || base.urls.len() > URLS_MAX {
        return Err(Error::invalid(format!("it has no address, or more than {URLS_MAX}")));
    }
    for url in &base.urls {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        if !is_web || url.len() > URL_MAX_LEN || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("an address of it is no http:// or https:// address"));
        }
    }
    if [base.size, base.unpacked_size].into_iter().flatten().any(|size| size == 0 || size > SIZE_MAX) {
        return Err(Error::invalid("its size is 0, or larger than anything"));
    }
    let digests = [("blake3", &base.blake3), ("sha512", &base.sha512), ("sha256", &base.sha256)];
    let mut parsed = digests.iter().filter_map(|(name, digits)| digits.as_ref().map(|digits| Digest::parse(name, digits)));
    let digest = parsed.next().ok_or_else(|| Error::invalid("it has no digest: sha256, sha512 or blake3"))??;
    // The others are not used, but a wrong one is a mistake of somebody's.
    parsed.try_for_each(|other| other.map(|_| ()))?;
    let disk = base.disk.unwrap_or_else(|| "disk".to_owned());
    check_name("disk", &disk)?;
    let machine = base.machine.map(|machine| MachineDefaults { memory_mib: machine.memory_mib, cpus: machine.cpus });
    if machine.is_some_and(|machine| !(16..=MEMORY_MAX_MIB).contains(&machine.memory_mib) || !(1..=CPUS_MAX).contains(&machine.cpus)) {
        return Err(Error::invalid("no machine has so much memory, or so many processors"));
    }
    Ok(Offer {
        name: base.name,
        version: base.version,
        description: base.description,
        architecture: base.architecture,
        format,
        compression,
        urls: base.urls,
        size: base.size,
        digest,
        unpacked_size: base.unpacked_size,
        disk,
        machine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vml_chunk::ErrorKind;

    const ONE: &str = r#"version = 1
description = "of a test"

[[base]]
name = "debian"
version = "12.5"
kind = "disk"
description = "Debian 12"
architecture = "x86_64"
format = "qcow2"
urls = ["https://example.org/debian.qcow2", "http://mirror.example.org/debian.qcow2"]
size = 123456
sha256 = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
machine = { memory_mib = 2048, cpus = 2 }
"#;

    #[test]
    fn a_catalogue_is_read() {
        let catalogue = read(ONE).unwrap();
        let offer = catalogue.find("debian@12.5").unwrap();
        assert_eq!((offer.format, offer.compression, offer.size, offer.urls.len()), (Format::Qcow2, Compression::None, Some(123_456), 2));
        assert_eq!(offer.disk, "disk");
        assert_eq!(offer.machine, Some(MachineDefaults { memory_mib: 2048, cpus: 2 }));
        assert_eq!(offer.digest.to_string(), "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
        assert_eq!(offer.digest.to_string().parse::<Digest>().unwrap(), offer.digest);
        assert!(catalogue.find("debian@12").is_none());
        assert_eq!(read(&ONE.replace("size = 123456\n", "")).unwrap().offers[0].size, None);
        assert_eq!(read("version = 1").unwrap().offers, []);
    }

    /// What is changed, the line that must be named, and a word of the message.
    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, place, word) in [
            ("size = 123456", "size = 123456\nsource = \"x\"", "line 13", "unknown field"),
            ("size = 123456", "size = -1", "line 12", "integer"),
            ("size = 123456", "size = 0", "line 4", "size"),
            ("name = \"debian\"", "name = \"../x\"", "line 4", "name"),
            ("version = \"12.5\"", "version = \"1 2\"", "line 4", "version"),
            ("kind = \"disk\"", "kind = \"tree\"", "line 4", "kind"),
            ("\"qcow2\"", "\"vdi\"", "line 4", "format"),
            ("size = 123456", "size = 123456\ncompression = \"xz\"", "line 4", "xz"),
            ("\"https://example.org", "\"file:///etc", "line 4", "address"),
            ("\"https://example.org", "\"https://exa mple.org", "line 4", "address"),
            ("0123456789ABCDEF", "", "line 4", "sha256"),
            ("0123456789ABCDEF", "0123456789ABCDEG", "line 4", "sha256"),
            ("sha256 = ", "# ", "line 4", "digest"),
            ("cpus = 2", "cpus = 0", "line 4", "machine"),
            ("memory_mib = 2048", "ram = 2048", "line 14", "unknown field"),
            ("architecture = \"x86_64\"", "architecture = \"x/y\"", "line 4", "architecture"),
            ("description = \"of a test\"", "description = \"\\u0007\"", "line 2", "control"),
            ("[[base]]", "[[base", "line 4", ""),
            ("version = 1\n", "", "", "version"),
        ] {
            let text = ONE.replacen(from, to, 1);
            assert_ne!(text, ONE, "{from}");
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{to}: {error}");
            let told = error.to_string();
            assert!(told.contains(place) && told.contains(word), "{to}: {told}");
        }
        let twice = format!("{ONE}{}", ONE.split_once("\n\n").unwrap().1);
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
        let later = ONE.replacen("version = 1", "version = 2\nnew = true", 1);
        assert_eq!(read(&later).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
        assert!(read(&format!("{ONE}\n#{}", "x".repeat(5 << 20))).unwrap_err().to_string().contains("too long"));
        let many = format!(
            "version = 1\n{}",
            ONE.split_once("\n\n").unwrap().1.replace("urls = [", &format!("urls = [{}", "\"http://a\",".repeat(40)))
        );
        assert!(read(&many).unwrap_err().to_string().contains("address"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(at in 0_usize..600, cut in 0_usize..40, put in "(\\PC|[\\[\\]\"=\n.,{}]){0,20}") {
            let mut text: Vec<char> = ONE.chars().collect();
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
            let text: String = text.into_iter().collect();
            if let Ok(catalogue) = read(&text) {
                for offer in &catalogue.offers {
                    prop_assert!(crate::refs::split_base(&offer.base()).is_ok() && !offer.urls.is_empty() && offer.size != Some(0));
                }
            }
        }
    }
}
