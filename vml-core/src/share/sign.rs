//! Who made a share file: ed25519 keys in OpenSSH's formats, and signatures as `ssh-keygen -Y sign` makes them.
//!
//! One kind of key serves: a key made here is an SSH key, and an SSH ed25519 key that somebody has already is as good. What is signed is a short text with the
//! digest of the file's table ([`statement`]), under the namespace [`NAMESPACE`], so that `ssh-keygen -Y verify` can check it without this program.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};
use std::fmt;
use vml_chunk::{Error, ErrorKind, Result};

/// What SSH signatures of share files are for.
pub const NAMESPACE: &str = "vml-share";

/// Longest text that is taken for a key or a signature.
const TEXT_MAX_LEN: usize = 8 << 10;

/// The text that a signature is over: `digest` is that of the file's table.
pub fn statement(digest: &[u8; 32]) -> Vec<u8> {
    format!("vml share file 1\ntable {}\n", blake3::Hash::from_bytes(*digest).to_hex()).into_bytes()
}

/// A public ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a line such as `ssh-ed25519 AAAA… comment`; gives the key and its comment.
    ///
    /// # Errors
    /// `InvalidInput` for what is no ed25519 key.
    pub fn from_openssh(text: &str) -> Result<(Self, String)> {
        let bad = || Error::invalid("this is no public ed25519 key: such a line begins with \"ssh-ed25519 \"");
        if text.len() > TEXT_MAX_LEN {
            return Err(bad());
        }
        let key = ssh_key::PublicKey::from_openssh(text.trim()).map_err(|error| bad().because(error))?;
        match key.key_data() {
            KeyData::Ed25519(data) => Ok((Self(data.0), key.comment().to_owned())),
            _ => Err(bad()),
        }
    }

    fn ssh(&self) -> KeyData {
        KeyData::Ed25519(Ed25519PublicKey(self.0))
    }

    /// The line that stands in `authorized_keys` and in `allowed_signers`.
    pub fn to_openssh(&self, comment: &str) -> String {
        ssh_key::PublicKey::new(self.ssh(), comment).to_openssh().unwrap_or_else(|_| self.fingerprint())
    }

    /// `SHA256:` and 43 letters, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.ssh().fingerprint(HashAlg::Sha256).to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// Signs statements: a key that is in memory, or a program that has one.
pub trait Signer {
    /// The key that the signatures are by.
    fn public_key(&self) -> PublicKey;

    /// A signature over `statement` in the armour of SSH.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn sign(&self, statement: &[u8]) -> Result<String>;
}

/// A private ed25519 key in memory.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key made from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads a private key of OpenSSH. `None` when it is locked with a passphrase: then a program that can ask for that signs.
    ///
    /// # Errors
    /// `InvalidInput` for what is no ed25519 key.
    pub fn from_openssh(text: &str) -> Result<Option<Self>> {
        let bad = || Error::invalid("this is no private ed25519 key in OpenSSH's format");
        if text.len() > TEXT_MAX_LEN {
            return Err(bad());
        }
        let key = ssh_key::PrivateKey::from_openssh(text).map_err(|error| bad().because(error))?;
        match key.key_data() {
            KeypairData::Ed25519(pair) => {
                let signing = SigningKey::from_bytes(&pair.private.to_bytes());
                if signing.verifying_key().to_bytes() != pair.public.0 {
                    return Err(bad());
                }
                Ok(Some(Self(signing)))
            }
            KeypairData::Encrypted(_) if key.algorithm() == Algorithm::Ed25519 => Ok(None),
            _ => Err(bad()),
        }
    }

    /// The file that OpenSSH and [`from_openssh`](Self::from_openssh) read.
    ///
    /// # Errors
    /// When a comment cannot stand in it.
    pub fn to_openssh(&self, comment: &str) -> Result<String> {
        let pair =
            Ed25519Keypair { public: Ed25519PublicKey(self.public_key().0), private: Ed25519PrivateKey::from_bytes(&self.0.to_bytes()) };
        let key = ssh_key::PrivateKey::new(KeypairData::Ed25519(pair), comment);
        let text = key.and_then(|key| key.to_openssh(LineEnding::LF));
        text.map(|text| text.to_string()).map_err(|error| Error::invalid("the key cannot be written").because(error))
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, statement: &[u8]) -> Result<String> {
        let failed = |error: ssh_key::Error| Error::new(ErrorKind::Io, "cannot sign").because(error);
        let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, statement).map_err(failed)?;
        let signature = ssh_key::Signature::new(Algorithm::Ed25519, self.0.sign(&data).to_bytes()).map_err(failed)?;
        let signed = SshSig::new(self.public_key().ssh(), NAMESPACE, HashAlg::Sha512, signature).map_err(failed)?;
        signed.to_pem(LineEnding::LF).map_err(failed)
    }
}

/// Checks a signature in SSH's armour over `statement`; returns by which key it is. Whether that key is to be trusted is the caller's question.
///
/// # Errors
/// `Corrupt` when it is none, for something else, or not by the key it names.
pub fn verify(statement: &[u8], armoured: &[u8]) -> Result<PublicKey> {
    verify_in(NAMESPACE, "the share file", statement, armoured)
}

/// The same for what is signed in another namespace; `what` is its name for people.
///
/// # Errors
/// As [`verify`].
pub fn verify_in(namespace: &str, what: &str, statement: &[u8], armoured: &[u8]) -> Result<PublicKey> {
    let bad = |why: &str| Error::corrupt(format!("the signature of {what} {why}"));
    if armoured.len() > TEXT_MAX_LEN {
        return Err(bad("is too long"));
    }
    let signature = SshSig::from_pem(armoured).map_err(|error| bad("cannot be read").because(error))?;
    let KeyData::Ed25519(key) = signature.public_key() else { return Err(bad("is not by an ed25519 key")) };
    if signature.namespace() != namespace {
        return Err(bad("was made for something else"));
    }
    let data = SshSig::signed_data(namespace, signature.hash_alg(), statement).map_err(|error| bad("cannot be read").because(error))?;
    let bytes: &[u8; 64] = signature.signature_bytes().try_into().map_err(|_| bad("has an impossible length"))?;
    if signature.signature().algorithm() != Algorithm::Ed25519 {
        return Err(bad("is not by an ed25519 key"));
    }
    let wrong = || bad("is wrong: it is not by the key it names, or over another file");
    let verifying = VerifyingKey::from_bytes(&key.0).map_err(|_| wrong())?;
    // Strict: no key and no signature that could be made to fit several texts.
    verifying.verify_strict(&data, &ed25519_dalek::Signature::from_bytes(bytes)).map_err(|_| wrong())?;
    Ok(PublicKey(key.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_one_statement_and_by_one_key() {
        let key = SecretKey::from_seed([7; 32]);
        let text = statement(&[1; 32]);
        let signed = key.sign(&text).unwrap();
        assert_eq!(verify(&text, signed.as_bytes()).unwrap(), key.public_key());
        assert_eq!(verify(&statement(&[2; 32]), signed.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
        let other = SecretKey::from_seed([8; 32]).sign(&text).unwrap();
        assert_ne!(verify(&text, other.as_bytes()).unwrap(), key.public_key());
        for cut in 0..signed.trim_end().len() {
            assert!(verify(&text, &signed.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn keys_survive_being_written() {
        let key = SecretKey::from_seed([7; 32]);
        let written = key.to_openssh("somebody").unwrap();
        let read = SecretKey::from_openssh(&written).unwrap().unwrap();
        assert_eq!(read.public_key(), key.public_key());
        let line = key.public_key().to_openssh("somebody");
        assert_eq!(PublicKey::from_openssh(&line).unwrap(), (key.public_key(), "somebody".to_owned()));
        assert!(line.starts_with("ssh-ed25519 ") && key.public_key().fingerprint().starts_with("SHA256:"));
        assert!(PublicKey::from_openssh("ssh-rsa AAAA").is_err() && SecretKey::from_openssh("nothing").is_err());
    }
}
