//! What a key gives access to, and how a file's key follows from it.
//!
//! ```text
//! lasting    id key, seed of cut points, key of names             the same for the life of a repository
//! epochs     shared key, public key, [private key]                a new one at each rotation; files name theirs
//!
//! shared file     key = derive(shared key,                    header, name)
//! protected file  key = derive(shared key, X25519(point, …),  header, name)     point: the writer's, in the header
//! ```
//! A protected file's key needs the shared key, too, so that nobody without any key of the repository can make one.

use super::cipher::Cipher;
use super::derive::{Key, Use, agree, derive, public_of, random_key};
use super::layout::{Class, Header};
use super::{Random, Rights};
use crate::error::{Error, ErrorKind, Result};
use crate::id::IdKey;
use zeroize::Zeroizing;

/// The secrets of one rotation.
#[derive(Clone)]
pub(super) struct Epoch {
    pub(super) shared: Key,
    pub(super) public: [u8; 32],
    /// Full keys have it.
    pub(super) private: Option<Key>,
}

/// What the owner of a key knows without the repository.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) private: Key,
    pub(super) proof: Key,
}

/// All that one key gives access to. Wiped when dropped.
#[derive(Clone)]
pub struct Secrets {
    pub(super) id_key: Key,
    pub(super) seed: u64,
    pub(super) names: Key,
    pub(super) epochs: Vec<Epoch>,
    /// The proofs of all slots, for full keys.
    pub(super) proofs: Option<Vec<Key>>,
    pub(super) own: Own,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("rights", &self.rights()).field("epochs", &self.epochs.len()).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Those of a new repository, for its first key.
    pub(super) fn new(own: Own, proof: Key, random: &Random) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 8]);
        random(&mut *seed)?;
        let mut secrets = Self {
            id_key: random_key(random)?,
            // 0 is the table that everybody knows.
            seed: u64::from_le_bytes(*seed).max(1),
            names: random_key(random)?,
            epochs: Vec::new(),
            proofs: Some(vec![proof]),
            own,
        };
        secrets.rotate(random)?;
        Ok(secrets)
    }

    /// New secrets for what is written from now on.
    pub(super) fn rotate(&mut self, random: &Random) -> Result<()> {
        let private = random_key(random)?;
        self.epochs.push(Epoch { shared: random_key(random)?, public: public_of(&private), private: Some(private) });
        Ok(())
    }

    /// What the key may do.
    pub fn rights(&self) -> Rights {
        if self.proofs.is_some() { Rights::Full } else { Rights::PutOnly }
    }

    /// What chunks are named by.
    pub fn ids(&self) -> IdKey {
        IdKey::keyed(*self.id_key)
    }

    /// Mixed into the table of the chunker.
    pub fn chunker_seed(&self) -> u64 {
        self.seed
    }

    /// How many rotations there were, and one.
    pub fn epochs_count(&self) -> usize {
        self.epochs.len()
    }

    pub(super) fn epoch(&self, number: u32) -> Option<&Epoch> {
        self.epochs.get(number as usize)
    }

    /// That in which files are written now.
    pub(super) fn current(&self) -> (u32, &Epoch) {
        let last = self.epochs.len() - 1;
        (u32::try_from(last).expect("limited when a keyring is read"), &self.epochs[last])
    }

    /// What writer and reader of protected files have in common, for the writer: its point, and the secret.
    pub(super) fn agree_anew(&self, random: &Random) -> Result<([u8; 32], Key)> {
        let ephemeral = random_key(random)?;
        let (_, epoch) = self.current();
        Ok((public_of(&ephemeral), agree(&ephemeral, &epoch.public)?))
    }

    /// The same for a reader.
    pub(super) fn agree_with(&self, key: &str, header: &Header) -> Result<Key> {
        let epoch = self.epoch(header.epoch).ok_or_else(|| unknown_epoch(key))?;
        let private = epoch
            .private
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::NeedsKey, format!("this key can save but not read: {key} is sealed for full keys")))?;
        agree(private, &header.point).map_err(|error| error.context(format!("the header of {key} is damaged")))
    }
}

/// What an epoch makes of a header; `agreed` is for protected files.
pub(super) fn file_cipher(epoch: &Epoch, agreed: Option<&Key>, header: &Header, name: &str) -> Cipher {
    debug_assert_eq!(header.class == Class::Protected, agreed.is_some());
    let head = header.encode();
    let name = if header.bound { name.as_bytes() } else { &[] };
    let agreed: &[u8] = agreed.map_or(&[], |key| &key[..]);
    Cipher::new(&derive(Use::File, &[&epoch.shared[..], agreed, &head, name]))
}

pub(super) fn unknown_epoch(key: &str) -> Error {
    Error::corrupt(format!("{key} names secrets that the repository never had: its header is damaged"))
}
