//! Numbers in structures on disks: little-endian, and nothing beyond the end.

/// Reads fields of a structure; a field that is not there is zero, as it is in shorter, older forms.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        self.array::<1>(at)[0]
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// The journal of ext4 alone is big-endian.
    pub(super) fn u32_be(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(super) fn bytes(self, at: usize, len: usize) -> &'a [u8] {
        let end = at.saturating_add(len).min(self.0.len());
        self.0.get(at..end).unwrap_or_default()
    }

    /// Text that ends with a NUL or its field.
    pub(super) fn text(self, at: usize, len: usize) -> String {
        let bytes = self.bytes(at, len);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}
