//! Encryption: sealed files and keyrings of an enemy.

use crate::seal;
use crate::seeds::Seed;
use std::sync::Arc;
use vml_chunk::index::Source as _;
use vml_chunk::seal::{Keyring, NewKey, Random, SLOTS_KEY, SealedBackend, Unlock, plain_len, scrub};
use vml_chunk::{Backend, ErrorKind, MemoryBackend};

const CONFIG: [u8; 32] = [3; 32];
const KEY_FILE: &str = "vml-key-1 0707070707070707070707070707070707070707070707070707070707070707 ";
const CONTENT: &[u8] = b"what was sealed";
/// A shared file, a protected one that is bound to its name, and a pack.
const KEYS: [&str; 3] = ["index/x", "entries/x", "data/x"];

fn unlock() -> Unlock {
    let sum = blake3::hash(&[7; 32]).to_hex();
    Unlock::key_file(format!("{KEY_FILE}{}", &sum[..8]).as_bytes()).expect("a key file")
}

/// The same bytes each time, so that seeds stay.
fn steady() -> Random {
    Arc::new(|bytes: &mut [u8]| {
        bytes.iter_mut().zip(1..).for_each(|(byte, number)| *byte = number);
        Ok(())
    })
}

fn repository() -> (Arc<dyn Backend>, SealedBackend) {
    let inner: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let key = NewKey::new(unlock(), "fuzzed", 0);
    let sealed = SealedBackend::create_with(Arc::clone(&inner), CONFIG, &key, steady()).expect("memory takes it");
    (inner, sealed)
}

thread_local! {
    static REPOSITORY: (Arc<dyn Backend>, SealedBackend) = repository();
}

/// A file in the place of each kind of sealed file: it opens as what was sealed, or not at all.
pub fn sealed_file(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::sealed(bytes)] {
        REPOSITORY.with(|(inner, sealed)| KEYS.iter().for_each(|key| in_place(inner.as_ref(), sealed, key, &bytes)));
    }
}

fn in_place(inner: &dyn Backend, sealed: &SealedBackend, key: &str, bytes: &[u8]) {
    inner.delete(key).and_then(|()| inner.put(key, bytes)).expect("memory");
    match sealed.map(key) {
        // Nothing else was ever sealed with these keys.
        Ok(plain) => {
            assert_eq!(plain.as_ref(), CONTENT, "bytes that nobody sealed");
            scrub(inner, key).expect("what opens as a whole is whole");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}"),
    }
    assert_eq!(sealed.len(key).ok(), plain_len(key, bytes.len() as u64));
    let mut part = [0; 4];
    if sealed.read_at(key, 5, &mut part).is_ok() {
        assert_eq!(part, CONTENT[5..9], "bytes that nobody sealed");
    }
    if let Ok(paged) = sealed.paged(key) {
        _ = paged.with(5, 4, |part| assert_eq!(part, &CONTENT[5..9], "bytes that nobody sealed"));
        assert!(paged.with(usize::MAX, 4, |_| ()).is_none());
    }
    assert!(sealed.read_at(key, u64::MAX, &mut part).is_err());
}

/// A keyring: decoded in one encoding, within its limits; it opens for nobody but its owner.
pub fn keyring(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::record(bytes)] {
        let Ok(keyring) = Keyring::decode(bytes.clone()) else { continue };
        assert_eq!(keyring.bytes(), bytes);
        assert!((1..=vml_chunk::seal::SLOTS_MAX).contains(&keyring.slots().len()));
        if let Err(error) = keyring.unlock(&CONFIG, &unlock()) {
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongKey), "{error:?}");
        }
    }
}

/// One of each kind.
pub fn sealed_file_seeds() -> Vec<Seed> {
    let (inner, sealed) = repository();
    let mut staged = sealed.stage().expect("memory");
    staged.append(CONTENT).and_then(|()| staged.publish(KEYS[2])).expect("memory");
    for key in &KEYS[..2] {
        sealed.put(key, CONTENT).expect("memory");
    }
    ["shared", "protected", "pack"]
        .into_iter()
        .zip(KEYS)
        .map(|(name, key)| (name, inner.read(key, 1 << 20).expect("it is there")))
        .collect()
}

/// With one key.
pub fn keyring_seeds() -> Vec<Seed> {
    let (inner, _) = repository();
    vec![("one-key", inner.read(SLOTS_KEY, 1 << 20).expect("it is there"))]
}
