//! A member of a directory, as it is stored.

use crate::recipe::Recipe;
use bincode::{Decode, Encode};
use vml_chunk::{Error, Result};

/// Longest name of a file, in bytes, as on Linux.
pub const NAME_MAX: usize = 255;
/// Longest target of a symbolic link or path, in bytes.
pub const PATH_MAX: usize = 4096;

/// A point in time: seconds since 1970 and nanoseconds below a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC; negative before.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// A few bytes, in the node itself.
    Inline(Vec<u8>),
    /// Chunks and holes.
    Recipe(Recipe),
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Recipe(recipe) => recipe.len,
        }
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum NodeKind {
    /// A regular file.
    File(Content),
    /// A directory; the recipe is its listing's.
    Directory(Recipe),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl NodeKind {
    /// The letter that `ls -l` begins its line with.
    pub fn letter(&self) -> char {
        match self {
            Self::File(_) => '-',
            Self::Directory(_) => 'd',
            Self::Symlink(_) => 'l',
            Self::CharDevice { .. } => 'c',
            Self::BlockDevice { .. } => 'b',
            Self::Fifo => 'p',
        }
    }
}

/// A member of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// Its name: any bytes but `/` and NUL; empty for the root of a tree only.
    pub name: Vec<u8>,
    /// Permissions with set-user-id, set-group-id and sticky: the low twelve bits.
    pub mode: u16,
    /// Numeric owner; the tree's manifest has the name.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes sorted by name, ACLs, capabilities and security labels included, as the kernel gives them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a file with several names in the tree: the path of the first of them, the same in all.
    pub link: Option<Vec<u8>>,
    /// What it is.
    pub kind: NodeKind,
}

impl Node {
    /// Checks what a decoded node must not do: leave its directory, or name impossible things.
    ///
    /// # Errors
    /// `Corrupt` naming the node.
    pub fn check(&self) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(format!("a tree has a member {:?} {why}", display_path(&self.name))));
        if self.name.is_empty() || self.name.len() > NAME_MAX || self.name == b"." || self.name == b".." {
            return bad("whose name no file can have");
        }
        if self.name.iter().any(|byte| *byte == b'/' || *byte == 0) {
            return bad("whose name leads out of its directory");
        }
        self.check_attributes()
    }

    /// What [`check`](Self::check) checks but the name: also for the root of a tree, which has none.
    pub(crate) fn check_attributes(&self) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(format!("a tree has a member {:?} {why}", display_path(&self.name))));
        if self.mode > 0o7777 || self.mtime.nanoseconds > 999_999_999 {
            return bad("with an impossible mode or time");
        }
        if self.xattrs.iter().any(|(name, _)| name.is_empty() || name.len() > NAME_MAX || name.contains(&0))
            || !self.xattrs.is_sorted_by(|a, b| a.0 < b.0)
        {
            return bad("with impossible extended attributes");
        }
        if self.link.as_ref().is_some_and(|link| link.is_empty() || link.contains(&0)) {
            return bad("with an impossible hard link");
        }
        match &self.kind {
            NodeKind::File(Content::Recipe(recipe)) | NodeKind::Directory(recipe) => recipe.check(),
            NodeKind::Symlink(target) if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) => {
                bad("whose target no link can have")
            }
            _ => Ok(()),
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }

    /// Bytes of a regular file; 0 for everything else.
    pub fn len(&self) -> u64 {
        match &self.kind {
            NodeKind::File(content) => content.len(),
            _ => 0,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A path for people: UTF-8 as it is, other bytes and control characters escaped, so that a terminal is safe.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for part in path.utf8_chunks() {
        for letter in part.valid().chars() {
            if letter.is_control() || letter == '\\' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in part.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
