//! VML with an encrypted repository: the same commands beside the same commands, so that the ratio is what encryption costs.

use super::{Look, Tool, Vml};
use crate::compare::results::Step;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tempfile::NamedTempFile;
use vml_chunk::seal::key_file_text;

/// `vml` that was given a key.
pub struct EncryptedVml {
    vml: Vml,
    // Opened by a key file, as a host that saves by itself is: a passphrase costs 64 MiB and three passes of argon2id at each start, by design,
    // whatever is saved. That is a step of its own.
    key: NamedTempFile,
    passphrase: NamedTempFile,
}

impl EncryptedVml {
    /// Makes both keys, which live as long as this.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(vml: Vml) -> Result<Self> {
        let written = |text: &str| -> std::io::Result<NamedTempFile> {
            let mut file = NamedTempFile::new()?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        };
        let key = written(&key_file_text("compare")?).context("cannot write a key file")?;
        let passphrase = written("correct horse battery staple\n").context("cannot write a passphrase")?;
        Ok(Self { vml, key, passphrase })
    }

    fn open(&self, mut command: Command) -> Command {
        command.env("VML_KEY_FILE", self.key.path());
        command
    }
}

impl Tool for EncryptedVml {
    fn name(&self) -> &'static str {
        "vml-encrypted"
    }

    fn program(&self) -> &Path {
        self.vml.program()
    }

    fn settings(&self) -> &'static str {
        "`vml init --encrypt` with a key file, else as vml; `open with a passphrase` is `vml log` with the repository's other key"
    }

    fn guarantees(&self) -> &'static str {
        "As vml, and everything in the repository is encrypted and authenticated (AES-256-GCM)."
    }

    fn init(&self, place: &Path, mount: &Path) -> Vec<Command> {
        let mut commands: Vec<Command> = self.vml.init(place, mount).into_iter().map(|command| self.open(command)).collect();
        commands[0].arg("--encrypt");
        let mut passphrase = self.open(self.vml.command(place));
        passphrase.args(["access", "add", "--label", "person", "--new-passphrase-file"]).arg(self.passphrase.path());
        commands.push(passphrase);
        commands
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        self.open(self.vml.save(place, mount, name))
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        self.open(self.vml.build(look, target))
    }

    fn list(&self, place: &Path) -> Option<Command> {
        self.vml.list(place).map(|command| self.open(command))
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        self.vml.restore_file(look, path, target).map(|command| self.open(command))
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        Ok(self.vml.diff(old, new)?.map(|command| self.open(command)))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        self.vml.check(place).map(|command| self.open(command))
    }

    fn others(&self, place: &Path) -> Vec<(Step, Command)> {
        let mut log = self.vml.command(place);
        log.arg("log").env("VML_PASSPHRASE_FILE", self.passphrase.path());
        vec![(Step::Unlock, log)]
    }
}
