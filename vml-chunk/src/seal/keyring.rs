//! The file `keys/slots`: who has a key, and, in boxes, what the keys open.
//!
//! ```text
//! slots     label, time, rights, how the key is made, public key     in the clear, vouched for by every box
//! point     public half of the key pair by which the boxes were made
//! shared    id key, seed, key of names, epochs: shared key, public key     sealed with S
//! full      proofs of the slots, epochs: private key                       sealed with F
//! boxes     one a slot: S, and F for full keys        box key = derive(X25519(point, slot), proof, digest of all above, of the configuration)
//! ```
//! Whoever changes it draws S and F anew, and needs nothing of the other owners but their public keys and proofs. A box shows its owner that
//! everything is as somebody with a full key wrote it: nobody else has the proof. So nobody can put a public key of his own into
//! the file and wait for the next rotation, and a key that may only save cannot turn others to a public key of its own.

use super::Random;
use super::cipher::Cipher;
use super::derive::{Key, Use, agree, derive, public_of, random_key};
use super::secrets::{Epoch, Own, Secrets};
use super::unlock::{NewKey, SlotKind, Unlock};
use crate::backend::Backend;
use crate::codec::{RecordKind, decode_payload, decode_record, encode_payload, encode_record};
use crate::error::{Error, ErrorKind, Result};
use crate::id::hex;
use bincode::{Decode, Encode};
use zeroize::{Zeroize, Zeroizing};

/// Where the keyring is.
pub const SLOTS_KEY: &str = "keys/slots";
/// The record of a keyring.
pub const KEYRING_RECORD: RecordKind = RecordKind { number: 10, version: 1, name: "repository's keyring" };
/// Most keys.
pub const SLOTS_MAX: usize = 64;
/// Longest label, in bytes.
const LABEL_MAX: usize = 100;
/// Most rotations.
const EPOCHS_MAX: usize = 1 << 16;
/// Longest keyring: 64 bytes in either ring for each rotation, and the slots.
const KEYRING_MAX_LEN: u64 = 16 << 20;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Rights {
    /// Everything.
    Full,
    /// Save and nothing else.
    PutOnly,
}

/// A key, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Slot {
    /// By what people tell it from others.
    pub label: String,
    /// When it was given: milliseconds since 1970-01-01 00:00 UTC.
    pub created_ms: i64,
    /// What it may do.
    pub rights: Rights,
    /// What opens it.
    pub kind: SlotKind,
    /// Boxes are made for it.
    pub public: [u8; 32],
}

impl Slot {
    /// By what programs tell it from others.
    pub fn id(&self) -> String {
        hex(&self.public[..4])
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Body {
    slots: Vec<Slot>,
    point: [u8; 32],
    shared: Vec<u8>,
    full: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Record {
    body: Body,
    boxes: Vec<Vec<u8>>,
}

#[derive(Encode, Decode)]
struct SharedRing {
    id_key: [u8; 32],
    seed: u64,
    names: [u8; 32],
    epochs: Vec<([u8; 32], [u8; 32])>,
}

impl Drop for SharedRing {
    fn drop(&mut self) {
        self.id_key.zeroize();
        self.names.zeroize();
        self.seed.zeroize();
        self.epochs.iter_mut().for_each(|(key, _)| key.zeroize());
    }
}

#[derive(Encode, Decode)]
struct FullRing {
    proofs: Vec<[u8; 32]>,
    privates: Vec<[u8; 32]>,
}

impl Drop for FullRing {
    fn drop(&mut self) {
        self.proofs.zeroize();
        self.privates.zeroize();
    }
}

/// A keyring as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    record: Record,
    bytes: Vec<u8>,
}

impl Keyring {
    /// Reads the keyring of a repository.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, else what the backend says.
    pub fn read(inner: &dyn Backend) -> Result<Self> {
        Self::decode(inner.read(SLOTS_KEY, KEYRING_MAX_LEN)?)
    }

    /// A keyring from its bytes.
    ///
    /// # Errors
    /// `Corrupt` when it is none, or asks for more than its limits.
    pub fn decode(bytes: Vec<u8>) -> Result<Self> {
        let record: Record = decode_record(KEYRING_RECORD, &bytes)?;
        let slots = &record.body.slots;
        let bad = |what: &str| Err(Error::corrupt(format!("the repository's keyring {what}")));
        if slots.is_empty() || slots.len() > SLOTS_MAX || slots.len() != record.boxes.len() {
            return bad(&format!("has {} keys and {} boxes", slots.len(), record.boxes.len()));
        }
        for slot in slots {
            if check_label(&slot.label).is_err() {
                return bad("has a label that cannot be one");
            }
            if let SlotKind::Passphrase(stretch) = &slot.kind {
                stretch.check()?;
            }
        }
        Ok(Self { record, bytes })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The keys, as everybody sees them.
    pub fn slots(&self) -> &[Slot] {
        &self.record.body.slots
    }

    /// Makes a keyring with one full key.
    pub(super) fn create(config: &[u8; 32], key: &NewKey, random: &Random) -> Result<(Self, Secrets)> {
        if key.rights != Rights::Full {
            return Err(Error::invalid("the first key of a repository must be one that can read"));
        }
        let (slot, own) = new_slot(key, random)?;
        let secrets = Secrets::new(own.clone(), own.proof, random)?;
        Ok((Self::seal(vec![slot], &secrets, config, random)?, secrets))
    }

    /// Seals `secrets`, which are those of a full key with the proofs of all `slots`.
    pub(super) fn seal(slots: Vec<Slot>, secrets: &Secrets, config: &[u8; 32], random: &Random) -> Result<Self> {
        let (Some(proofs), Some(privates)) = (&secrets.proofs, privates_of(secrets)) else { return Err(put_only()) };
        if slots.len() > SLOTS_MAX || secrets.epochs.len() > EPOCHS_MAX {
            return Err(Error::invalid(format!("a repository has at most {SLOTS_MAX} keys and {EPOCHS_MAX} rotations")));
        }
        let shared = SharedRing {
            id_key: *secrets.id_key,
            seed: secrets.seed,
            names: *secrets.names,
            epochs: secrets.epochs.iter().map(|epoch| (*epoch.shared, epoch.public)).collect(),
        };
        let full = FullRing { proofs: proofs.iter().map(|proof| **proof).collect(), privates };
        let (s, f, ephemeral) = (random_key(random)?, random_key(random)?, random_key(random)?);
        let body = Body {
            slots,
            point: public_of(&ephemeral),
            shared: Cipher::seal_once(&derive(Use::SharedRing, &[&s[..]]), &Zeroizing::new(encode_payload(&shared))),
            full: Cipher::seal_once(&derive(Use::FullRing, &[&f[..]]), &Zeroizing::new(encode_payload(&full))),
        };
        let digest = blake3::hash(&encode_payload(&body));
        let mut boxes = Vec::new();
        for (slot, proof) in body.slots.iter().zip(proofs) {
            let key = derive(Use::SlotBox, &[&agree(&ephemeral, &slot.public)?[..], &proof[..], digest.as_bytes(), config]);
            let content = Zeroizing::new(match slot.rights {
                Rights::Full => [&s[..], &f[..]].concat(),
                Rights::PutOnly => s.to_vec(),
            });
            boxes.push(Cipher::seal_once(&key, &content));
        }
        let record = Record { body, boxes };
        Ok(Self { bytes: encode_record(KEYRING_RECORD, &record), record })
    }

    /// Opens it with what a user gave.
    ///
    /// # Errors
    /// `WrongKey` when that opens no slot, `Corrupt` when the keyring or the configuration is not as the owner of a full key wrote it.
    pub fn unlock(&self, config: &[u8; 32], unlock: &Unlock) -> Result<Secrets> {
        for slot in self.slots() {
            if let Some(own) = unlock.own(&slot.kind)?
                && public_of(&own.private) == slot.public
            {
                return self.open(config, &own);
            }
        }
        Err(Error::new(
            ErrorKind::WrongKey,
            format!("this {} opens none of the repository's keys; it has {}", unlock.what(), describe(self.slots())),
        ))
    }

    /// Opens it again, as the owner of a slot.
    pub(super) fn open(&self, config: &[u8; 32], own: &Own) -> Result<Secrets> {
        let body = &self.record.body;
        let public = public_of(&own.private);
        let Some(at) = body.slots.iter().position(|slot| slot.public == public) else {
            return Err(Error::new(ErrorKind::WrongKey, "this key was taken away from the repository"));
        };
        let forged = |_| Error::corrupt("the keyring or the configuration is not as somebody with a key of this repository wrote it");
        let digest = blake3::hash(&encode_payload(body));
        let key = derive(Use::SlotBox, &[&agree(&own.private, &body.point)?[..], &own.proof[..], digest.as_bytes(), config]);
        let content = Cipher::open_once(&key, &self.record.boxes[at]).map_err(forged)?;
        let (s, f) = match (body.slots[at].rights, content.len()) {
            (Rights::Full, 64) => (&content[..32], Some(&content[32..])),
            (Rights::PutOnly, 32) => (&content[..], None),
            _ => return Err(Error::corrupt("a box of the keyring does not hold what it should")),
        };
        let shared = Cipher::open_once(&derive(Use::SharedRing, &[s]), &body.shared).map_err(forged)?;
        let shared: SharedRing = decode_payload("keyring", &shared)?;
        let full = match f {
            Some(f) => {
                let full = Cipher::open_once(&derive(Use::FullRing, &[f]), &body.full).map_err(forged)?;
                Some(decode_payload::<FullRing>("keyring", &full)?)
            }
            None => None,
        };
        let counts_fit =
            full.as_ref().is_none_or(|full| full.proofs.len() == body.slots.len() && full.privates.len() == shared.epochs.len());
        if !counts_fit || shared.epochs.is_empty() || shared.epochs.len() > EPOCHS_MAX {
            return Err(Error::corrupt("the keyring does not add up"));
        }
        let private = |number: usize| full.as_ref().map(|full| Key::new(full.privates[number]));
        let epoch = |(number, (key, public)): (usize, &([u8; 32], [u8; 32]))| Epoch {
            shared: Key::new(*key),
            public: *public,
            private: private(number),
        };
        Ok(Secrets {
            id_key: Key::new(shared.id_key),
            seed: shared.seed,
            names: Key::new(shared.names),
            epochs: shared.epochs.iter().enumerate().map(epoch).collect(),
            proofs: full.as_ref().map(|full| full.proofs.iter().map(|proof| Key::new(*proof)).collect()),
            own: own.clone(),
        })
    }
}

fn privates_of(secrets: &Secrets) -> Option<Vec<[u8; 32]>> {
    secrets.epochs.iter().map(|epoch| epoch.private.as_ref().map(|key| **key)).collect()
}

pub(super) fn put_only() -> Error {
    Error::new(ErrorKind::NeedsKey, "this key can save but not read: keys are given and taken away with a full key")
}

/// A slot for a new key, and what its owner has.
pub(super) fn new_slot(key: &NewKey, random: &Random) -> Result<(Slot, Own)> {
    check_label(&key.label)?;
    let kind = key.kind(random)?;
    let own = key.unlock.own(&kind)?.expect("the slot is made for it");
    let slot = Slot { label: key.label.clone(), created_ms: key.created_ms, rights: key.rights, kind, public: public_of(&own.private) };
    Ok((slot, own))
}

fn check_label(label: &str) -> Result<()> {
    if label.trim().is_empty() || label.len() > LABEL_MAX || label.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{label:?} cannot be a key's label: it has 1 to {LABEL_MAX} printable bytes")));
    }
    Ok(())
}

/// The keys in one line: what a user could give.
pub(super) fn describe(slots: &[Slot]) -> String {
    let each = |slot: &Slot| {
        let kind = match slot.kind {
            SlotKind::Passphrase(_) => "passphrase",
            SlotKind::KeyFile => "key file",
        };
        let rights = if slot.rights == Rights::PutOnly { ", can save but not read" } else { "" };
        format!("{:?} ({kind}{rights})", slot.label)
    };
    slots.iter().map(each).collect::<Vec<_>>().join(", ")
}
