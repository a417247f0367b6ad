//! Encrypted repositories: made and opened with a key; the rest of the library sees plain files.
//!
//! ```text
//! config        in the clear, says that and how the rest is sealed; the keys vouch for it
//! keys/slots    who has a key
//! all else      sealed, see `vml_chunk::seal`
//! ```

use super::{CONFIG_KEY, CONFIG_RECORD, Config, RECORD_MAX_LEN, Repository, RepositoryOptions};
use std::sync::{Arc, OnceLock};
use vml_chunk::codec::{decode_record, encode_record};
use vml_chunk::seal::{Keyring, NewKey, Rights, SLOTS_KEY, SealedBackend, Slot, Unlock};
use vml_chunk::{Backend, ChunkerParams, DiscardBackend, Error, ErrorKind, IdKey, PutOutcome, Result};

/// The feature of an encrypted repository; it names layout and cipher.
pub const FEATURE_SEALED: &str = "sealed-1-aes-256-gcm";

impl Repository {
    /// Makes an encrypted repository on an empty backend, with one full key. `config` is as for one that is not encrypted; its feature is added.
    ///
    /// # Errors
    /// As [`init`](Self::init); `InvalidInput` for a key that cannot be the first.
    pub fn init_encrypted(backend: &Arc<dyn Backend>, mut config: Config, options: RepositoryOptions, key: &NewKey) -> Result<Self> {
        config.features.read = vec![FEATURE_SEALED.to_owned()];
        config.check()?;
        let bytes = encode_record(CONFIG_RECORD, &config);
        refuse_taken(backend.as_ref())?;
        let sealed = SealedBackend::create(Arc::clone(backend), *blake3::hash(&bytes).as_bytes(), key)?;
        Self::publish_config(backend.as_ref(), &bytes)?;
        sealed.confirm_keys()?;
        Ok(Self::sealed(sealed, config, options))
    }

    /// Makes an encrypted repository with the secrets and the keys of another one, so that entries can cross between the two as they are stored.
    ///
    /// # Errors
    /// As [`init`](Self::init); `InvalidInput` when `other` is not encrypted, `NeedsKey` when it was not opened with a full key.
    pub fn init_like(backend: &Arc<dyn Backend>, mut config: Config, options: RepositoryOptions, other: &Self) -> Result<Self> {
        let sealed = other.sealed.as_ref().ok_or_else(not_encrypted)?;
        config.features = other.config.features.clone();
        config.check()?;
        let bytes = encode_record(CONFIG_RECORD, &config);
        refuse_taken(backend.as_ref())?;
        let sealed = sealed.copy_keys(Arc::clone(backend), *blake3::hash(&bytes).as_bytes())?;
        Self::publish_config(backend.as_ref(), &bytes)?;
        sealed.confirm_keys()?;
        Ok(Self::sealed(sealed, config, options))
    }

    fn publish_config(backend: &dyn Backend, bytes: &[u8]) -> Result<()> {
        match backend.put(CONFIG_KEY, bytes)? {
            PutOutcome::Stored => Ok(()),
            PutOutcome::AlreadyThere => Err(there_is_one()),
        }
    }

    /// Opens a repository with a key, if it needs one.
    ///
    /// # Errors
    /// As [`open`](Self::open); `NeedsKey`, with the keys that there are, for an encrypted repository without a key, `WrongKey` when the key opens nothing,
    /// `InvalidInput` for a key where nothing is encrypted: whoever gave it takes what he saves for hidden.
    pub fn open_with(backend: Arc<dyn Backend>, options: RepositoryOptions, unlock: Option<&Unlock>) -> Result<Self> {
        let bytes = match backend.read(CONFIG_KEY, RECORD_MAX_LEN) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::not_found("there is no repository here").because(error)),
            other => other?,
        };
        let config: Config = decode_record(CONFIG_RECORD, &bytes)?;
        config.check()?;
        if config.is_encrypted() {
            let sealed = SealedBackend::open(backend, *blake3::hash(&bytes).as_bytes(), unlock);
            return sealed.map(|sealed| Self::sealed(sealed, config, options)).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::corrupt(format!("{SLOTS_KEY} is missing: without it nobody can open this repository")),
                _ => error,
            });
        }
        if let Some(unlock) = unlock {
            return Err(Error::invalid(format!("a {} was given, but this repository is not encrypted", unlock.what())));
        }
        Ok(Self { backend, config, options, ids: IdKey::PLAIN, sealed: None, store: OnceLock::new() })
    }

    fn sealed(sealed: SealedBackend, mut config: Config, options: RepositoryOptions) -> Self {
        let secrets = sealed.secrets();
        if let ChunkerParams::FastCdc2020 { seed, .. } = &mut config.chunker {
            *seed = secrets.chunker_seed();
        }
        let sealed = Arc::new(sealed);
        let backend: Arc<dyn Backend> = sealed.clone();
        Self { backend, config, options, ids: secrets.ids(), sealed: Some(sealed), store: OnceLock::new() }
    }

    /// The same repository for a dry run: what is written to it is gone.
    #[must_use]
    pub fn discarding(&self) -> Self {
        Self {
            backend: Arc::new(DiscardBackend::new(Arc::clone(&self.backend))),
            config: self.config.clone(),
            options: self.options,
            ids: self.ids.clone(),
            sealed: self.sealed.clone(),
            store: OnceLock::new(),
        }
    }

    /// How its chunks are named.
    pub fn ids(&self) -> &IdKey {
        &self.ids
    }

    /// What the key with which it was opened may do; `None` where nothing is encrypted.
    pub fn rights(&self) -> Option<Rights> {
        self.sealed.as_ref().map(|sealed| sealed.secrets().rights())
    }

    /// Refuses what must read, for a key that can save only.
    pub(super) fn refuse_put_only(&self, what: &str) -> Result<()> {
        match self.rights() {
            Some(Rights::PutOnly) => Err(Error::new(ErrorKind::NeedsKey, format!("this key can save but not read, and {what}"))),
            _ => Ok(()),
        }
    }

    /// Refuses what needs plain chunks, for an encrypted repository.
    pub(crate) fn refuse_encrypted(&self, what: &str) -> Result<()> {
        if self.ids.is_plain() { Ok(()) } else { Err(Error::invalid(format!("an encrypted repository {what}"))) }
    }

    /// The keys of an encrypted repository.
    ///
    /// # Errors
    /// `InvalidInput` where nothing is encrypted.
    pub fn access(&self) -> Result<&SealedBackend> {
        self.sealed.as_deref().ok_or_else(not_encrypted)
    }
}

/// The keys of a repository, which everybody may see; `None` where nothing is encrypted.
///
/// # Errors
/// `NotFound` when there is no repository, `Corrupt` when its configuration or keyring is damaged.
pub fn keys_of(backend: &dyn Backend) -> Result<Option<Vec<Slot>>> {
    let config: Config = decode_record(CONFIG_RECORD, &backend.read(CONFIG_KEY, RECORD_MAX_LEN)?)?;
    config.check()?;
    config.is_encrypted().then(|| Keyring::read(backend).map(|keyring| keyring.slots().to_vec())).transpose()
}

fn refuse_taken(backend: &dyn Backend) -> Result<()> {
    match backend.len(CONFIG_KEY) {
        Ok(_) => Err(there_is_one()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn there_is_one() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a repository here already")
}

fn not_encrypted() -> Error {
    Error::invalid("this repository is not encrypted: that is decided when it is made")
}
