//! Encrypted repositories for tests: keys that cost nothing to try, and bytes that are random for nobody, so that a run can be repeated.

use std::sync::Arc;
use vml_chunk::seal::{NewKey, Random, Rights, SealedBackend, Unlock};
use vml_chunk::{Backend, Result};

/// What stands in for the digest of a configuration.
pub const CONFIG: [u8; 32] = [3; 32];
/// The passphrase of the first key.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// The same bytes each time. Files that differ have different keys all the same, but for long ones that begin alike.
pub fn steady_random() -> Random {
    Arc::new(|bytes: &mut [u8]| {
        bytes.iter_mut().zip(1..).for_each(|(byte, number)| *byte = number);
        Ok(())
    })
}

/// What opens the first key.
pub fn unlock() -> Unlock {
    Unlock::passphrase(PASSPHRASE).expect("it is not empty")
}

/// A key that costs nothing to try.
pub fn cheap_key(passphrase: &str, label: &str, rights: Rights) -> NewKey {
    let unlock = Unlock::passphrase(passphrase).expect("it is not empty");
    NewKey { rights, cheap: true, ..NewKey::new(unlock, label, 1_700_000_000_000) }
}

/// Makes the keyring in an empty backend, and seals it.
pub fn seal(inner: Arc<dyn Backend>) -> Result<SealedBackend> {
    SealedBackend::create_with(inner, CONFIG, &cheap_key(PASSPHRASE, "first", Rights::Full), steady_random())
}

/// Opens what was sealed, by the first key.
pub fn open(inner: Arc<dyn Backend>) -> Result<SealedBackend> {
    SealedBackend::open_with(inner, CONFIG, Some(&unlock()), steady_random())
}
