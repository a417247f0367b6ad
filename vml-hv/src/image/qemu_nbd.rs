//! Chains with an image that only QEMU reads: its server `qemu-nbd` reads them, and this process asks it.
//!
//! ```text
//! files that were found and allowed ──as JSON, every one by name and format──► qemu-nbd ──socket──► bytes, extents, depth
//! ```
//! QEMU follows no name by itself and guesses no format: what an image names was looked up, checked and allowed before. It tells which
//! image of the chain has what, so layers are as exact as those of images that are read here. The server ends with its last
//! connection, so none is left over, not even when this process is killed.

use super::chain::Found;
use super::{Format, OpenOptions, files, qcow2};
use crate::nbd::{NbdAddress, NbdDisk, NbdOptions};
use rustix::fs::{FileType, Mode, SeekFrom};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use vml_core::disk::{Disk, Extent, ExtentKind, FileWitness, Layer, end_within};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// How long QEMU may take to open the images.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Connections to the server, each for a thread.
const CONNECTIONS: usize = 4;

/// A disk that QEMU reads. It is given up before the server is.
struct QemuDisk {
    disk: NbdDisk,
    path: PathBuf,
    len: u64,
    /// Where the lowest image ends, and whether its own holes are known.
    lowest_len: u64,
    lowest_is_raw: bool,
    layers: Vec<Layer>,
    /// Format and files of each image.
    files: Vec<(String, Vec<PathBuf>)>,
    _server: Server,
}

/// A running server; dropping ends it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A folder that nobody else looks into, removed with what is in it.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn create(parent: &Path) -> Result<Self> {
        let mut random = [0; 8];
        let failed = || format!("cannot make a folder for a socket in {}", parent.display());
        getrandom(&mut random, GetRandomFlags::empty()).at(failed)?;
        let path = parent.join(format!("vml-nbd-{:016x}", u64::from_le_bytes(random)));
        rustix::fs::mkdir(&path, Mode::RWXU).at(failed)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// What the library for qcow2 cannot read of a chain, and in which image.
pub(super) fn needed(chain: &[Found]) -> Option<(&'static str, &Path)> {
    chain.iter().find_map(|image| Some((image.header.as_ref()?.needs_qemu?, image.path.as_path())))
}

/// The files of each image of a chain, as they are known now.
fn files_of(chain: &[Found]) -> Result<Vec<Vec<(PathBuf, FileWitness)>>> {
    let files = |image: &Found| {
        let mut files = vec![(image.path.clone(), image.opened.1.clone())];
        if let Some(path) = &image.data_file {
            files.push((path.clone(), files::open(path)?.1));
        }
        Ok(files)
    };
    chain.iter().map(files).collect()
}

fn layers_of(chain: &[Found], files: &[Vec<(PathBuf, FileWitness)>]) -> Vec<Layer> {
    let layer = |(image, files): (&Found, &Vec<(PathBuf, FileWitness)>)| Layer {
        format: image.format.name().to_owned(),
        files: files.iter().map(|(_, witness)| witness.clone()).collect(),
    };
    chain.iter().zip(files).map(layer).collect()
}

/// The layers of a chain, without a server.
pub(super) fn layers(chain: &[Found]) -> Result<Vec<Layer>> {
    Ok(layers_of(chain, &files_of(chain)?))
}

/// Opens a chain of which an image needs QEMU.
pub(super) fn open(chain: &[Found], options: &OpenOptions) -> Result<Box<dyn Disk>> {
    let (Some(top), Some(lowest)) = (chain.first(), chain.last()) else { return Err(Error::invalid("a chain of no images")) };
    let files = files_of(chain)?;
    for (image, files) in chain.iter().zip(&files) {
        if let Some(header) = &image.header {
            let data_len = files.last().map_or(0, |(_, witness)| witness.len);
            // QEMU takes what a file that was cut short lacks for zeros.
            qcow2::check_tables(&image.path, &image.opened.0, header, data_len)?;
        }
    }
    let layers = layers_of(chain, &files);
    let files: Vec<(String, Vec<PathBuf>)> =
        layers.iter().zip(files).map(|(layer, files)| (layer.format.clone(), files.into_iter().map(|(path, _)| path).collect())).collect();
    let (disk, server) = start(chain, options)?;
    // What QEMU has opened must be what was looked at.
    let ids = |layers: &[Layer]| layers.iter().flat_map(|layer| &layer.files).map(|file| (file.device, file.inode)).collect::<Vec<_>>();
    if ids(&files::layers_now(&files)?) != ids(&layers) {
        let message = format!("a file of the image {} was replaced while it was opened", top.path.display());
        return Err(Error::new(ErrorKind::Locked, message));
    }
    let len_of = |image: &Found| match &image.header {
        Some(header) => Ok(header.len),
        None => rustix::fs::seek(&image.opened.0, SeekFrom::End(0)).at(|| format!("cannot find the length of {}", image.path.display())),
    };
    let len = len_of(top)?;
    if disk.len() < len {
        let message = format!("{} is a disk of {len} bytes, of which QEMU shows {}: convert it", top.path.display(), disk.len());
        return Err(Error::new(ErrorKind::UnsupportedFormat, message));
    }
    Ok(Box::new(QemuDisk {
        disk,
        path: top.path.clone(),
        len,
        lowest_len: len_of(lowest)?,
        lowest_is_raw: lowest.format == Format::Raw,
        layers,
        files,
        _server: server,
    }))
}

/// Starts a server for the chain, and connects to it.
fn start(chain: &[Found], options: &OpenOptions) -> Result<(NbdDisk, Server)> {
    let (reason, path) = needed(chain).unwrap_or(("it was asked for", Path::new("")));
    let image = describe(chain)?;
    let dir = PrivateDir::create(options.run_dir.as_deref().unwrap_or(Path::new("/tmp")))?;
    let (socket, log) = (dir.0.join("nbd"), dir.0.join("log"));
    let failed = || format!("cannot write {}", log.display());
    // Its words go to a file: a pipe would have to be emptied.
    let words = File::create(&log).at(failed)?;
    let program = options.qemu_nbd.as_deref().unwrap_or(Path::new("qemu-nbd"));
    let mut command = Command::new(program);
    command.args(["--read-only", "--allocation-depth", "--shared", &CONNECTIONS.to_string(), "--socket"]).arg(&socket).arg("--").arg(image);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
    let mut server = match command.spawn() {
        Ok(child) => Server(child),
        Err(error) if error.kind() == IoKind::NotFound => {
            let message = format!(
                "{} needs QEMU to be read, because {reason}: install {} (Debian: qemu-utils, Fedora: qemu-img), or convert the image with \
                 `qemu-img convert`",
                path.display(),
                program.display()
            );
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        Err(error) => return Err(error).at(|| format!("cannot run {}", program.display())),
    };
    let nbd = NbdOptions { connections: CONNECTIONS, allocation_depth: true, ..NbdOptions::default() };
    let address = NbdAddress::Unix(socket);
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let trouble = match NbdDisk::open(&address, &nbd) {
            Ok(disk) => {
                // From now on nobody else can connect, and nothing is left of the folder.
                disk.connect_all();
                return Ok((disk, server));
            }
            Err(error) => error,
        };
        if server.0.try_wait().at(|| format!("cannot wait for {}", program.display()))?.is_some() {
            let message = format!("{} cannot open the image {}: {}", program.display(), path.display(), last_words(&log));
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let starting = matches!(trouble.kind(), ErrorKind::NotFound | ErrorKind::Io | ErrorKind::Interrupted);
        if !starting || begun.elapsed() > START_LIMIT {
            return Err(trouble.context(format!("{} does not serve the image {}", program.display(), path.display())));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What the server said last, without the description that it repeats.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 << 10)..]).into_owned();
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    let words = line.rsplit_once("}': ").map_or(line, |(_, words)| words);
    words.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The chain as QEMU is told it.
fn describe(chain: &[Found]) -> Result<String> {
    let mut below: Option<String> = None;
    for image in chain.iter().rev() {
        let file = file(&image.path)?;
        below = Some(match image.format {
            Format::Qcow2 => {
                let data = image.data_file.as_deref().map(self::file).transpose()?;
                let data = data.map_or(String::new(), |data| format!(r#","data-file":{data}"#));
                // Without a word about it QEMU would open what the image names.
                format!(r#"{{"driver":"qcow2","file":{file}{data},"backing":{}}}"#, below.as_deref().unwrap_or("null"))
            }
            Format::Raw => format!(r#"{{"driver":"raw","file":{file}}}"#),
            Format::Vmdk => {
                let message = format!("{} is a vmdk image below one that only QEMU reads: convert one of them", image.path.display());
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
        });
    }
    // Locks would refuse what runs; whether that may be saved was decided before.
    let top = below.unwrap_or_default();
    Ok(format!(r#"json:{{"read-only":true,"force-share":true,{}"#, top.strip_prefix('{').unwrap_or_default()))
}

fn file(path: &Path) -> Result<String> {
    let shown = path.display();
    let text =
        path.to_str().ok_or_else(|| Error::invalid(format!("the path of the image {shown} is not UTF-8, which QEMU's words are")))?;
    let stat = rustix::fs::stat(path).at(|| format!("cannot find the image {shown}"))?;
    let driver = if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice { "host_device" } else { "file" };
    Ok(format!(r#"{{"driver":"{driver}","filename":{}}}"#, quoted(text)))
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            _ if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            _ => quoted.push(c),
        }
    }
    quoted + "\""
}

impl QemuDisk {
    fn failed(&self, offset: u64) -> impl FnOnce(Error) -> Error + '_ {
        move |error| error.context(format!("cannot read the image {} at {offset} of its disk", self.path.display()))
    }
}

impl Disk for QemuDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        end_within(offset, buffer.len() as u64, self.len)?;
        self.disk.read_at(buffer, offset).map_err(self.failed(offset))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        end_within(offset, 1, self.len)?;
        let run = self.disk.run_at(offset).map_err(self.failed(offset))?;
        let mut len = run.len.min(self.len - offset);
        let count = self.layers.len();
        let depth = usize::try_from(run.depth.unwrap_or(0)).unwrap_or(usize::MAX);
        let (kind, layer) = match (depth, run.is_zero) {
            _ if depth > count => {
                let message =
                    format!("QEMU says that image {depth} of a chain of {count} has what is at {offset} of {}", self.path.display());
                return Err(Error::corrupt(message));
            }
            (0, true) => (ExtentKind::Hole, count),
            // Nobody has it, and yet it is not said to be zeros: whatever it is, it is read.
            (0, false) => (ExtentKind::Data, count - 1),
            (_, false) => (ExtentKind::Data, depth - 1),
            // QEMU counts a raw image's holes as its own, and what lies behind an image's end.
            (_, true) if depth == count && (self.lowest_is_raw || offset >= self.lowest_len) => (ExtentKind::Hole, count),
            (_, true) => {
                if depth == count {
                    len = len.min(self.lowest_len - offset);
                }
                (ExtentKind::Zero, depth - 1)
            }
        };
        Ok(Extent { len, kind, layer })
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn layers_now(&self) -> Result<Vec<Layer>> {
        files::layers_now(&self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_json_has_them() {
        assert_eq!(quoted("/a b/\"c\\\n\u{1b}ü"), r#""/a b/\"c\\\u000a\u001bü""#);
    }

    #[test]
    fn a_private_folder_is_gone_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let dir = PrivateDir::create(parent.path()).unwrap();
        let path = dir.0.clone();
        File::create(path.join("log")).unwrap();
        assert_eq!(rustix::fs::stat(&path).unwrap().st_mode & 0o777, 0o700);
        drop(dir);
        assert!(!path.exists());
    }
}
