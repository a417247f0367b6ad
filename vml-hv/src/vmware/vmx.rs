//! `.vmx`: VMware's description of a machine, read and written line by line.
//!
//! ```text
//! .encoding = "UTF-8"
//! scsi0:0.fileName = "system.vmdk"        |22 is a quote, |7C a bar
//! ```
//! Lines that are not changed are written as they were read, byte for byte; keys are the same in any case.

use std::fmt::Write as _;
use vml_core::{Error, ErrorKind, Result};

/// Longest text.
const TEXT_MAX: usize = 4 << 20;
/// Most lines.
const LINES_MAX: usize = 65_536;

/// What stands for the bytes 0x80 to 0x9F in windows-1252; bytes without a letter stand for themselves.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// How letters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Windows1252,
    /// Another one, of which the letters of ASCII are known.
    Ascii,
}

/// A description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmx {
    encoding: Encoding,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// With its end.
    bytes: Vec<u8>,
    /// None for a comment, or what is no setting.
    setting: Option<(String, String)>,
}

impl Vmx {
    /// Reads a description.
    ///
    /// # Errors
    /// `InvalidInput` for what is none: too long, binary, or without any setting; `UnsupportedFormat` for letters that cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::invalid(format!("it is no description of a machine of VMware: it {what}"));
        if bytes.len() > TEXT_MAX || bytes.contains(&0) {
            return Err(bad("is too long, or no text"));
        }
        let parts: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        if parts.len() > LINES_MAX {
            return Err(bad("has too many lines"));
        }
        // Its own line is written in letters of ASCII.
        let named = parts.iter().filter_map(|line| setting(line, Encoding::Ascii)).find(|(key, _)| key.eq_ignore_ascii_case(".encoding"));
        let encoding = match named.map(|(_, value)| value.to_ascii_lowercase()).as_deref() {
            None | Some("utf-8" | "utf8") => Encoding::Utf8,
            Some("windows-1252" | "iso-8859-1") => Encoding::Windows1252,
            Some(_) => Encoding::Ascii,
        };
        let mut lines = Vec::with_capacity(parts.len());
        for (number, part) in parts.into_iter().enumerate() {
            let setting = setting(part, encoding);
            let is_setting = !part.trim_ascii().is_empty() && !part.trim_ascii_start().starts_with(b"#");
            if setting.is_none() && is_setting && decode(part, encoding).is_none() {
                let message = format!("line {} of the machine's description has letters of an encoding that is not known", number + 1);
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
            lines.push(Line { bytes: part.to_vec(), setting });
        }
        if lines.iter().all(|line| line.setting.is_none()) {
            return Err(bad("has no settings"));
        }
        Ok(Self { encoding, lines })
    }

    /// A setting; of several the last one, as VMware has it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings().filter(|(own, _)| own.eq_ignore_ascii_case(key)).last().map(|(_, value)| value)
    }

    /// Whether a setting is on.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// All settings in their order.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| line.setting.as_ref()).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets one, in the place where it was.
    ///
    /// # Errors
    /// `InvalidInput` for a value that cannot be written in the description's encoding.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let new = self.line(key, value)?;
        let is_key = |line: &Line| line.setting.as_ref().is_some_and(|(own, _)| own.eq_ignore_ascii_case(key));
        let Some(at) = self.lines.iter().rposition(is_key) else {
            if let Some(last) = self.lines.last_mut().filter(|last| !last.bytes.ends_with(b"\n")) {
                last.bytes.push(b'\n');
            }
            self.lines.push(new);
            return Ok(());
        };
        // What was written of it before does not count, and would confuse a reader.
        let mut place = 0;
        self.lines[at] = new;
        self.lines.retain(|line| {
            place += 1;
            place - 1 == at || !is_key(line)
        });
        Ok(())
    }

    /// Removes one.
    pub fn remove(&mut self, key: &str) {
        self.lines.retain(|line| line.setting.as_ref().is_none_or(|(own, _)| !own.eq_ignore_ascii_case(key)));
    }

    /// The description as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.bytes.iter().copied()).collect()
    }

    fn line(&self, key: &str, value: &str) -> Result<Line> {
        if !is_key(key) || value.len() > TEXT_MAX {
            return Err(Error::invalid(format!("{key:?} is no setting of a machine of VMware")));
        }
        let bytes = encode(&format!("{key} = \"{}\"\n", quoted(value)), self.encoding)
            .ok_or_else(|| Error::invalid(format!("{value:?} cannot be written in the encoding of the machine's description")))?;
        Ok(Line { bytes, setting: Some((key.to_owned(), value.to_owned())) })
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte))
}

fn setting(line: &[u8], encoding: Encoding) -> Option<(String, String)> {
    let line = decode(line, encoding)?;
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    is_key(key).then(|| (key.to_owned(), unquoted(value)))
}

fn decode(bytes: &[u8], encoding: Encoding) -> Option<String> {
    match encoding {
        Encoding::Utf8 => String::from_utf8(bytes.to_vec()).ok(),
        Encoding::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|byte| char::from(*byte)).collect()),
        Encoding::Windows1252 => {
            let letter = |byte: &u8| if (0x80..0xa0).contains(byte) { WINDOWS_1252[usize::from(*byte - 0x80)] } else { char::from(*byte) };
            Some(bytes.iter().map(letter).collect())
        }
    }
}

fn encode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Utf8 => Some(text.as_bytes().to_vec()),
        Encoding::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
        Encoding::Windows1252 => {
            let byte = |letter: char| {
                let special = WINDOWS_1252.iter().position(|special| *special == letter).map(|at| 0x80 + at);
                let at = special.or_else(|| usize::try_from(u32::from(letter)).ok().filter(|at| !(0x80..0xa0).contains(at)))?;
                u8::try_from(at).ok()
            };
            text.chars().map(byte).collect()
        }
    }
}

fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '"' | '|' | '#') || u32::from(letter) < 0x20 {
            _ = write!(out, "|{:02X}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}

fn unquoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('|') {
        out.push_str(before);
        let code = after.get(..2).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push('|');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn settings_are_read_and_others_are_kept() {
        let text = b"#!/usr/bin/vmware\r\n.encoding = \"UTF-8\"\nDisplayName = \"M\xc3\xbchle |22x|22\"\n\nsomething odd\nmemsize = \"512\"\nMemSize=\"1024\"\nlast = 1";
        let mut vmx = Vmx::parse(text).unwrap();
        assert_eq!(vmx.to_bytes(), text);
        assert_eq!((vmx.get("displayname"), vmx.get("memsize"), vmx.get("last")), (Some("Mühle \"x\""), Some("1024"), Some("1")));
        vmx.set("memsize", "2048").unwrap();
        vmx.set("annotation", "a|b\n\"c\"").unwrap();
        vmx.remove("LAST");
        let written = String::from_utf8(vmx.to_bytes()).unwrap();
        assert_eq!(
            written,
            "#!/usr/bin/vmware\r\n.encoding = \"UTF-8\"\nDisplayName = \"Mühle |22x|22\"\n\nsomething odd\nmemsize = \"2048\"\nannotation = \"a|7Cb|0A|22c|22\"\n"
        );
        assert_eq!(Vmx::parse(written.as_bytes()).unwrap().get("annotation"), Some("a|b\n\"c\""));
    }

    #[test]
    fn encodings_are_kept() {
        let mut vmx = Vmx::parse(b".encoding = \"windows-1252\"\nname = \"\x80 M\xfchle\"\n").unwrap();
        assert_eq!(vmx.get("name"), Some("€ Mühle"));
        vmx.set("other", "œ").unwrap();
        assert!(vmx.to_bytes().ends_with(b"other = \"\x9c\"\n"));
        assert!(vmx.set("other", "漢").is_err());
        assert!(Vmx::parse(b".encoding = \"GBK\"\nname = \"\xba\xba\"\n").is_err());
        assert!(Vmx::parse(b".encoding = \"GBK\"\nname = \"abc\"\n").unwrap().set("name", "漢").is_err());
        for wrong in [&b""[..], b"\0a = \"b\"\n", b"# nothing\n", b"a = \"\xff\"\n"] {
            assert!(Vmx::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in "\\PC{0,40}", key in "[a-z][a-zA-Z0-9.:_-]{0,20}") {
            let mut vmx = Vmx::parse(b"memsize = \"1\"\n").unwrap();
            vmx.set(&key, &value).unwrap();
            let read = Vmx::parse(&vmx.to_bytes()).unwrap();
            prop_assert_eq!(read.get(&key), Some(value.as_str()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(vmx) = Vmx::parse(&bytes) {
                prop_assert_eq!(vmx.to_bytes(), bytes);
            }
        }
    }
}
