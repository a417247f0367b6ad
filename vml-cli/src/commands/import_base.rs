//! Makes a base of a file that was fetched: unpacks it, saves it, and keeps its image for overlays to stand on.

use super::Context;
use super::save::{self, Live, What};
use super::trees::TreeFrom;
use crate::bases;
use crate::images::DiskImage;
use crate::net;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File, Permissions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vml_core::catalogue::{Compression, Format, Offer};
use vml_core::entry::{EntryKind, Fact, MachinePart};
use vml_core::refs::RefKind;
use vml_core::share::{PublicKey, ReceiveOptions, read_preface, receive};
use vml_core::{EntryId, Error, IoResultExt as _};
use vml_hv::qemu::{CONFIG_FILE, DiskConfig, MachineConfig};

/// How long `tar` may take.
const TAR_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// How much longer a file may become than it is compressed, where the catalogue does not say.
const UNPACKED_FACTOR: u64 = 200;
/// And at least so long.
const UNPACKED_LEAST: u64 = 1 << 30;
/// Longest window of zstd: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// A file that came, and was checked.
pub struct Come<'a> {
    pub base: &'a str,
    pub offer: &'a Offer,
    pub packed: &'a Path,
    /// Where its image is kept.
    pub dir: &'a Path,
    pub from: &'a [String],
    pub catalogue: &'a str,
}

fn plain_path(dir: &Path, offer: &Offer) -> PathBuf {
    match offer.format {
        Format::Tar | Format::Share => dir.join(format!("fetched.{}", offer.format.name())),
        _ => dir.join(format!("{}.{}", offer.disk, offer.format.name())),
    }
}

/// Where the file is fetched to.
pub fn packed_path(dir: &Path, offer: &Offer) -> PathBuf {
    let plain = plain_path(dir, offer);
    match offer.compression {
        Compression::None => plain,
        other => plain.with_file_name(format!("{}.{}", plain.file_name().unwrap_or_default().to_string_lossy(), other.name())),
    }
}

/// Whether the file is there as the catalogue says. Another one of its name is in the way.
pub fn is_whole(packed: &Path, offer: &Offer) -> Result<bool> {
    let failed = || format!("cannot read {}", packed.display());
    let mut file = match File::open(packed) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.at(failed)?,
    };
    let len = file.metadata().at(failed)?.len();
    if offer.size.is_none_or(|size| size == len) && net::digest(&mut file, &offer.digest).at(failed)? == offer.digest {
        return Ok(true);
    }
    bail!(Error::invalid(format!("{} is another file than the catalogue says: move it away, if no overlay stands on it", packed.display())))
}

/// Imports it; tells the entry, and the image where it has one.
pub fn import(context: &Context, come: &Come<'_>) -> Result<(EntryId, Option<PathBuf>)> {
    let plain = plain_path(come.dir, come.offer);
    if come.offer.compression != Compression::None {
        unpack(come.packed, &plain, come.offer)?;
    }
    let file = match come.offer.format {
        Format::Raw | Format::Qcow2 | Format::Vmdk => Some(plain.clone()),
        Format::Tar => {
            import_tree(context, come, &plain)?;
            None
        }
        Format::Share => {
            import_share(context, come, &plain)?;
            None
        }
    };
    let image = file.as_ref().map(|file| DiskImage {
        name: come.offer.disk.clone(),
        file: file.clone(),
        format: Some(come.offer.format.name().to_owned()),
    });
    if let Some(image) = &image {
        // Before it is noted, as this changes the file's times.
        fs::set_permissions(&image.file, Permissions::from_mode(0o444)).at(|| format!("cannot protect {}", image.file.display()))?;
        let image = image.located()?;
        let machine = machine(come.offer)?;
        save(context, come, None, std::slice::from_ref(&image), machine)?;
    }
    let entry = context.repository()?.refs().get(RefKind::Base, come.base)?;
    let entry = entry.ok_or_else(|| Error::not_found(format!("the base {} went away meanwhile", come.base)))?;
    if let Some(image) = image {
        bases::note(come.base, &entry, &[image], &[])?;
    }
    // What is not needed any more; the image stays.
    for path in [come.packed, &plain] {
        if Some(path) != file.as_deref() {
            _ = fs::remove_file(path);
        }
    }
    Ok((entry, file))
}

fn save(context: &Context, come: &Come<'_>, tree: Option<&Path>, disks: &[DiskImage], machine: Option<MachinePart>) -> Result<()> {
    let offer = come.offer;
    let mut facts = vec![Fact::new("base.catalogue", come.catalogue), Fact::new("base.digest", offer.digest.to_string())];
    facts.extend(come.from.iter().take(8).map(|from| Fact::new("base.from", from.as_str())));
    if !offer.architecture.is_empty() {
        facts.push(Fact::new("base.architecture", offer.architecture.as_str()));
    }
    let what = What {
        kind: EntryKind::Base { name: offer.name.clone(), version: offer.version.clone() },
        tree: tree.map(TreeFrom::Local),
        disks,
        allow_dir: &[],
        machine,
        live: Live { facts, ..Live::default() },
        base: None,
        exclude: &[],
        default_exclude: true,
        one_file_system: false,
        message: &offer.description,
        tags: &[],
        dry_run: false,
        in_use: false,
        is_step: true,
    };
    save::save(context, what).map(|_| ())
}

/// What the catalogue says of a machine for it, as QEMU's description.
fn machine(offer: &Offer) -> Result<Option<MachinePart>> {
    let Some(defaults) = offer.machine else { return Ok(None) };
    let file = PathBuf::from(format!("{}.{}", offer.disk, offer.format.name()));
    let format = if offer.format == Format::Raw { "raw" } else { "qcow2" };
    let disk = DiskConfig { name: offer.disk.clone(), file, format: format.to_owned() };
    let config = MachineConfig { memory_mib: defaults.memory_mib, cpus: defaults.cpus, ..MachineConfig::new(vec![disk]) };
    Ok(Some(MachinePart { name: CONFIG_FILE.to_owned(), bytes: config.to_text()?.into_bytes() }))
}

fn import_tree(context: &Context, come: &Come<'_>, archive: &Path) -> Result<()> {
    let dir = come.dir.join("tree");
    let clear = || if dir.exists() { fs::remove_dir_all(&dir).at(|| format!("cannot remove {}", dir.display())) } else { Ok(()) };
    clear()?;
    // Nobody else is to find set-user-id programs of a guest here.
    fs::DirBuilder::new().mode(0o700).create(&dir).at(|| format!("cannot make {}", dir.display()))?;
    let root = dir.join("root");
    fs::create_dir(&root).at(|| format!("cannot make {}", root.display()))?;
    let imported = vml_hv::guest::archive::extract(archive, &root, TAR_LIMIT)
        .map_err(anyhow::Error::from)
        .and_then(|()| save(context, come, Some(&root), &[], None));
    let cleared = clear();
    imported?;
    Ok(cleared?)
}

fn import_share(context: &Context, come: &Come<'_>, path: &Path) -> Result<()> {
    let open = || File::open(path).map(|file| BufReader::with_capacity(1 << 20, file)).at(|| format!("cannot open {}", path.display()));
    let preface = read_preface(&mut open()?)?;
    let is_it =
        |kind: &EntryKind| matches!(kind, EntryKind::Base { name, version } if *name == come.offer.name && *version == come.offer.version);
    if preface.entries.len() != 1 || !is_it(&preface.entries[0].1.kind) || !preface.head.needs.is_empty() {
        let message =
            format!("the share file is not the base {} by itself: it was made by something else than `vml share BASE:{0}`", come.base);
        bail!(Error::invalid(message));
    }
    let known = crate::keys::list()?;
    let trusted = |key: &PublicKey| known.iter().find(|known| known.key == *key).map(|known| known.name.clone());
    let options = ReceiveOptions { trusted: &trusted, require_signed: false, time_ms: settings::now_ms() };
    let progress = context.progress();
    let received = receive(&context.repository()?, &mut open()?, &options, &progress);
    progress.finish();
    received.map(|_| ()).context("cannot receive the base's share file")
}

/// Undoes the compression of a whole file, with a limit, leaving holes where it has zeros.
fn unpack(packed: &Path, plain: &Path, offer: &Offer) -> Result<()> {
    let failed = || format!("cannot unpack {}", packed.display());
    let file = BufReader::with_capacity(1 << 20, File::open(packed).at(failed)?);
    let mut reader: Box<dyn Read> = match offer.compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).at(failed)?;
            decoder.window_log_max(WINDOW_LOG_MAX).at(failed)?;
            Box::new(decoder)
        }
    };
    let max = offer
        .unpacked_size
        .unwrap_or_else(|| fs::metadata(packed).map_or(0, |meta| meta.len()).saturating_mul(UNPACKED_FACTOR).max(UNPACKED_LEAST));
    let part = plain.with_file_name(format!("{}.part", plain.file_name().unwrap_or_default().to_string_lossy()));
    let unpacked =
        copy_sparse(&mut reader, &part, max).and_then(|()| fs::rename(&part, plain).at(|| format!("cannot write {}", plain.display())));
    unpacked.inspect_err(|_| _ = fs::remove_file(&part)).map_err(|error| error.context(failed()).into())
}

fn copy_sparse(reader: &mut dyn Read, path: &Path, max: u64) -> vml_core::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = File::create(path).at(failed)?;
    let mut block = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match reader.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::corrupt("what is compressed is damaged").because(error)),
            }
        }
        if filled == 0 {
            break;
        }
        len += filled as u64;
        if len > max {
            return Err(Error::invalid(format!(
                "it has more than {max} bytes when it is unpacked; the catalogue's unpacked_size can say that it may"
            )));
        }
        if block[..filled].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Start(len)).at(failed)?;
        } else {
            file.write_all(&block[..filled]).at(failed)?;
        }
    }
    file.set_len(len).and_then(|()| file.sync_all()).at(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_file_is_limited_and_keeps_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut bytes = vec![0; 200_000];
        bytes[150_000] = 7;
        copy_sparse(&mut bytes.as_slice(), &path, 200_000).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        let error = copy_sparse(&mut bytes.as_slice(), &path, 199_999).unwrap_err();
        assert!(error.to_string().contains("unpacked_size"), "{error}");
        copy_sparse(&mut [0; 100_000].as_slice(), &path, 200_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000, "a hole at the end");
    }
}
