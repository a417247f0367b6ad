//! Encryption at rest: a backend around another one that seals every file but those that tell how to open them.
//!
//! ```text
//! store, repository ──► SealedBackend ──► [CachedBackend] ──► files of a directory or an object store
//!                          │ Secrets
//! keys/slots               │ ▲
//!   slot "laptop"  passphrase ─ argon2id ─┐
//!   slot "host7"   key file ──────────────┴► X25519 ─► box ─► keyring: id key, cut points, names, secrets of each epoch
//! ```
//! * Every file is sealed in blocks of 64 KiB (4 KiB in the index, which is opened as it is read: `paged.rs`) with a key of its own, so that it can be read anywhere, and a block that is cut off, moved, or of another
//!   file does not open (`write.rs`, `layout.rs`).
//! * Files are *shared* between all keys, or *protected*: then sealed to the repository's public key, so that a key can save what it cannot read.
//! * Keys are slots of one small file, which is replaced as a whole: giving a key, taking one away and rotating are one compare-and-swap each.
//!
//! What this protects, and what not, is in `docs/threat-model.md`; the bytes are in `docs/format.md`.

mod access;
mod backend;
mod cipher;
mod derive;
mod keyring;
mod layout;
mod paged;
mod rename;
mod scrub;
mod secrets;
mod unlock;
mod write;

pub use backend::SealedBackend;
pub use keyring::{KEYRING_RECORD, Keyring, Rights, SLOTS_KEY, SLOTS_MAX, Slot};
pub use layout::{BLOCK_LEN, CIPHER_AES_256_GCM, Class, HEADER_LEN, INDEX_BLOCK_LEN, SEALED_VERSION, block_len, plain_len, sealed_len};
pub use rename::NAME_MAX;
pub use scrub::scrub;
pub use secrets::Secrets;
pub use unlock::{KEY_FILE_LEN, NewKey, SlotKind, Stretch, Unlock, key_file_text};

use std::sync::Arc;

/// Where random bytes come from: the operating system, but in tests.
pub type Random = Arc<dyn Fn(&mut [u8]) -> crate::error::Result<()> + Send + Sync>;
