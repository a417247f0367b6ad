//! Sealed share files: only those they are for can open them, whatever is changed is noticed, and any program that knows `age` can read them.

use crate::support::{assert_whole, init, memory, open, save, subdir, temp};
use age::secrecy::ExposeSecret as _;
use std::fs;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write as _};
use std::sync::Arc;
use vml_core::recipe::read_stream;
use vml_core::share::seal::{Identity, RECIPIENTS_MAX, Recipient, SEALED_MAGIC, Sealer, Unsealed, is_sealed};
use vml_core::share::{PublicKey, ReceiveOptions, SecretKey, ShareFile, ShareRequest, Signer as _, receive, share};
use vml_core::tree::{Content, NodeKind, find_path};
use vml_core::{Backend, EntryId, Error, ErrorKind, NoMonitor, Repository, Result};
use vml_testkit::noise::incompressible as noise;

/// A key of age, private and public.
fn age_key() -> (String, String) {
    let key = age::x25519::Identity::generate();
    (key.to_string().expose_secret().to_owned(), key.to_public().to_string())
}

fn ssh(number: u8) -> (Recipient, Vec<Identity>) {
    let key = SecretKey::from_seed([number; 32]);
    let public = Recipient::parse(&key.public_key().to_openssh("eva@example.org")).unwrap();
    (public, Identity::parse(&key.to_openssh("eva@example.org").unwrap()).unwrap())
}

fn seal(recipients: &[Recipient], bytes: &[u8]) -> Vec<u8> {
    let mut out = Sealer::new(recipients, Vec::new()).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn unseal(bytes: &[u8], identities: &[Identity]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let read = Unsealed::new(BufReader::new(bytes), identities)?.read_to_end(&mut plain);
    read.map_err(|error| Error::corrupt("unreadable").because(error))?;
    Ok(plain)
}

#[test]
fn each_of_several_keys_opens_a_file_and_no_other_does() {
    let plain = noise(1, 200_000);
    let (eva, evas) = ssh(1);
    let (adam, adams) = ssh(2);
    let (_, strangers) = ssh(3);
    let (secret, public) = age_key();
    let age = Recipient::parse(&public).unwrap();
    assert_eq!((age.to_string(), eva.to_string().ends_with("eva@example.org")), (public, true));
    let sealed = seal(&[eva, adam, age], &plain);
    assert!(is_sealed(&sealed) && sealed.starts_with(SEALED_MAGIC) && sealed.len() < plain.len() + 1500);
    let file = format!("# created by age-keygen\n\n{secret}\n");
    for keys in [evas, adams, Identity::parse(&file).unwrap()] {
        assert_eq!(unseal(&sealed, &keys).unwrap(), plain);
        let mixed: Vec<Identity> = ssh(3).1.into_iter().chain(keys).collect();
        assert_eq!(unseal(&sealed, &mixed).unwrap(), plain);
    }
    for keys in [&strangers[..], &[]] {
        let error = unseal(&sealed, keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("sealed to other keys"), "{error}");
    }
}

#[test]
fn the_format_is_that_of_age() {
    let plain = noise(2, 70_000);
    let (eva, _) = ssh(1);
    let (secret, public) = age_key();
    let sealed = seal(&[eva, Recipient::parse(&public).unwrap()], &plain);
    // By the crate itself, with both kinds of keys.
    let key: age::x25519::Identity = secret.parse().unwrap();
    assert_eq!(age::decrypt(&key, &sealed).unwrap(), plain);
    let text = SecretKey::from_seed([1; 32]).to_openssh("").unwrap();
    let key = age::ssh::Identity::from_buffer(text.as_bytes(), None).unwrap();
    assert_eq!(age::decrypt(&key, &sealed).unwrap(), plain);
    // And the other way round.
    let key: age::x25519::Recipient = public.parse().unwrap();
    let theirs = age::encrypt(&key, &plain).unwrap();
    assert_eq!(unseal(&theirs, &Identity::parse(&secret).unwrap()).unwrap(), plain);
}

#[test]
fn keys_that_are_none_and_keys_that_are_locked_are_told_apart() {
    let (secret, public) = age_key();
    let twice = format!("{public}\n{public}");
    for text in ["", "age1", "ssh-rsa AAAA", "ssh-ed25519 AAAA", &secret, "eva", &"age1x".repeat(100_000), &twice] {
        assert_eq!(Recipient::parse(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", text.get(..20).unwrap_or(text));
    }
    for text in ["", "# nothing", &public, "-----BEGIN OPENSSH PRIVATE KEY-----", &"AGE".repeat(100_000)] {
        assert_eq!(Identity::parse(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", text.get(..20).unwrap_or(text));
    }
    let dir = temp();
    let path = dir.path().join("key");
    let made = std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "secret", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    let error = Identity::parse(&fs::read_to_string(path).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("passphrase"), "{error}");
    assert!(Sealer::new(&[], Vec::new()).is_err());
    let many: Vec<Recipient> = (0..=RECIPIENTS_MAX).map(|_| Recipient::parse(&public).unwrap()).collect();
    assert!(Sealer::new(&many, Vec::new()).is_err());
    // As many as may be stay below the limit of a head.
    assert_eq!(unseal(&seal(&many[1..], b"x"), &Identity::parse(&secret).unwrap()).unwrap(), b"x");
    let ssh_keys: Vec<Recipient> = (0..RECIPIENTS_MAX).map(|_| ssh(1).0).collect();
    assert_eq!(unseal(&seal(&ssh_keys, b"x"), &ssh(1).1).unwrap(), b"x");
}

#[test]
fn every_cut_and_every_flip_is_noticed() {
    let plain = noise(3, 150_000);
    let (eva, keys) = ssh(1);
    let sealed = seal(&[eva], &plain);
    let places = (0..400).chain((400..sealed.len()).step_by(997)).chain(sealed.len() - 40..sealed.len());
    for at in places {
        assert!(unseal(&sealed[..at], &keys).is_err(), "cut at {at}");
        let mut changed = sealed.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(unseal(&changed, &keys).is_err(), "flipped at {at}");
    }
    let longer = [&sealed[..], b"x"].concat();
    assert!(unseal(&longer, &keys).is_err());
    // Parts that changed places.
    let mut swapped = sealed.clone();
    let start = sealed.len() - (150_000 + 3 * 16);
    let (one, other) = swapped[start..].split_at_mut(65_552);
    one.swap_with_slice(&mut other[..65_552]);
    assert!(unseal(&swapped, &keys).is_err());
}

#[test]
fn a_head_without_end_is_read_to_its_limit_only() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line = b"-> X25519 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
            for byte in buffer.iter_mut() {
                let at = usize::try_from(self.0).unwrap();
                *byte = if at < SEALED_MAGIC.len() { SEALED_MAGIC[at] } else { line[(at - SEALED_MAGIC.len()) % line.len()] };
                self.0 += 1;
            }
            Ok(buffer.len())
        }
    }
    let mut endless = Endless(0);
    assert!(Unsealed::new(BufReader::new(&mut endless), &ssh(1).1).is_err());
    assert!(endless.0 < 100_000, "{}", endless.0);
    for start in [&b"age-encryption.org/v1\n"[..], b"age-encryption.org/v2\n-> X\n", b"age-encryption.org/v1\n--- aaaa\n", b"VMLSHARE", b""]
    {
        assert!(unseal(start, &ssh(1).1).is_err());
    }
    let mut sealing = age::Encryptor::with_user_passphrase("secret".to_owned().into()).wrap_output(Vec::new()).unwrap();
    sealing.write_all(b"x").unwrap();
    assert_eq!(unseal(&sealing.finish().unwrap(), &ssh(1).1).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
}

#[test]
fn any_place_is_read_without_what_is_before_it() {
    let plain = noise(4, 300_000);
    let (eva, keys) = ssh(1);
    let sealed = seal(&[eva], &plain);
    let mut file = Unsealed::new(BufReader::new(Cursor::new(sealed)), &keys).unwrap();
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 300_000);
    for (at, len) in [(200_000_usize, 1000), (0, 10), (65_536, 65_536), (131_000, 100_000), (299_999, 1), (65_535, 2)] {
        let mut buffer = vec![0; len];
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, plain[at..at + len], "{len} at {at}");
    }
}

struct Lab {
    dir: tempfile::TempDir,
    id: EntryId,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    keys: Vec<Identity>,
    signer: PublicKey,
}

/// A share file, signed and then sealed.
fn lab() -> Lab {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..10_u64 {
        fs::write(tree.join(format!("{number}")), noise(number, 40_000)).unwrap();
    }
    let repository = init(&memory());
    let id = save(&repository, "work", &tree).id;
    let key = SecretKey::from_seed([9; 32]);
    let (eva, keys) = ssh(1);
    let mut plain = Vec::new();
    let asked = ShareRequest {
        entries: &[id],
        since: &[],
        full: false,
        level: 3,
        solid: false,
        threads: 2,
        author: "adam",
        time_ms: 7,
        signer: Some(&key),
    };
    share(&repository, &asked, &mut plain, &NoMonitor).unwrap();
    let sealed = seal(&[eva], &plain);
    Lab { dir, id, plain, sealed, keys, signer: key.public_key() }
}

fn take(repository: &Repository, sealed: &[u8], lab: &Lab) -> Result<Option<String>> {
    let mut reader = Unsealed::new(BufReader::new(sealed), &lab.keys)?;
    let name = |key: &PublicKey| (*key == lab.signer).then(|| "adam".to_owned());
    let options = ReceiveOptions { trusted: &name, require_signed: true, time_ms: 5 };
    receive(repository, &mut reader, &options, &NoMonitor).map(|received| received.known_as)
}

#[test]
fn a_sealed_file_is_received_with_its_signature_or_not_at_all() {
    let lab = lab();
    let backend: Arc<dyn Backend> = memory();
    let to = init(&backend);
    let head = lab.sealed.len() - lab.plain.len() - lab.plain.len().div_ceil(65_536) * 16;
    for at in (head..lab.sealed.len()).step_by(20_011).chain([lab.sealed.len() - 1]) {
        let cut = take(&to, &lab.sealed[..at], &lab).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Corrupt, "cut at {at}: {cut:?}");
        let mut changed = lab.sealed.clone();
        changed[at] ^= 4;
        let changed = take(&to, &changed, &lab).unwrap_err();
        assert_eq!(changed.kind(), ErrorKind::Corrupt, "flipped at {at}: {changed:?}");
    }
    assert_eq!(to.entry_ids().unwrap(), []);
    assert_whole(&backend);
    // What came in the tries before is not stored again.
    let packs = backend.list("data").unwrap().len();
    assert_eq!(take(&to, &lab.sealed, &lab).unwrap().as_deref(), Some("adam"));
    assert!(backend.list("data").unwrap().len() <= packs + 1);
    assert_eq!(open(&backend).entry_ids().unwrap(), [lab.id]);
    assert_whole(&backend);
}

#[test]
fn a_sealed_file_is_looked_into_where_it_lies() {
    let lab = lab();
    let path = lab.dir.path().join("work.vml");
    fs::write(&path, &lab.sealed).unwrap();
    let file = ShareFile::open_with(&path, &mut || Ok(ssh(1).1)).unwrap();
    assert_eq!((file.is_sealed(), file.len(), file.signer()), (true, lab.plain.len() as u64, Some(lab.signer)));
    let (_, entry) = &file.preface().entries[0];
    let node = find_path(&file, &entry.tree().unwrap().root, b"7").unwrap();
    let NodeKind::File(Content::Recipe(recipe)) = node.kind else { panic!() };
    let mut bytes = Vec::new();
    read_stream(&file, &recipe, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes, noise(7, 40_000));
    assert_eq!(ShareFile::open(&path).err().unwrap().kind(), ErrorKind::PermissionDenied);
    assert_eq!(ShareFile::open_with(&path, &mut || Ok(ssh(2).1)).err().unwrap().kind(), ErrorKind::PermissionDenied);
    let mut damaged = lab.sealed.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(ShareFile::open_with(&path, &mut || Ok(ssh(1).1)).err().unwrap().kind(), ErrorKind::Corrupt);
    // Plain files are as they were, and nobody is asked for a key.
    fs::write(&path, &lab.plain).unwrap();
    let plain = ShareFile::open_with(&path, &mut || panic!("asked for a key")).unwrap();
    assert!(!plain.is_sealed());
}
