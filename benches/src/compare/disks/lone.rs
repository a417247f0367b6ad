//! What concerns vml alone: saves that are judged by other saves of its own.

use super::super::corpus::{BUILT, Corpus, STATES, contents};
use super::super::extents::warm;
use super::super::measure::{Measured, measure};
use super::super::tools::{BASE, Vml, disk, repository};
use super::{Rows, images};
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// States whose trees and disks are saved beside each other.
pub(super) const SHARED: [&str; 2] = ["base", "w3"];
/// The parts of a guest, and the other part of each.
pub(super) const PARTS: [[&str; 2]; 2] = [["disk", "tree"], ["tree", "disk"]];
/// The ways in which one guest's disk is saved, the first one into an empty repository.
pub(super) const FORMATS: [&str; 5] = ["raw", "qcow2", "compressed qcow2", "qcow2 upon base", "vmdk"];
/// Of a disk that was changed, and of its changes by themselves.
pub(super) const OVERLAY: [&str; 2] = ["an overlay with 100 MiB changed", "these 100 MiB alone"];
/// Of a disk that is nearly empty, and of its data by itself.
pub(super) const SPARSE: [&str; 2] = ["1 TiB with 1 GiB of data", "this 1 GiB alone"];

pub(super) fn alone(part: &str, state: &str) -> String {
    format!("the {part} of {state} alone")
}

pub(super) fn after(part: &str, other: &str, state: &str) -> String {
    format!("the {part} of {state} after its {other}")
}

pub(super) fn as_format(format: &str) -> String {
    format!("{BUILT} as {format}")
}

/// What is at hand.
pub(super) struct Lone<'a> {
    pub(super) vml: &'a Vml,
    pub(super) corpus: &'a Corpus,
    pub(super) trees: &'a Corpus,
    pub(super) work: &'a Path,
}

/// A repository with areas, until it is dropped.
struct Place<'a> {
    lone: &'a Lone<'a>,
    dir: PathBuf,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("compare: cannot remove {}: {error}", self.dir.display());
        }
    }
}

impl Place<'_> {
    fn vml(&self, args: &[&OsStr]) -> Result<Measured> {
        let mut command = self.lone.vml.command(&self.dir);
        command.args(args);
        measure(command, self.lone.work)
    }

    /// Describes an area and saves it.
    fn save(&self, area: &str, what: &[&OsStr]) -> Result<(Measured, u64)> {
        self.vml(&[&["area", "add", area].map(OsStr::new)[..], what].concat())?;
        let before = contents(&repository(&self.dir))?.bytes;
        let measured = self.vml(&["save", area, "-m", area].map(OsStr::new))?;
        Ok((measured, contents(&repository(&self.dir))?.bytes - before))
    }

    fn save_image(&self, area: &str, image: &Path, more: &[&OsStr]) -> Result<(Measured, u64)> {
        warm(image)?;
        let disk = disk(image);
        self.save(area, &[&["--disk".as_ref(), disk.as_os_str()][..], more].concat())
    }
}

impl Lone<'_> {
    fn place(&self, name: &str) -> Result<Place<'_>> {
        let dir = self.work.join(name);
        fs::create_dir_all(dir.join("home")).with_context(|| format!("cannot make {}", dir.display()))?;
        let place = Place { lone: self, dir };
        place.vml(&["init".as_ref()])?;
        Ok(place)
    }

    /// A guest's disk after its tree, and its tree after its disk.
    pub(super) fn sharing(&self, rows: &mut Rows) -> Result<()> {
        for state in SHARED {
            for [first, second] in PARTS {
                let place = self.place("shared")?;
                for (part, what) in [(first, alone(first, state)), (second, after(second, first, state))] {
                    let (measured, added) = if part == "disk" {
                        place.save_image(part, &self.corpus.state(state), &[])?
                    } else {
                        let tree = self.trees.state(state);
                        self.trees.warm(&tree)?;
                        place.save(part, &["--no-default-exclude".as_ref(), "--tree".as_ref(), tree.as_os_str()])?
                    };
                    rows.add(&what, measured, added);
                }
            }
        }
        Ok(())
    }

    /// One guest's disk in several formats, one after the other, each as if nothing were known of it.
    pub(super) fn formats(&self, rows: &mut Rows) -> Result<()> {
        let (base, raw) = (self.corpus.state(STATES[0]), self.corpus.state(BUILT));
        let place = self.place("formats")?;
        let folder = raw.parent().map(Path::as_os_str).unwrap_or_default();
        for (number, format) in FORMATS.into_iter().enumerate() {
            let image = self.work.join("format").with_extension(if format == "vmdk" { "vmdk" } else { "qcow2" });
            match format {
                "raw" => {}
                "compressed qcow2" => images::convert(&raw, &["qcow2", "-c", "-W"], &image, self.work)?,
                "qcow2 upon base" => images::upon(&base, &raw, &image, self.work)?,
                _ => images::convert(&raw, &[format], &image, self.work)?,
            }
            let saved = if format == "raw" { &raw } else { &image };
            match place.save_image(&format!("format{number}"), saved, &["--allow-dir".as_ref(), folder]) {
                Ok((measured, added)) => rows.add(&as_format(format), measured, added),
                Err(error) if error.to_string().contains("cannot be read yet") => {
                    eprintln!("compare: this vml cannot read {format} yet, and its row is left out");
                }
                Err(error) => return Err(error),
            }
            if format != "raw" {
                fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))?;
            }
        }
        Ok(())
    }

    /// An overlay upon the base's image, and what it holds by itself; each into a repository that has the base.
    pub(super) fn overlay(&self, runs: usize, rows: &mut Rows) -> Result<()> {
        let base = self.corpus.state(STATES[0]);
        let [overlay, by_itself] = [self.work.join("overlay.qcow2"), self.work.join("alone.raw")];
        images::changed(&base, &self.corpus.state(BUILT), 100 << 20, &overlay, &by_itself, self.work)?;
        let (place, noted) = (self.place("with-base")?, disk(&base));
        place.vml(&["base".as_ref(), "add".as_ref(), BASE.as_ref(), "--disk".as_ref(), &noted])?;
        let copy = |place: &Path, to: &Path| {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(place).arg(to);
            measure(copy, self.work)
        };
        in_turns(OVERLAY, runs, rows, |i| {
            let copied = Place { lone: self, dir: self.work.join("copy") };
            copy(&place.dir, &copied.dir)?;
            warm(&base)?;
            copied.save_image("work", [&overlay, &by_itself][i], &["--base".as_ref(), BASE.as_ref()])
        })?;
        remove(&[overlay, by_itself])
    }

    /// A nearly empty image, and its data by itself.
    pub(super) fn sparse(&self, runs: usize, rows: &mut Rows) -> Result<()> {
        let [sparse, plain] = [self.work.join("sparse.raw"), self.work.join("plain.raw")];
        images::plain(self.trees, &[BUILT, "v1", "w2"], 1 << 30, &plain)?;
        images::spread(&plain, 1 << 40, &sparse)?;
        in_turns(SPARSE, runs, rows, |i| self.place("sparse")?.save_image("work", [&sparse, &plain][i], &[]))?;
        remove(&[sparse, plain])
    }
}

/// Measures two saves beside each other; who is first changes from run to run.
fn in_turns(what: [&str; 2], runs: usize, rows: &mut Rows, save: impl Fn(usize) -> Result<(Measured, u64)>) -> Result<()> {
    for i in (0..runs).flat_map(|run| [run % 2, (run + 1) % 2]) {
        let (measured, added) = save(i)?;
        rows.add(what[i], measured, added);
    }
    Ok(())
}

fn remove(images: &[PathBuf]) -> Result<()> {
    images.iter().try_for_each(|image| fs::remove_file(image).with_context(|| format!("cannot remove {}", image.display())))
}
