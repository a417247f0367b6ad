//! Extended attributes: in the inode behind its fields, and in one more block.

use super::super::bytes::Fields;
use super::inode::Inode;
use super::{Ext4, acl};
use vml_chunk::{Error, Result};

const MAGIC: u32 = 0xEA02_0000;
const HEADER_LEN: usize = 32;
/// Longest value that Linux lets a program read.
const VALUE_MAX: u32 = 64 << 10;
/// All values of one file: more than a block can name.
const VALUES_MAX: usize = 16 << 20;

const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const SYSTEM: u8 = 7;

impl Ext4<'_> {
    /// A file's extended attributes with their full names, sorted, as the file's own system lets its administrator read
    /// them: access control lists are in the form that Linux passes to programs.
    ///
    /// # Errors
    /// `Corrupt` when they cannot be read.
    pub fn attributes(&self, inode: &Inode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut attributes = Vec::new();
        let mut values_len = 0;
        let mut add = |entry: &Entry<'_>| -> Result<()> {
            let Some(name) = full_name(entry) else { return Ok(()) };
            let value = self.value(inode, entry)?;
            values_len += value.len();
            if values_len > VALUES_MAX {
                return Err(bad(inode.number, "are longer than they can be"));
            }
            let value = match entry.index {
                // A list without entries is none.
                ACL_ACCESS | ACL_DEFAULT => acl::from_disk(&value).ok_or_else(|| bad(inode.number, "have a damaged list"))?,
                _ => Some(value),
            };
            attributes.extend(value.map(|value| (name, value)));
            Ok(())
        };
        if let Some(area) = in_inode(inode) {
            entries(inode.number, area, 0, &mut add)?;
        }
        if inode.attributes_block != 0 {
            let block = self.read_block_kept(inode.attributes_block)?;
            if Fields(&block).u32(0) != MAGIC {
                return Err(bad(inode.number, "name a block that has none"));
            }
            entries(inode.number, &block, HEADER_LEN, &mut add)?;
        }
        attributes.sort_unstable();
        Ok(attributes)
    }

    fn value(&self, inode: &Inode, entry: &Entry<'_>) -> Result<Vec<u8>> {
        if entry.value_len > VALUE_MAX {
            return Err(bad(inode.number, "have a value that is too long"));
        }
        if entry.value_inode == 0 {
            return entry.value(inode.number).map(<[u8]>::to_vec);
        }
        // Long values are the content of an inode of their own.
        let value = self.contents(&self.inode(entry.value_inode)?, u64::from(VALUE_MAX))?;
        if value.len() != entry.value_len as usize {
            return Err(bad(inode.number, "have a value of another length than they say"));
        }
        Ok(value)
    }
}

/// The second half of a small file that is in its inode.
pub(super) fn inline_rest(inode: &Inode) -> Result<&[u8]> {
    let mut rest: &[u8] = &[];
    if let Some(area) = in_inode(inode) {
        entries(inode.number, area, 0, &mut |entry| {
            if entry.index == SYSTEM && entry.name == b"data" {
                rest = entry.value(inode.number)?;
            }
            Ok(())
        })?;
    }
    Ok(rest)
}

/// Where the inode has attributes of its own.
fn in_inode(inode: &Inode) -> Option<&[u8]> {
    (Fields(&inode.extra).u32(0) == MAGIC).then(|| &inode.extra[4..])
}

fn bad(inode: u32, what: &str) -> Error {
    Error::corrupt(format!("the extended attributes of inode {inode} {what}"))
}

struct Entry<'a> {
    area: &'a [u8],
    index: u8,
    name: &'a [u8],
    value_at: usize,
    /// The inode that has the value, or 0.
    value_inode: u32,
    value_len: u32,
}

impl<'a> Entry<'a> {
    /// The value where it is in the same area.
    fn value(&self, inode: u32) -> Result<&'a [u8]> {
        let (at, len) = (self.value_at, self.value_len as usize);
        if len == 0 {
            return Ok(&[]);
        }
        self.area.get(at..).and_then(|rest| rest.get(..len)).ok_or_else(|| bad(inode, "have a value outside their place"))
    }
}

/// The entries of an area; values are counted from its beginning.
fn entries<'a>(inode: u32, area: &'a [u8], mut at: usize, each: &mut dyn FnMut(&Entry<'a>) -> Result<()>) -> Result<()> {
    while Fields(area).u32(at) != 0 {
        let fields = Fields(&area[at..]);
        let name_len = usize::from(fields.u8(0));
        let name = fields.bytes(16, name_len);
        if name.len() != name_len || name.contains(&0) {
            return Err(bad(inode, "have a name outside their place"));
        }
        each(&Entry {
            area,
            index: fields.u8(1),
            name,
            value_at: usize::from(fields.u16(2)),
            value_inode: fields.u32(4),
            value_len: fields.u32(8),
        })?;
        at += (16 + name_len).next_multiple_of(4);
    }
    Ok(())
}

/// The name as programs see it; `None` for what they do not: a file's own content, keys of encryption.
fn full_name(entry: &Entry<'_>) -> Option<Vec<u8>> {
    let prefix: &[u8] = match entry.index {
        1 => b"user.",
        ACL_ACCESS => return Some(b"system.posix_acl_access".to_vec()),
        ACL_DEFAULT => return Some(b"system.posix_acl_default".to_vec()),
        4 => b"trusted.",
        6 => b"security.",
        SYSTEM if entry.name == b"data" => return None,
        SYSTEM => b"system.",
        8 => return Some(b"system.richacl".to_vec()),
        _ => return None,
    };
    (!entry.name.is_empty()).then(|| [prefix, entry.name].concat())
}
