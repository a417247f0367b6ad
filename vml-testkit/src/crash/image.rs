//! What is on a disk at one moment: directories, and files with their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use vml_chunk::ChunkId;

/// The bytes of a file, with their digest once it was asked for; clones share both.
#[derive(Clone)]
pub struct Content {
    bytes: Arc<Vec<u8>>,
    digest: Arc<OnceLock<ChunkId>>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

impl Content {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::shared(Arc::new(bytes))
    }

    pub(super) fn shared(bytes: Arc<Vec<u8>>) -> Self {
        Self { bytes, digest: Arc::default() }
    }

    pub(super) fn share(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their digest.
    pub fn digest(&self) -> &ChunkId {
        self.digest.get_or_init(|| ChunkId::of(&self.bytes))
    }
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Everything on a disk; paths as they were used, without a trailing `/`.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Directories.
    pub dirs: BTreeSet<String>,
    /// Files.
    pub files: BTreeMap<String, Content>,
}

impl Image {
    /// Tells equal states: what is in files on their way (`tmp/`) makes no difference, how many there are does.
    pub fn digest(&self) -> ChunkId {
        let mut text = Vec::with_capacity(self.files.len() * 110 + 200);
        let mut on_their_way = 0_u32;
        for dir in &self.dirs {
            text.extend_from_slice(dir.as_bytes());
            text.push(b'/');
        }
        for (path, content) in &self.files {
            if is_temporary(path) {
                on_their_way += 1;
                continue;
            }
            text.extend_from_slice(path.as_bytes());
            text.push(0);
            text.extend_from_slice(content.digest().as_bytes());
        }
        text.extend_from_slice(&on_their_way.to_le_bytes());
        ChunkId::of(&text)
    }

    /// The names, for messages.
    pub fn describe(&self) -> String {
        self.files.iter().map(|(path, content)| format!("\n  {path} ({} bytes)", content.bytes().len())).collect()
    }
}

/// Whether a file has no name of its own yet.
pub(super) fn is_temporary(path: &str) -> bool {
    path.contains("/tmp/")
}

/// The directory above.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
