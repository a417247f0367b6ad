//! What a repository is, decided when it is made.

use bincode::{Decode, Encode};
use vml_chunk::codec::RecordKind;
use vml_chunk::format::{FRAME_TARGET_MAX, FRAME_TARGET_MIN};
use vml_chunk::{ChunkerParams, Error, ErrorKind, Result};

/// The record of a repository's configuration.
pub const CONFIG_RECORD: RecordKind = RecordKind { number: 1, version: 1, name: "repository's configuration" };

/// Largest file that may stand in its node.
pub(crate) const INLINE_LIMIT: u32 = 4096;

/// Features that a program must know for an operation; one it does not know is a refusal, never a guess.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Features {
    /// Needed to read.
    pub read: Vec<String>,
    /// Needed to write, beside those to read.
    pub write: Vec<String>,
    /// Needed to delete.
    pub delete: Vec<String>,
    /// Needed to check.
    pub check: Vec<String>,
}

/// How a repository stores.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Config {
    /// Chosen at random when it is made; tells repositories apart.
    pub id: [u8; 16],
    /// When it was made: milliseconds since 1970-01-01 00:00 UTC.
    pub created_ms: i64,
    /// How streams are cut.
    pub chunker: ChunkerParams,
    /// Plain bytes a frame aims at.
    pub frame_len: u32,
    /// zstd level of frames, 1 to 19.
    pub level: u8,
    /// Files of at most this many bytes stand in their node.
    pub inline_max: u32,
    /// Features in use.
    pub features: Features,
}

impl Config {
    /// The defaults, which `docs/storage.md` gives the measurements for.
    pub fn new(id: [u8; 16], created_ms: i64) -> Self {
        Self {
            id,
            created_ms,
            chunker: ChunkerParams::default(),
            frame_len: 4 << 20,
            level: 3,
            inline_max: 512,
            features: Features::default(),
        }
    }

    /// Checks that this program can use it.
    ///
    /// # Errors
    /// `UnsupportedFormat` naming a feature, `InvalidInput` naming a setting.
    pub fn check(&self) -> Result<()> {
        let Features { read, write, delete, check } = &self.features;
        // This version knows no feature yet, so each operation's list must be empty.
        for (operation, features) in [("read", read), ("write", write), ("delete from", delete), ("check", check)] {
            if let Some(feature) = features.first() {
                return Err(Error::new(
                    ErrorKind::UnsupportedFormat,
                    format!("to {operation} this repository, a program must know the feature {feature:?}; this one does not"),
                ));
            }
        }
        self.chunker.build()?;
        if !(FRAME_TARGET_MIN..=FRAME_TARGET_MAX).contains(&(self.frame_len as usize)) {
            return Err(Error::invalid(format!(
                "the frame length is {} bytes, it must be from {FRAME_TARGET_MIN} to {FRAME_TARGET_MAX}",
                self.frame_len
            )));
        }
        if !(1..=19).contains(&self.level) {
            return Err(Error::invalid(format!("the compression level is {}, it must be from 1 to 19", self.level)));
        }
        if self.inline_max > INLINE_LIMIT {
            return Err(Error::invalid(format!(
                "files up to {} bytes are to stand in their node, {INLINE_LIMIT} is the limit",
                self.inline_max
            )));
        }
        Ok(())
    }
}
