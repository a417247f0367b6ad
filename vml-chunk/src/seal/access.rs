//! Gives keys, takes them away, and rotates: each is one compare-and-swap of the keyring.

use super::Random;
use super::backend::SealedBackend;
use super::keyring::{Keyring, Rights, SLOTS_KEY, Slot, describe, new_slot, put_only};
use super::secrets::Secrets;
use super::unlock::{NewKey, Unlock};
use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// A change of what was read: slots, and the secrets that are sealed to them.
type Change<'c, T> = &'c mut dyn FnMut(&Keyring, &mut Vec<Slot>, &mut Secrets) -> Result<T>;

/// Times that a change is begun anew because somebody else changed the keyring.
const TRIES: usize = 20;

impl SealedBackend {
    /// The keys of the repository.
    ///
    /// # Errors
    /// As [`Keyring::read`].
    pub fn keys(&self) -> Result<Vec<Slot>> {
        Ok(Keyring::read(self.inner().as_ref())?.slots().to_vec())
    }

    /// Gives a key.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of that label, or that this opens already; `NeedsKey` without a full key.
    pub fn add_key(&self, key: &NewKey) -> Result<Slot> {
        self.change(&mut |keyring, slots, secrets| {
            let exists = |what: &str| Err(Error::new(ErrorKind::AlreadyExists, format!("the repository has a key {what} already")));
            if slots.iter().any(|slot| slot.label == key.label) {
                return exists(&format!("with the label {:?}", key.label));
            }
            // Two slots that one passphrase opens: the second would never be found.
            if keyring.unlock(self.config(), &key.unlock).is_ok_or_damaged() {
                return exists(&format!("that this {} opens", key.unlock.what()));
            }
            let (slot, own) = new_slot(key, self.random())?;
            slots.push(slot.clone());
            secrets.proofs.as_mut().ok_or_else(put_only)?.push(own.proof);
            Ok(slot)
        })
    }

    /// Takes a key away, by its label or the beginning of its id, and rotates in the same step: whoever has it reads nothing of what is written from now on,
    /// but for what he may have copied.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for the last full key or a name that could be several; `NeedsKey` without a full key.
    pub fn remove_key(&self, name: &str) -> Result<Slot> {
        self.change(&mut |_, slots, secrets| {
            let matches = |slot: &Slot| slot.label == name;
            let mut found: Vec<usize> = (0..slots.len()).filter(|at| matches(&slots[*at])).collect();
            if found.is_empty() && name.len() >= 4 {
                found = (0..slots.len()).filter(|at| slots[*at].id().starts_with(name)).collect();
            }
            let at = match found[..] {
                [at] => at,
                [] => return Err(Error::not_found(format!("the repository has no key {name:?}; it has {}", describe(slots)))),
                _ => return Err(Error::invalid(format!("{name:?} could be {} keys", found.len()))),
            };
            if slots[at].rights == Rights::Full && slots.iter().filter(|slot| slot.rights == Rights::Full).count() == 1 {
                return Err(Error::invalid(format!("{:?} is the only key that can read: give another one before", slots[at].label)));
            }
            secrets.proofs.as_mut().ok_or_else(put_only)?.remove(at);
            secrets.rotate(self.random())?;
            Ok(slots.remove(at))
        })
    }

    /// New secrets for all that is written from now on; what is there stays readable by whoever could read it. Tells how many there were.
    ///
    /// # Errors
    /// `NeedsKey` without a full key.
    pub fn rotate_keys(&self) -> Result<usize> {
        self.change(&mut |_, _, secrets| {
            secrets.rotate(self.random())?;
            Ok(secrets.epochs_count())
        })
    }

    fn change<T>(&self, change: Change<'_, T>) -> Result<T> {
        for _ in 0..TRIES {
            let keyring = Keyring::read(self.inner().as_ref())?;
            let mut secrets = keyring.open(self.config(), &self.secrets().own)?;
            if secrets.rights() != Rights::Full {
                return Err(put_only());
            }
            let mut slots = keyring.slots().to_vec();
            let result = change(&keyring, &mut slots, &mut secrets)?;
            let new = Keyring::seal(slots, &secrets, self.config(), self.random())?;
            if self.inner().swap(SLOTS_KEY, Some(keyring.bytes()), Some(new.bytes()))? {
                self.set_secrets(Arc::new(secrets));
                return Ok(result);
            }
        }
        Err(Error::new(ErrorKind::Locked, "the repository's keys are changed by others all the time"))
    }
}

/// Whether an attempt to open found a slot.
trait FoundSlot {
    fn is_ok_or_damaged(&self) -> bool;
}

impl FoundSlot for Result<Secrets> {
    fn is_ok_or_damaged(&self) -> bool {
        self.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::WrongKey)
    }
}

impl SealedBackend {
    /// Makes the keyring of a new repository on a backend that has none. `config` is the digest of what stands beside it in the clear, for which the keys
    /// vouch. A keyring that is there is replaced: whoever made it was killed before he made his repository.
    ///
    /// # Errors
    /// `InvalidInput` for a key that cannot read, `Locked` when somebody else makes one at the same moment, else what the backend says.
    pub fn create(inner: Arc<dyn Backend>, config: [u8; 32], key: &NewKey) -> Result<Self> {
        Self::create_with(inner, config, key, super::derive::system_random())
    }

    /// As [`create`](Self::create), with random bytes from elsewhere: for tests.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_with(inner: Arc<dyn Backend>, config: [u8; 32], key: &NewKey, random: Random) -> Result<Self> {
        let (keyring, secrets) = Keyring::create(&config, key, &random)?;
        Self::begin(inner, config, &keyring, secrets, random)
    }

    /// Gives a new repository the secrets and the keys of this one. As [`create`](Self::create).
    ///
    /// # Errors
    /// As [`create`](Self::create); `NeedsKey` without a full key.
    pub fn copy_keys(&self, inner: Arc<dyn Backend>, config: [u8; 32]) -> Result<Self> {
        let keyring = Keyring::read(self.inner().as_ref())?;
        let secrets = keyring.open(self.config(), &self.secrets().own)?;
        let random = Arc::clone(self.random());
        let copy = Keyring::seal(keyring.slots().to_vec(), &secrets, &config, &random)?;
        Self::begin(inner, config, &copy, secrets, random)
    }

    fn begin(inner: Arc<dyn Backend>, config: [u8; 32], keyring: &Keyring, secrets: Secrets, random: Random) -> Result<Self> {
        let old = match inner.map(SLOTS_KEY) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if !inner.swap(SLOTS_KEY, old.as_ref().map(AsRef::as_ref), Some(keyring.bytes()))? {
            return Err(Error::new(ErrorKind::Locked, "somebody else makes a repository here at this moment"));
        }
        Ok(Self::with_secrets(inner, config, Arc::new(secrets), random))
    }

    /// Whether the keyring is that of this repository: nobody else made one since.
    ///
    /// # Errors
    /// `Locked` when it is not.
    pub fn confirm_keys(&self) -> Result<()> {
        let open = Keyring::read(self.inner().as_ref()).and_then(|keyring| keyring.open(self.config(), &self.secrets().own));
        let made =
            "somebody else made a repository here at the same moment, and the keys do not fit it: remove what is here, and make it again";
        open.map(drop).map_err(|error| Error::new(ErrorKind::Locked, made).because(error))
    }

    /// Opens a sealed repository's files.
    ///
    /// # Errors
    /// As [`Keyring::read`] and [`Keyring::unlock`]; `NeedsKey`, with the keys that there are, when nothing is given.
    pub fn open(inner: Arc<dyn Backend>, config: [u8; 32], unlock: Option<&Unlock>) -> Result<Self> {
        Self::open_with(inner, config, unlock, super::derive::system_random())
    }

    /// As [`open`](Self::open), with random bytes from elsewhere: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(inner: Arc<dyn Backend>, config: [u8; 32], unlock: Option<&Unlock>, random: Random) -> Result<Self> {
        let keyring = Keyring::read(inner.as_ref())?;
        let Some(unlock) = unlock else {
            let keys = describe(keyring.slots());
            return Err(Error::new(ErrorKind::NeedsKey, format!("this repository is encrypted, and no key was given; it has {keys}")));
        };
        let secrets = keyring.unlock(&config, unlock)?;
        Ok(Self::with_secrets(inner, config, Arc::new(secrets), random))
    }
}
