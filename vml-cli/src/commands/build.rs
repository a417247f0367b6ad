//! `vml build` and `vml base export`

use super::restore::put_back;
use super::{Context, Outcome, build_machine, fetch, has_members, restore};
use crate::args::{BaseExportArgs, BuildArgs, InsideArgs};
use crate::bases::{self, BaseImage};
use crate::images::DiskImage;
use crate::output::{human, json};
use crate::progress::Progress;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vml_core::disk::{ClusterMap, DiskTarget, RestoredDisk, restore_disk, verify_disk};
use vml_core::entry::{DiskPart, EntryKind};
use vml_core::refs::{RefKind, split_base};
use vml_core::{ChunkStore, Entry, Error, ErrorKind, IoResultExt as _, Monitor as _, Repository, Task};
use vml_hv::image::write::{BackingImage, CLUSTER_LEN, Qcow2Target, RawTarget};

pub fn run(context: &Context, args: &BuildArgs) -> Result<Outcome> {
    if let Some(area) = &args.area {
        return build_machine::run(context, args, area);
    }
    let dir = args.dir.as_deref().ok_or_else(|| Error::invalid("say where to: a directory, or --area NAME"))?;
    if !args.delete && !args.replace && has_members(dir) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is not empty", dir.display())));
    }
    let repository = context.repository()?;
    let entry = repository.entry(&repository.resolve(&args.entry)?)?;
    let disks = entry.disks().next().is_some();
    // A tree has everything itself; a disk may stand on its base's.
    let stands = disks && args.only.as_deref() != Some("tree") && matches!(args.format.as_str(), "auto" | "overlay");
    let repository =
        if stands { fetch::base_of(context, repository, &entry, args.no_fetch, args.format == "overlay")? } else { repository };
    match (args.only.as_deref(), entry.tree().is_some(), disks) {
        (None, true, true) => bail!(Error::invalid("the entry has a tree and disks: say --only tree or --only disks")),
        (Some("disks"), _, true) | (None, false, true) => {
            if args.delete {
                bail!(Error::invalid("--delete is for trees; --replace replaces images that are there"));
            }
            let job = Job { entry: &entry, dir, format: &args.format, replace: args.replace, verify: args.verify, machine: true };
            let started = Instant::now();
            let built = build_disks(context, &repository, &job)?;
            tell(context, &job, &built, started)
        }
        (Some("disks"), _, false) => bail!(Error::not_found("the entry has no disks")),
        _ => put_back(
            context,
            &restore::Request {
                entry: &args.entry,
                path: b"",
                dir,
                delete: args.delete,
                yes: args.yes,
                inside: &InsideArgs::default(),
                special: args.allow_special,
            },
        ),
    }
}

/// Builds the images of a base, and notes them, so that overlays can stand on them.
pub fn export(context: &Context, args: &BaseExportArgs) -> Result<Outcome> {
    split_base(&args.base)?;
    if !args.replace && has_members(&args.dir) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is not empty", args.dir.display())));
    }
    let repository = context.repository()?;
    let id =
        repository.refs().get(RefKind::Base, &args.base)?.ok_or_else(|| Error::not_found(format!("there is no base {:?}", args.base)))?;
    let entry = repository.entry(&id)?;
    if entry.disks().next().is_none() {
        let entry = format!("BASE:{}", args.base);
        return put_back(
            context,
            &restore::Request {
                entry: &entry,
                path: b"",
                dir: &args.dir,
                delete: false,
                yes: false,
                inside: &InsideArgs::default(),
                special: args.allow_special,
            },
        );
    }
    let job = Job { entry: &entry, dir: &args.dir, format: &args.format, replace: args.replace, verify: args.verify, machine: true };
    let started = Instant::now();
    let built = build_disks(context, &repository, &job)?;
    let images: Vec<DiskImage> = built
        .disks
        .iter()
        .map(|disk| DiskImage { name: disk.name.clone(), file: disk.path.clone(), format: Some(disk.format.to_owned()) })
        .collect();
    bases::note(&args.base, &id, &images, &[])?;
    tell(context, &job, &built, started)
}

pub struct Job<'a> {
    pub entry: &'a Entry,
    pub dir: &'a Path,
    /// `auto`, `whole`, `raw`, `qcow2` or `overlay`.
    pub format: &'a str,
    pub replace: bool,
    pub verify: bool,
    /// Whether the machine's description is written beside them as it was saved.
    pub machine: bool,
}

/// What was built.
pub struct Done {
    pub disks: Vec<Built>,
    pub notices: Vec<String>,
}

pub struct Built {
    pub name: String,
    pub path: PathBuf,
    pub format: &'static str,
    len: u64,
    data_bytes: u64,
    base: Option<PathBuf>,
    /// What must be allowed to who opens it.
    pub allowed: Vec<PathBuf>,
}

/// How a disk is written.
enum Form {
    Raw,
    /// A clone of the raw image, where the file system can.
    Clone(BaseDisk),
    Qcow2,
    Overlay(BaseDisk),
}

/// A base's disk, and an image of it.
struct BaseDisk {
    image: BaseImage,
    part: DiskPart,
}

pub fn build_disks(context: &Context, repository: &Repository, job: &Job<'_>) -> Result<Done> {
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let threads = context.options().threads;
    fs::create_dir_all(job.dir).at(|| format!("cannot make directory {}", job.dir.display()))?;
    let machine = job.entry.machine().filter(|_| job.machine).map(|machine| (job.dir.join(&machine.name), &machine.bytes));
    if let Some((path, _)) = machine.as_ref().filter(|(path, _)| !job.replace && path.symlink_metadata().is_ok()) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is there already", path.display())));
    }
    let mut built = Vec::new();
    for disk in job.entry.disks() {
        let form = form(repository, job, disk).with_context(|| format!("cannot build the disk {}", disk.name))?;
        let format = if matches!(form, Form::Raw | Form::Clone(_)) { "raw" } else { "qcow2" };
        let path = job.dir.join(format!("{}.{format}", disk.name));
        let writing = Writing { store, disk, path: &path, replace: job.replace, threads, progress: &progress };
        let restored = writing.write(&form).with_context(|| format!("cannot build the disk {} as {}", disk.name, path.display()))?;
        let base = match form {
            Form::Clone(base) | Form::Overlay(base) => Some(base.image),
            Form::Raw | Form::Qcow2 => None,
        };
        let allowed: Vec<PathBuf> = base.iter().flat_map(BaseImage::allowed).collect();
        if job.verify {
            let image = DiskImage { name: disk.name.clone(), file: path.clone(), format: Some(format.to_owned()) }.open(&allowed)?;
            verify_disk(store, &disk.recipe, image.as_ref(), threads, &progress)
                .with_context(|| format!("{} is not as the disk {} was saved", path.display(), disk.name))?;
        }
        let base = base.filter(|_| format == "qcow2").map(|base| base.file);
        built.push(Built { name: disk.name.clone(), path, format, len: disk.recipe.len, data_bytes: restored.data_bytes, base, allowed });
    }
    if let Some((path, bytes)) = machine {
        // As the images, it has its name once it is whole.
        let part = job.dir.join(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path)).at(|| format!("cannot write {}", path.display()))?;
    }
    progress.finish();
    Ok(Done { disks: built, notices: progress.notices() })
}

/// Decides how a disk is written: upon its base's image where that is there, else as it was.
fn form(repository: &Repository, job: &Job<'_>, disk: &DiskPart) -> Result<Form> {
    let base = if matches!(job.format, "auto" | "overlay" | "raw") { base_disk(repository, job.entry, disk)? } else { None };
    let whole = || if disk.format == "raw" { Form::Raw } else { Form::Qcow2 };
    Ok(match (job.format, base) {
        ("raw", Some(base)) if base.image.format == "raw" => Form::Clone(base),
        ("raw", _) => Form::Raw,
        ("qcow2", _) => Form::Qcow2,
        ("auto" | "overlay", Some(base)) => Form::Overlay(base),
        ("overlay", None) => bail!(Error::not_found(
            "no unchanged image of its base is known on this host: `vml base export` makes one, and --format qcow2 needs none"
        )),
        _ => whole(),
    })
}

/// The base's disk of the same name, with an image that shows it.
fn base_disk(repository: &Repository, entry: &Entry, disk: &DiskPart) -> Result<Option<BaseDisk>> {
    let (base, part) = match (&entry.base, &entry.kind) {
        (Some(base), _) => {
            let name = format!("{}@{}", base.name, base.version);
            // It may have been received upon another import of the same base.
            let Some(shown) = fetch::base_here(repository, base)? else { return Ok(None) };
            let part = shown.disks().find(|part| part.name == disk.name).cloned();
            (name, part)
        }
        (None, EntryKind::Base { name, version }) => (format!("{name}@{version}"), Some(disk.clone())),
        (None, EntryKind::State { .. }) => return Ok(None),
    };
    let Some(part) = part else { return Ok(None) };
    for image in bases::images(&base).into_iter().filter(|image| image.shown.disk == disk.name) {
        // A base that was given another face since has another entry with the same disk.
        let Ok(shown) = repository.entry(&image.shown.entry) else { continue };
        if shown.disks().any(|other| other.name == disk.name && other.recipe == part.recipe) {
            return Ok(Some(BaseDisk { image, part }));
        }
    }
    Ok(None)
}

/// What a build of one disk needs.
struct Writing<'a> {
    store: &'a ChunkStore,
    disk: &'a DiskPart,
    path: &'a Path,
    replace: bool,
    threads: usize,
    progress: &'a Progress,
}

impl Writing<'_> {
    fn write(&self, form: &Form) -> Result<RestoredDisk, Error> {
        let recipe = &self.disk.recipe;
        let over = |base: &BaseDisk| ClusterMap::over(self.store, &base.part.recipe, recipe, CLUSTER_LEN);
        let (map, backing) = match form {
            Form::Overlay(base) => (over(base)?, Some(BackingImage { path: &base.image.file, format: &base.image.format })),
            Form::Qcow2 => (ClusterMap::whole(self.store, recipe, CLUSTER_LEN)?, None),
            Form::Raw => return self.write_raw(),
            Form::Clone(base) => {
                let Some(target) = RawTarget::create_clone(self.path, &base.image.file, recipe.len, self.replace)? else {
                    return self.write_raw();
                };
                let restored = self.fill(&over(base)?.ranges().collect::<Vec<_>>(), &target)?;
                target.finish()?;
                return Ok(restored);
            }
        };
        let target = Qcow2Target::create(self.path, &map, backing.as_ref(), self.replace)?;
        let restored = self.fill(&map.ranges().collect::<Vec<_>>(), &target)?;
        target.finish()?;
        Ok(restored)
    }

    fn write_raw(&self) -> Result<RestoredDisk, Error> {
        let len = self.disk.recipe.len;
        let target = RawTarget::create(self.path, len, self.replace)?;
        let restored = self.fill(std::slice::from_ref(&(0..len)), &target)?;
        target.finish()?;
        Ok(restored)
    }

    fn fill(&self, ranges: &[Range<u64>], target: &dyn DiskTarget) -> Result<RestoredDisk, Error> {
        self.progress.expect(Task::Restore, ranges.iter().map(|range| range.end - range.start).sum());
        restore_disk(self.store, &self.disk.recipe, ranges.iter().cloned(), target, self.threads, self.progress)
    }
}

fn tell(context: &Context, job: &Job<'_>, built: &Done, started: Instant) -> Result<Outcome> {
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        crate::output::value(&json!({
            "entry": job.entry.encode().0.to_string(),
            "directory": json::host_path(job.dir),
            "disks": disks_json(built),
            "verified": job.verify,
            "elapsed_ms": elapsed_ms,
            "notices": built.notices,
        }))?;
    }
    tell_disks(context, built, job.verify)?;
    context.say(format_args!("in {}", human::elapsed(elapsed_ms)))?;
    Ok(Outcome::Done)
}

/// The built disks as JSON.
pub fn disks_json(built: &Done) -> serde_json::Value {
    let disk = |disk: &Built| {
        json!({
            "name": disk.name,
            "file": json::host_path(&disk.path),
            "format": disk.format,
            "bytes": disk.len,
            "data_bytes": disk.data_bytes,
            "base_image": disk.base.as_deref().map(json::host_path),
        })
    };
    built.disks.iter().map(disk).collect()
}

/// A line a disk, for people.
pub fn tell_disks(context: &Context, built: &Done, verified: bool) -> Result<()> {
    let verified = if verified { ", and compared" } else { "" };
    for disk in &built.disks {
        let upon = disk.base.as_ref().map(|base| format!(", upon {}", base.display())).unwrap_or_default();
        context.say(format_args!(
            "built disk {} as {}: {} of {}{upon}{verified}",
            disk.name,
            disk.path.display(),
            human::size(disk.data_bytes),
            human::size(disk.len)
        ))?;
    }
    Ok(())
}
