//! Names of refs, which say what a project is called: hidden, and the same each time, so that a file is found by its name.
//!
//! ```text
//! refs/tags/calibrated   ─►   refs/tags/base64url( tag | text ^ stream(tag) )
//! tag   = keyed hash of directory and text, 16 bytes        text = the name, with zeros up to a multiple of 16
//! ```
//! A synthetic tag takes the place of a nonce: equal names in one directory are equal, and nothing else shows but their length in steps of 16.

use super::derive::{Key, Use, derive};
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const TAG_LEN: usize = 16;
const STEP: usize = 16;
/// Longest name: what is left of the longest component of a key.
pub const NAME_MAX: usize = 128;

/// Hides names and finds them again.
#[derive(Clone)]
pub(super) struct Names {
    tag: Key,
    text: Key,
}

impl Names {
    pub(super) fn new(key: &Key) -> Self {
        Self { tag: derive(Use::NameTag, &[&key[..]]), text: derive(Use::NameText, &[&key[..]]) }
    }

    /// Whether names in this directory are hidden.
    pub(super) fn hides(dir: &str) -> bool {
        dir == "refs" || dir.starts_with("refs/")
    }

    fn tag_of(&self, dir: &str, text: &[u8]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.tag);
        hasher.update(dir.as_bytes()).update(&[0]).update(text);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_LEN]);
        tag
    }

    fn mask(&self, tag: &[u8; TAG_LEN], text: &mut [u8]) {
        let mut stream = vec![0; text.len()];
        blake3::Hasher::new_keyed(&self.text).update(tag).finalize_xof().fill(&mut stream);
        text.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    }

    /// The name of a file in `dir` as it is stored.
    pub(super) fn hide(&self, dir: &str, name: &str) -> Result<String> {
        if name.len() > NAME_MAX {
            return Err(Error::invalid(format!(
                "the name {name:?} has {} bytes, {NAME_MAX} are the limit in an encrypted repository",
                name.len()
            )));
        }
        let mut text = name.as_bytes().to_vec();
        text.resize(text.len().next_multiple_of(STEP), 0);
        let tag = self.tag_of(dir, &text);
        self.mask(&tag, &mut text);
        Ok(URL_SAFE_NO_PAD.encode([&tag[..], &text].concat()))
    }

    /// What a stored name stands for; `None` for one that was not hidden with this key, in this directory.
    pub(super) fn show(&self, dir: &str, stored: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(stored).ok()?;
        let (tag, text) = bytes.split_first_chunk::<TAG_LEN>()?;
        let mut text = text.to_vec();
        self.mask(tag, &mut text);
        if text.is_empty() || text.len() > NAME_MAX || self.tag_of(dir, &text) != *tag {
            return None;
        }
        let len = text.iter().rposition(|byte| *byte != 0)? + 1;
        text.truncate(len);
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{KEY_COMPONENT_MAX, check_key};
    use proptest::prelude::*;

    fn names() -> Names {
        Names::new(&Key::new([7; 32]))
    }

    proptest! {
        #[test]
        fn a_name_is_found_again_and_does_not_show(name in "[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}") {
            let stored = names().hide("refs/tags", &name).unwrap();
            prop_assert!(stored.len() <= KEY_COMPONENT_MAX);
            check_key(&format!("refs/tags/{stored}")).unwrap();
            prop_assert_eq!(names().show("refs/tags", &stored), Some(name));
        }
    }

    #[test]
    fn a_stored_name_belongs_to_its_directory_and_key() {
        let stored = names().hide("refs/tags", "calibrated").unwrap();
        assert_eq!(stored, names().hide("refs/tags", "calibrated").unwrap());
        assert_ne!(stored, names().hide("refs/areas", "calibrated").unwrap());
        assert_eq!(names().show("refs/areas", &stored), None);
        assert_eq!(Names::new(&Key::new([8; 32])).show("refs/tags", &stored), None);
        for at in 0..stored.len() {
            let other = if stored.as_bytes()[at] == b'A' { 'B' } else { 'A' };
            let mut changed = stored.clone();
            changed.replace_range(at..=at, &other.to_string());
            assert_eq!(names().show("refs/tags", &changed), None, "at {at}");
        }
        for short in ["", "A", "calibrated", &stored[..22]] {
            assert_eq!(names().show("refs/tags", short), None);
        }
        assert!(names().hide("refs/tags", &"x".repeat(NAME_MAX + 1)).is_err());
    }
}
