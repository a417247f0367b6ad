//! Keys of this user, and those of others that are trusted, in the folder `keys` of the home.
//!
//! ```text
//! keys/NAME           a private key, OpenSSH's format, mode 0600
//! keys/NAME.pub       its public half
//! keys/trusted/NAME.pub   somebody else's
//! ```

use crate::settings;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vml_core::refs::check_name;
use vml_core::share::seal::{Identity, Recipient};
use vml_core::share::sign::NAMESPACE;
use vml_core::share::{PublicKey, SecretKey, Signer};
use vml_core::{Error, ErrorKind, IoResultExt as _};

/// The name of a key that needs none.
pub const DEFAULT: &str = "default";
/// A key's file is far shorter.
const KEY_MAX_LEN: u64 = 64 << 10;
/// How long `ssh-keygen` may take, a passphrase being typed.
const SIGN_TIME: Duration = Duration::from_secs(300);

/// A key that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    pub name: String,
    pub key: PublicKey,
    pub comment: String,
    /// Whether the private half is here.
    pub own: bool,
}

fn folder() -> Result<PathBuf> {
    Ok(settings::home()?.join("keys"))
}

fn trusted_folder() -> Result<PathBuf> {
    Ok(folder()?.join("trusted"))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at(|| format!("cannot make the folder {}", path.display()))?;
    Ok(())
}

/// Reads a small file of text.
pub fn read_text(path: &Path) -> Result<String> {
    let file = fs::File::open(path).at(|| format!("cannot open {}", path.display()))?;
    let mut text = String::new();
    file.take(KEY_MAX_LEN).read_to_string(&mut text).at(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Err(error) if error.kind() == IoErrorKind::AlreadyExists => {
            bail!(Error::new(ErrorKind::AlreadyExists, format!("there is a key at {} already", path.display())))
        }
        other => Ok(other.at(|| format!("cannot write {}", path.display()))?),
    }
}

/// Makes a key.
pub fn create(name: &str) -> Result<KnownKey> {
    check_name("a key", name)?;
    let folder = folder()?;
    make_folder(&folder)?;
    let [one, other] = [settings::random_id()?, settings::random_id()?];
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&one);
    seed[16..].copy_from_slice(&other);
    let key = SecretKey::from_seed(seed);
    let comment = settings::author();
    write_new(&folder.join(name), &key.to_openssh(&comment)?, 0o600)?;
    write_new(&folder.join(format!("{name}.pub")), &format!("{}\n", key.public_key().to_openssh(&comment)), 0o644)?;
    Ok(KnownKey { name: name.to_owned(), key: key.public_key(), comment, own: true })
}

/// Trusts somebody else's key.
pub fn trust(name: &str, text: &str) -> Result<KnownKey> {
    check_name("a key", name)?;
    let (key, comment) = PublicKey::from_openssh(text)?;
    let folder = trusted_folder()?;
    make_folder(&folder)?;
    write_new(&folder.join(format!("{name}.pub")), &format!("{}\n", key.to_openssh(&comment)), 0o644)?;
    Ok(KnownKey { name: name.to_owned(), key, comment, own: false })
}

/// Trusts a key no longer.
pub fn distrust(name: &str) -> Result<()> {
    check_name("a key", name)?;
    let path = trusted_folder()?.join(format!("{name}.pub"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => bail!(Error::not_found(format!("there is no trusted key {name:?}"))),
        other => Ok(other.at(|| format!("cannot remove {}", path.display()))?),
    }
}

/// The keys that are known here, own ones first. A file that is no key is told of and passed over.
pub fn list() -> Result<Vec<KnownKey>> {
    let mut keys = list_in(&folder()?, true)?;
    keys.extend(list_in(&trusted_folder()?, false)?);
    Ok(keys)
}

fn list_in(folder: &Path, own: bool) -> Result<Vec<KnownKey>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(|| format!("cannot list {}", folder.display()))?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.at(|| format!("cannot list {}", folder.display()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pub")) else { continue };
        let (key, comment) = PublicKey::from_openssh(&read_text(&path)?).with_context(|| format!("{} is no key", path.display()))?;
        keys.push(KnownKey { name: name.to_owned(), key, comment, own });
    }
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(keys)
}

/// Whether any of these fingerprints is that of a key that is known here.
pub fn any_trusted(fingerprints: &[String]) -> bool {
    list().is_ok_and(|keys| keys.iter().any(|known| fingerprints.contains(&known.key.fingerprint())))
}

/// The key to sign with: the one that is named, by its name or as a file of SSH; else the only one there is, or the one called `default`.
pub fn signer(named: Option<&str>) -> Result<Option<Box<dyn Signer>>> {
    let folder = folder()?;
    let path = match named {
        Some(name) if check_name("a key", name).is_ok() && folder.join(name).is_file() => folder.join(name),
        Some(path) if Path::new(path).exists() => PathBuf::from(path),
        Some(name) => bail!(Error::not_found(format!("there is no key {name:?}, neither in {} nor as a file", folder.display()))),
        None => {
            let own = list_in(&folder, true)?;
            match own.as_slice() {
                [] => return Ok(None),
                [only] => folder.join(&only.name),
                several if several.iter().any(|key| key.name == DEFAULT) => folder.join(DEFAULT),
                _ => bail!(Error::invalid("there are several keys: say --key with the name of one, or --no-sign")),
            }
        }
    };
    open(&path).with_context(|| format!("cannot sign with {}", path.display())).map(Some)
}

/// The key to seal a file to: as it is written, in a file, or by the name that it has here.
pub fn recipient(named: &str) -> Result<Recipient> {
    let parse = || -> Result<Recipient> {
        if named.starts_with("age1") || named.starts_with("ssh-") {
            return Ok(Recipient::parse(named)?);
        }
        if let Some(known) = list()?.into_iter().find(|known| known.name == named) {
            return Ok(Recipient::parse(&known.key.to_openssh(&known.comment))?);
        }
        if !Path::new(named).is_file() {
            bail!(Error::not_found("it is no key, no name of `vml key list` and no file"));
        }
        Ok(Recipient::parse(&read_text(Path::new(named))?)?)
    };
    parse().with_context(|| format!("cannot seal to {named:?}"))
}

/// The keys that may open what is sealed: those in `files`, else all of this user's own.
pub fn identities(files: &[PathBuf]) -> Result<Vec<Identity>> {
    let folder = folder()?;
    let own: Vec<PathBuf> = if files.is_empty() {
        list_in(&folder, true)?.iter().map(|key| folder.join(&key.name)).filter(|path| path.is_file()).collect()
    } else {
        files.to_vec()
    };
    if own.is_empty() {
        let message = "there is no key here that could open it: name the file of one with --identity";
        bail!(Error::new(ErrorKind::PermissionDenied, message));
    }
    let mut keys = Vec::new();
    let mut failure = None;
    for path in own {
        let read = || -> Result<Vec<Identity>> {
            check_private(&path)?;
            Ok(Identity::parse(&read_text(&path)?)?)
        };
        match read().with_context(|| format!("cannot open anything with {}", path.display())) {
            Ok(read) => keys.extend(read),
            // Another one may do.
            Err(error) if files.is_empty() => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match failure {
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok(keys),
    }
}

/// A private key is its owner's alone.
fn check_private(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).at(|| "cannot look at it".to_owned())?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(Error::new(ErrorKind::PermissionDenied, "others can read this private key: `chmod 600` it"));
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn Signer>> {
    let text = read_text(path)?;
    if let Ok((key, _)) = PublicKey::from_openssh(&text) {
        // The private half may be with an agent.
        return Ok(Box::new(SshKeygen { path: path.to_path_buf(), key }));
    }
    check_private(path)?;
    if let Some(key) = SecretKey::from_openssh(&text)? {
        return Ok(Box::new(key));
    }
    let public = path.with_file_name(format!("{}.pub", path.file_name().unwrap_or_default().to_string_lossy()));
    let (key, _) = PublicKey::from_openssh(&read_text(&public).context("its public half is needed beside it")?)?;
    Ok(Box::new(SshKeygen { path: path.to_path_buf(), key }))
}

/// `ssh-keygen -Y sign`, which asks for passphrases and agents.
struct SshKeygen {
    path: PathBuf,
    key: PublicKey,
}

impl Signer for SshKeygen {
    fn public_key(&self) -> PublicKey {
        self.key
    }

    fn sign(&self, statement: &[u8]) -> vml_core::Result<String> {
        let failed = |why: &str| Error::new(ErrorKind::PermissionDenied, format!("ssh-keygen cannot sign: {why}"));
        let dir = tempfile::tempdir().at(|| "cannot make a temporary folder".to_owned())?;
        _ = fs::set_permissions(dir.path(), Permissions::from_mode(0o700));
        let file = dir.path().join("statement");
        fs::write(&file, statement).at(|| "cannot write what is to be signed".to_owned())?;
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(&self.path).arg(&file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().at(|| "cannot start ssh-keygen".to_owned())?;
        let started = Instant::now();
        loop {
            match child.try_wait().at(|| "cannot wait for ssh-keygen".to_owned())? {
                Some(status) if status.success() => break,
                Some(status) => return Err(failed(&status.to_string())),
                None if started.elapsed() > SIGN_TIME => {
                    _ = child.kill();
                    _ = child.wait();
                    return Err(failed("it took too long"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let signature = fs::read_to_string(dir.path().join("statement.sig")).at(|| "cannot read the signature".to_owned())?;
        match vml_core::share::sign::verify(statement, signature.as_bytes())? {
            key if key == self.key => Ok(signature),
            _ => Err(failed("it signed with another key")),
        }
    }
}
