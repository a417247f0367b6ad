//! Access control lists: from the form on the disk to the one that Linux passes to programs.

use super::super::bytes::Fields;

const USER: u16 = 0x2;
const GROUP: u16 = 0x8;
/// The owner, the owning group, the mask and all others have no number.
const WITHOUT_ID: [u16; 4] = [0x1, 0x4, 0x10, 0x20];
const NO_ID: u32 = u32::MAX;

/// Converts a list; `Some(None)` when it has no entries, `None` when it cannot be one.
pub(super) fn from_disk(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(&1_u32.to_le_bytes())?;
    let mut list = 2_u32.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let fields = Fields(rest);
        let (tag, permissions) = (fields.u16(0), fields.u16(2));
        let (id, len) = match tag {
            USER | GROUP => (fields.u32(4), 8),
            tag if WITHOUT_ID.contains(&tag) => (NO_ID, 4),
            _ => return None,
        };
        rest = rest.get(len..)?;
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    Some((list.len() > 4).then_some(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_what_programs_read() {
        let disk = [&[1, 0, 0, 0][..], &[1, 0, 6, 0], &[2, 0, 4, 0, 0xE8, 3, 0, 0], &[4, 0, 4, 0], &[16, 0, 4, 0], &[32, 0, 0, 0]].concat();
        let none = [0xFF; 4];
        let wanted = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0],
            &none,
            &[2, 0, 4, 0, 0xE8, 3, 0, 0],
            &[4, 0, 4, 0],
            &none,
            &[16, 0, 4, 0],
            &none,
            &[32, 0, 0, 0],
            &none,
        ];
        assert_eq!(from_disk(&disk), Some(Some(wanted.concat())));
        assert_eq!(from_disk(&disk[..4]), Some(None));
        for len in [0, 3, 5, 7, 9, 12, 15] {
            assert_eq!(from_disk(&disk[..len]), None, "{len}");
        }
        assert_eq!(from_disk(&[1, 0, 0, 0, 3, 0, 0, 0]), None);
    }
}
