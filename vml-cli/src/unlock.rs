//! Keys of encrypted repositories: where a user keeps them, and how he is asked. A passphrase is never an argument.

use crate::args::{NewKeyArgs, UnlockArgs};
use crate::files;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use std::cell::OnceCell;
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vml_chunk::seal::{KEY_FILE_LEN, Unlock, key_file_text};
use vml_core::repository::keys_of;
use vml_core::{Backend, Error, ErrorKind, IoResultExt as _, Repository, RepositoryOptions};
use zeroize::Zeroizing;

/// Longest passphrase with its line's end.
const LINE_MAX: u64 = 4098;
/// A command may ask somebody.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Times that a passphrase is asked for.
const TRIES: usize = 3;

/// Where a passphrase or a key comes from.
enum Source {
    File(PathBuf),
    Command(String),
    Descriptor(u32),
    KeyFile(PathBuf),
}

impl Source {
    fn read(&self) -> Result<Unlock> {
        let passphrase = |line: Zeroizing<Vec<u8>>| Ok(Unlock::passphrase(line.to_vec())?);
        match self {
            Self::File(path) => {
                let read = File::open(path).at(|| format!("cannot read the passphrase in {}", path.display())).map_err(Into::into);
                read.and_then(|file| first_line(file, &path.display().to_string())).and_then(passphrase)
            }
            Self::Descriptor(number) => {
                let path = format!("/dev/fd/{number}");
                let file = File::open(&path).at(|| format!("cannot read the passphrase from file descriptor {number}"))?;
                first_line(file, &path).and_then(passphrase)
            }
            Self::Command(command) => said_by(command).and_then(passphrase),
            Self::KeyFile(path) => key_in(path),
        }
    }
}

fn key_in(path: &Path) -> Result<Unlock> {
    let mut text = Zeroizing::new(Vec::new());
    let file = File::open(path).at(|| format!("cannot read the key file {}", path.display()))?;
    file.take(KEY_FILE_LEN as u64 + 1).read_to_end(&mut text).at(|| format!("cannot read the key file {}", path.display()))?;
    Unlock::key_file(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// The first line, without its end.
fn first_line(reader: impl Read, from: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LINE_MAX).unwrap_or(0)));
    reader.take(LINE_MAX).read_to_end(&mut bytes).at(|| format!("cannot read the passphrase from {from}"))?;
    let len = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let len = if len > 0 && bytes[len - 1] == b'\r' { len - 1 } else { len };
    bytes.truncate(len);
    if bytes.is_empty() {
        bail!(Error::invalid(format!("there is no passphrase in {from}")));
    }
    Ok(bytes)
}

fn said_by(command: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut child =
        Command::new("sh").args(["-c", command]).stdout(Stdio::piped()).spawn().at(|| "cannot start a shell for the passphrase")?;
    let (sender, said) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || _ = sender.send(first_line(out, "what the command for the passphrase prints")));
    }
    let Ok(line) = said.recv_timeout(COMMAND_LIMIT) else {
        _ = child.kill();
        _ = child.wait();
        bail!(Error::new(
            ErrorKind::Interrupted,
            format!("the command for the passphrase has not ended after {} s", COMMAND_LIMIT.as_secs())
        ));
    };
    let status = child.wait().at(|| "cannot wait for the command for the passphrase")?;
    if !status.success() {
        bail!(Error::invalid(format!("the command for the passphrase failed: {status}")));
    }
    line
}

/// How this command was told to open repositories; what was found out is kept, since a descriptor can be read once.
pub struct Keys {
    args: UnlockArgs,
    may_ask: bool,
    known: OnceCell<Unlock>,
}

impl Keys {
    pub fn new(args: UnlockArgs, may_ask: bool) -> Self {
        Self { args, may_ask: may_ask && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(), known: OnceCell::new() }
    }

    fn source(&self) -> Result<Option<Source>> {
        let args = &self.args;
        let typed = [
            args.passphrase_file.clone().map(Source::File),
            args.passphrase_command.clone().map(Source::Command),
            args.passphrase_fd.map(Source::Descriptor),
            args.key_file.clone().map(Source::KeyFile),
        ];
        if let Some(source) = typed.into_iter().flatten().next() {
            return Ok(Some(source));
        }
        let [file, command, key] = settings::key_variables();
        let set = [
            file.map(|path| Source::File(path.into())),
            command.and_then(|command| command.into_string().ok()).map(Source::Command),
            key.map(|path| Source::KeyFile(path.into())),
        ];
        let mut set = set.into_iter().flatten();
        match (set.next(), set.next()) {
            (_, Some(_)) => {
                bail!(Error::invalid("of VML_PASSPHRASE_FILE, VML_PASSPHRASE_COMMAND and VML_KEY_FILE more than one is set"))
            }
            (source, None) => Ok(source),
        }
    }

    /// What was given by an option or a variable, or typed before.
    pub fn given(&self) -> Result<Option<&Unlock>> {
        if self.known.get().is_none()
            && let Some(source) = self.source()?
        {
            let unlock = source.read()?;
            return Ok(Some(self.known.get_or_init(|| unlock)));
        }
        Ok(self.known.get())
    }

    /// Opens the repository that this command works on.
    pub fn open(&self, backend: Arc<dyn Backend>, options: RepositoryOptions) -> Result<Repository> {
        if let Some(unlock) = self.given()? {
            return Ok(Repository::open_with(backend, options, Some(unlock))?);
        }
        match Repository::open_with(Arc::clone(&backend), options, None) {
            Err(error) if error.kind() == ErrorKind::NeedsKey && self.may_ask => self.ask_and_open(&backend, options),
            other => Ok(other?),
        }
    }

    /// Opens a repository beside it, which may be encrypted or not.
    pub fn open_other(&self, backend: Arc<dyn Backend>, options: RepositoryOptions) -> Result<Repository> {
        let is_encrypted = keys_of(backend.as_ref()).is_ok_and(|keys| keys.is_some());
        if is_encrypted { self.open(backend, options) } else { Ok(Repository::open(backend, options)?) }
    }

    fn ask_and_open(&self, backend: &Arc<dyn Backend>, options: RepositoryOptions) -> Result<Repository> {
        for attempt in 1.. {
            let unlock = ask("Passphrase: ")?;
            match Repository::open_with(Arc::clone(backend), options, Some(&unlock)) {
                Err(error) if error.kind() == ErrorKind::WrongKey && attempt < TRIES => {
                    crate::output::complain(format_args!("vml: {error}"));
                }
                Ok(repository) => {
                    _ = self.known.set(unlock);
                    return Ok(repository);
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// What will open a new repository.
    pub fn for_new_repository(&self) -> Result<Unlock> {
        match self.given()? {
            Some(unlock) => Ok(unlock.clone()),
            None => self.ask_twice(),
        }
    }

    /// What will open a new key.
    pub fn for_new_key(&self, args: &NewKeyArgs, label: &str) -> Result<Unlock> {
        if let Some(path) = &args.new_key_file {
            if !path.exists() {
                let text = key_file_text(label)?;
                let path = std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))?;
                files::replace(&path, &text, files::PRIVATE)?;
            }
            return key_in(path);
        }
        let sources = [
            args.new_passphrase_file.clone().map(Source::File),
            args.new_passphrase_command.clone().map(Source::Command),
            args.new_passphrase_fd.map(Source::Descriptor),
        ];
        match sources.into_iter().flatten().next() {
            Some(source) => source.read(),
            None => self.ask_twice(),
        }
    }

    fn ask_twice(&self) -> Result<Unlock> {
        if !self.may_ask {
            bail!(Error::new(ErrorKind::NeedsKey, "a passphrase or a key file is needed, and there is no terminal to ask on"));
        }
        let (first, second) = (typed("New passphrase: ")?, typed("The same again: ")?);
        if first != second {
            bail!(Error::invalid("the two passphrases are not the same"));
        }
        Ok(Unlock::passphrase(first.as_bytes())?)
    }
}

fn ask(prompt: &str) -> Result<Unlock> {
    Ok(Unlock::passphrase(typed(prompt)?.as_bytes())?)
}

fn typed(prompt: &str) -> Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).context("cannot ask for the passphrase")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(command: &str) -> Result<Unlock> {
        Source::Command(command.to_owned()).read()
    }

    fn bytes(unlock: Result<Unlock>) -> Vec<u8> {
        match unlock.unwrap() {
            Unlock::Passphrase(bytes) => bytes.to_vec(),
            Unlock::KeyFile(_) => panic!("a passphrase"),
        }
    }

    #[test]
    fn a_passphrase_is_one_line_of_whatever_says_it() {
        assert_eq!(bytes(by("echo one; echo two")), b"one");
        assert_eq!(bytes(by("printf ' with spaces \\r\\n'")), b" with spaces ");
        assert_eq!(bytes(by("printf 'no end'")), b"no end");
        for failing in ["true", "echo", "exit 3", "echo word; exit 1"] {
            assert!(by(failing).is_err(), "{failing}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        std::fs::write(&path, "in a file\n").unwrap();
        assert_eq!(bytes(Source::File(path).read()), b"in a file");
        assert!(Source::File(dir.path().join("missing")).read().is_err());
        assert!(Source::Descriptor(999_999).read().is_err());
    }

    #[test]
    fn a_key_file_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/key");
        let keys = Keys::new(UnlockArgs::default(), false);
        let args = NewKeyArgs { new_key_file: Some(path.clone()), ..NewKeyArgs::default() };
        let key = |unlock: Unlock| match unlock {
            Unlock::KeyFile(key) => key,
            Unlock::Passphrase(_) => panic!("a key file"),
        };
        let first = key(keys.for_new_key(&args, "host7").unwrap());
        assert!(key(keys.for_new_key(&args, "host7").unwrap()) == first);
        assert!(key(Source::KeyFile(path).read().unwrap()) == first);
        let error = keys.for_new_repository().unwrap_err();
        assert!(error.to_string().contains("no terminal"), "{error}");
    }
}
