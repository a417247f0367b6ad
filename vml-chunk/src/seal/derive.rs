//! Every key, derived in one place: BLAKE3 in its key derivation mode, with a context of its own for each use.

use super::Random;
use crate::error::{Error, ErrorKind, IoResultExt, Result};
use std::sync::Arc;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// 32 secret bytes, wiped when they are dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// What a key is for. The texts are part of the format.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    /// A sealed file.
    File,
    /// Names of sealed files: their tags.
    NameTag,
    /// Names of sealed files: what hides them.
    NameText,
    /// Salts, beside randomness.
    Salt,
    /// A slot's private key, from what its owner knows.
    SlotPrivate,
    /// By which a slot's owner knows that a keyring is no forgery.
    SlotProof,
    /// A slot's box.
    SlotBox,
    /// The part of a keyring that every key opens.
    SharedRing,
    /// The part that full keys open.
    FullRing,
}

impl Use {
    pub(super) fn context(self) -> &'static str {
        match self {
            Self::File => "vml 2026 sealed file",
            Self::NameTag => "vml 2026 sealed name, tag",
            Self::NameText => "vml 2026 sealed name, text",
            Self::Salt => "vml 2026 salt",
            Self::SlotPrivate => "vml 2026 slot, private key",
            Self::SlotProof => "vml 2026 slot, proof",
            Self::SlotBox => "vml 2026 slot, box",
            Self::SharedRing => "vml 2026 keyring, shared",
            Self::FullRing => "vml 2026 keyring, full",
        }
    }
}

/// Derives a key from parts of fixed length; at most the last one varies.
pub(super) fn derive(what: Use, parts: &[&[u8]]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key(what.context());
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// Bytes of the operating system.
pub(super) fn system_random() -> Random {
    Arc::new(|bytes: &mut [u8]| {
        let mut filled = 0;
        while filled < bytes.len() {
            filled +=
                rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).at(|| "cannot get random bytes")?;
        }
        Ok(())
    })
}

pub(super) fn random_key(random: &Random) -> Result<Key> {
    let mut key = Key::default();
    random(&mut *key)?;
    Ok(key)
}

pub(super) fn public_of(private: &Key) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(**private)).to_bytes()
}

/// What two ends of X25519 have in common.
pub(super) fn agree(private: &Key, public: &[u8; 32]) -> Result<Key> {
    let shared = StaticSecret::from(**private).diffie_hellman(&PublicKey::from(*public));
    if !shared.was_contributory() {
        return Err(Error::new(ErrorKind::Corrupt, "a public key has a value that no key has"));
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}
