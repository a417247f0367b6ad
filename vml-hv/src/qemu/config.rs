//! `machine.toml`: what a machine is that VML itself starts with QEMU.
//!
//! It names files of this host, so it is checked before it is followed: an entry's description may come from somebody else. A kernel that is
//! loaded from the host is named with its hash: whoever wrote the description knew the file already, and cannot have another one
//! of the host's shown to the guest.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vml_core::{Error, IoResultExt as _, Result};

/// The file's name in the machine's folder.
pub const CONFIG_FILE: &str = "machine.toml";
const HEAD: &str = "# A virtual machine that VML starts with QEMU. It may be edited by hand while the machine is off.\n\n";
/// Largest memory: 16 TiB.
const MEMORY_MAX_MIB: u64 = 16 << 20;
/// Largest kernel or initrd that is read for its hash.
const KERNEL_MAX: u64 = 1 << 30;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// Memory in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    /// Processors.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// QEMU's type of machine.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// The processor; QEMU's own default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// How it is run.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// The port of this host that leads to the guest's SSH server; one that is free without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<u16>,
    /// Where images that an image names may lie, besides its own folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_dir: Vec<PathBuf>,
    /// A kernel that QEMU loads itself; the disk's boot loader without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// The disks, the first of which is booted.
    #[serde(rename = "disk")]
    pub disks: Vec<DiskConfig>,
}

/// How a machine is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the processor, where a trial shows that it can.
    #[default]
    Auto,
    /// By the processor.
    Kvm,
    /// By translation, anywhere.
    Tcg,
}

/// A kernel that QEMU loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel.
    pub file: PathBuf,
    /// Its BLAKE3, in an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// The first file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Its BLAKE3, in an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_blake3: Option<String>,
    /// The kernel's command line.
    #[serde(default)]
    pub append: String,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// By what it is told apart.
    pub name: String,
    /// Its image; relative to the folder of the machine.
    pub file: PathBuf,
    /// The image's format: `qcow2` or `raw`.
    pub format: String,
}

fn default_memory() -> u64 {
    1024
}

fn default_cpus() -> u32 {
    1
}

fn default_machine() -> String {
    "q35".to_owned()
}

impl MachineConfig {
    /// A machine with these disks, and everything else by default.
    pub fn new(disks: Vec<DiskConfig>) -> Self {
        Self {
            memory_mib: default_memory(),
            cpus: default_cpus(),
            machine: default_machine(),
            cpu: None,
            accelerator: Accelerator::Auto,
            ssh_port: None,
            allow_dir: Vec::new(),
            kernel: None,
            disks,
        }
    }

    /// Reads a description.
    ///
    /// # Errors
    /// `InvalidInput` for what is none, or describes no machine.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| Error::invalid("it is no description of a machine").because(error))?;
        config.check()?;
        Ok(config)
    }

    /// Reads that of the machine in `dir`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and what the file system says.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).at(|| format!("cannot read the machine's description {}", path.display()))?;
        Self::parse(&text).map_err(|error| error.context(format!("cannot use {}", path.display())))
    }

    /// Writes it for the machine in `dir`, at once.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(CONFIG_FILE);
        let part = dir.join(format!(".{CONFIG_FILE}.part"));
        let written = std::fs::write(&part, self.to_text()?).and_then(|()| std::fs::rename(&part, &path));
        written.at(|| format!("cannot write {}", path.display()))
    }

    /// The text of the file.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is not UTF-8.
    pub fn to_text(&self) -> Result<String> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| Error::invalid("a path in the machine's description is not UTF-8").because(error))?;
        Ok(format!("{HEAD}{text}"))
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::invalid(what));
        if self.memory_mib == 0 || self.memory_mib > MEMORY_MAX_MIB || self.cpus == 0 || self.cpus > 512 {
            return bad(format!("a machine of {} MiB and {} processors cannot be", self.memory_mib, self.cpus));
        }
        if self.disks.is_empty() {
            return bad("the machine has no disk".to_owned());
        }
        for name in [Some(&self.machine), self.cpu.as_ref()].into_iter().flatten() {
            // They become parts of QEMU's arguments, where commas separate options.
            if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.+".contains(letter)) {
                return bad(format!("{name:?} is no name of a machine or processor"));
            }
        }
        for (i, disk) in self.disks.iter().enumerate() {
            vml_core::refs::check_name("disk", &disk.name)?;
            if self.disks[..i].iter().any(|other| other.name == disk.name) {
                return bad(format!("two disks have the name {:?}", disk.name));
            }
            if !matches!(disk.format.as_str(), "raw" | "qcow2") {
                return bad(format!("the disk {} has the format {:?}; QEMU is given raw and qcow2 images", disk.name, disk.format));
            }
        }
        Ok(())
    }

    /// The description as an entry keeps it: with the hashes of the kernel's files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn with_hashes(&self, dir: &Path) -> Result<Self> {
        let mut config = self.clone();
        if let Some(kernel) = &mut config.kernel {
            // A machine that is built of the entry has a folder of its own.
            kernel.file = dir.join(&kernel.file);
            kernel.initrd = kernel.initrd.as_ref().map(|initrd| dir.join(initrd));
            kernel.blake3 = Some(hash(&kernel.file)?);
            kernel.initrd_blake3 = kernel.initrd.as_deref().map(hash).transpose()?;
        }
        Ok(config)
    }

    /// Checks that the kernel's files on this host are those that the description was written with.
    ///
    /// # Errors
    /// `NotFound` when one is not there, `PermissionDenied` when it is another one.
    pub fn check_kernel(&self, dir: &Path) -> Result<()> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        for (file, known) in [(Some(&kernel.file), &kernel.blake3), (kernel.initrd.as_ref(), &kernel.initrd_blake3)] {
            let Some(file) = file else { continue };
            let file = dir.join(file);
            if known.as_ref() != Some(&hash(&file)?) {
                let message = format!("{} is not the file that the machine was saved with: put that one there", file.display());
                return Err(Error::new(vml_core::ErrorKind::PermissionDenied, message));
            }
        }
        Ok(())
    }
}

fn hash(file: &Path) -> Result<String> {
    let failed = || format!("cannot read {}", file.display());
    let meta = std::fs::metadata(file).at(failed)?;
    if !meta.is_file() || meta.len() > KERNEL_MAX {
        return Err(Error::invalid(format!("{} is no kernel or initrd", file.display())));
    }
    Ok(blake3::hash(&std::fs::read(file).at(failed)?).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str) -> DiskConfig {
        DiskConfig { name: name.to_owned(), file: PathBuf::from("system.qcow2"), format: "qcow2".to_owned() }
    }

    #[test]
    fn what_is_written_is_read_and_defaults_are_filled_in() {
        let config = MachineConfig::new(vec![disk("system"), disk("data")]);
        assert_eq!(MachineConfig::parse(&config.to_text().unwrap()).unwrap(), config);
        let short = "[[disk]]\nname = \"system\"\nfile = \"system.qcow2\"\nformat = \"qcow2\"\n";
        assert_eq!(MachineConfig::parse(short).unwrap(), MachineConfig::new(vec![disk("system")]));
    }

    #[test]
    fn what_describes_no_machine_is_refused() {
        let good = MachineConfig::new(vec![disk("system")]);
        let bad: [MachineConfig; 7] = [
            MachineConfig { disks: Vec::new(), ..good.clone() },
            MachineConfig { disks: vec![disk("a"), disk("a")], ..good.clone() },
            MachineConfig { disks: vec![disk("../a")], ..good.clone() },
            MachineConfig { memory_mib: 0, ..good.clone() },
            MachineConfig { machine: "q35,smm=on".to_owned(), ..good.clone() },
            MachineConfig { cpu: Some("host,-x".to_owned()), ..good.clone() },
            MachineConfig { disks: vec![DiskConfig { format: "vmdk".to_owned(), ..disk("a") }], ..good },
        ];
        for config in bad {
            assert!(MachineConfig::parse(&config.to_text().unwrap()).is_err(), "{config:?}");
        }
        assert!(MachineConfig::parse("arguments = [\"-drive\"]").is_err());
    }

    #[test]
    fn a_kernel_must_be_the_one_that_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vmlinuz"), "kernel").unwrap();
        let kernel = Kernel { file: "vmlinuz".into(), blake3: None, initrd: None, initrd_blake3: None, append: String::new() };
        let config = MachineConfig { kernel: Some(kernel), ..MachineConfig::new(vec![disk("system")]) };
        assert!(config.check_kernel(dir.path()).is_err(), "without a hash it may be any file");
        let saved = config.with_hashes(dir.path()).unwrap();
        saved.check_kernel(dir.path()).unwrap();
        std::fs::write(dir.path().join("vmlinuz"), "another").unwrap();
        assert_eq!(saved.check_kernel(dir.path()).unwrap_err().kind(), vml_core::ErrorKind::PermissionDenied);
    }
}
