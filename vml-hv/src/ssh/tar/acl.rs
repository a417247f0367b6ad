//! ACLs between the kernel's form, in which they are stored, and the text of `SCHILY.acl.*`, which GNU tar sets.
//!
//! Told to set ACLs, tar gives a file without such a record the one that its mode means; so what a directory's default
//! ACL gave to a new file does not stay.

/// The names of the two attributes, with those of their records.
pub(super) const RECORDS: [(&[u8], &[u8]); 2] =
    [(b"system.posix_acl_access", b"SCHILY.acl.access"), (b"system.posix_acl_default", b"SCHILY.acl.default")];

/// Tags of the kernel's form, with their words and whether a number stands behind them.
const TAGS: [(u16, &str, bool); 6] =
    [(1, "user", false), (2, "user", true), (4, "group", false), (8, "group", true), (16, "mask", false), (32, "other", false)];

/// The text of an ACL, with numbers for names; nothing for what is none.
pub(super) fn to_text(acl: &[u8]) -> Option<String> {
    let (entries, rest) = acl.strip_prefix(&[2, 0, 0, 0])?.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let mut text = String::new();
    for entry in entries {
        let [tag, bits] = [0, 2].map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, word, numbered) = TAGS.iter().find(|(known, _, _)| *known == tag)?;
        let id = if *numbered { id.to_string() } else { String::new() };
        let letters: String =
            [(4, 'r'), (2, 'w'), (1, 'x')].iter().map(|(bit, letter)| if bits & bit != 0 { *letter } else { '-' }).collect();
        text.push_str(&format!("{word}:{id}:{letters}\n"));
    }
    Some(text)
}

/// The kernel's form of a text with numbers; nothing for what is none, or has names.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text.split(['\n', ',']) {
        // What stands behind the entry says what of it is effective.
        let line = line.split(['#', '\t']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut fields = line.split(':');
        let (word, id, letters) = (fields.next()?, fields.next()?, fields.next()?);
        let (tag, _, numbered) = TAGS.iter().find(|(_, known, numbered)| *known == word && *numbered != id.is_empty())?;
        let id: u32 = if *numbered { id.parse().ok()? } else { u32::MAX };
        let bits = letters.chars().map(|letter| match letter {
            'r' => Some(4),
            'w' => Some(2),
            'x' => Some(1),
            '-' => Some(0),
            _ => None,
        });
        entries.push((*tag, id, bits.sum::<Option<u16>>().filter(|bits| *bits <= 7)?));
    }
    // The kernel has them in this order.
    entries.sort_unstable();
    let mut acl = vec![2, 0, 0, 0];
    for (tag, id, bits) in &entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&bits.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    (!entries.is_empty()).then_some(acl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_kernel_form_tell_the_same() {
        let text = "user::rw-\nuser:1000:r--\ngroup::r--\nmask::rw-\nother::---\n";
        let acl = from_text(text.as_bytes()).unwrap();
        assert_eq!(acl.len(), 4 + 5 * 8);
        assert_eq!(to_text(&acl).as_deref(), Some(text));
        assert_eq!(from_text(b"user:1000:r--\t#effective:---\nother::r--"), from_text(b"other::r--,user:1000:r--"));
        assert_eq!((from_text(b"user:bob:rwx"), from_text(b""), to_text(b"\x02\0\0\0x"), to_text(b"")), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_acl_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            _ = from_text(&bytes);
            if let Some(text) = to_text(&bytes) {
                prop_assert!(text.is_ascii());
            }
        }
    }
}
