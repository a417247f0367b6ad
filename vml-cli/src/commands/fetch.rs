//! `vml base fetch`, and what fetches a base by itself when it is needed and missing.

use super::import_base::{self, Come};
use super::{Context, Outcome};
use crate::args::BaseFetchArgs;
use crate::catalogues::{self, Found, Place};
use crate::net::{Got, Network, Patience, Url, Wanted, download, nearest_mirrors};
use crate::online::Settings;
use crate::output::{complain, human, json};
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vml_core::catalogue::{Format, Offer};
use vml_core::entry::{BaseRef, EntryKind};
use vml_core::refs::{RefKind, split_base};
use vml_core::share::{Preface, PublicKey, read_preface};
use vml_core::{Entry, EntryId, Error, ErrorKind, IoResultExt as _, Monitor as _, Repository};

/// How often another process that fetches the same base is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it may take: far longer than any base does.
const WAIT_LIMIT: Duration = Duration::from_secs(48 * 3600);

/// Where to look.
struct How<'a> {
    /// One catalogue instead of those of this host.
    catalogue: Option<&'a str>,
    require_signed: bool,
}

/// A base that came.
struct Fetched {
    entry: EntryId,
    /// Its image, where it has one.
    file: Option<PathBuf>,
    /// Nothing where another process got it meanwhile.
    got: Option<Got>,
    notices: Vec<String>,
}

pub fn run(context: &Context, args: &BaseFetchArgs) -> Result<Outcome> {
    let started = Instant::now();
    split_base(&args.base)?;
    let repository = context.repository()?;
    if let Some(entry) = repository.refs().get(RefKind::Base, &args.base)? {
        tell_present(context, &args.base, &entry, started)?;
        return Ok(Outcome::Done);
    }
    let online = Online::new(args.proxy.as_deref())?;
    let require_signed = args.require_signed || repository.policy()?.require_signed;
    let how = How { catalogue: args.catalogue.as_deref(), require_signed };
    let found = online.find(&args.base, &how)?;
    if args.dry_run {
        return plan(context, &args.base, &found);
    }
    let fetched = online.fetch(context, &args.base, &found, args.limit)?;
    let elapsed_ms = settings::elapsed_ms(started);
    let Some(got) = &fetched.got else {
        tell_present(context, &args.base, &fetched.entry, started)?;
        return Ok(Outcome::Done);
    };
    if context.json() {
        let mut value = describe(&args.base, &found);
        value["entry"] = fetched.entry.to_string().into();
        value["new"] = true.into();
        value["file"] = fetched.file.as_deref().map_or(serde_json::Value::Null, json::host_path);
        value["received_bytes"] = got.received.into();
        value["continued_at"] = got.continued_at.into();
        value["from"] = json!(got.from);
        value["elapsed_ms"] = elapsed_ms.into();
        value["notices"] = json!(fetched.notices);
        crate::output::value(&value)?;
    }
    tell(context, &args.base, &found, &fetched, got, elapsed_ms)?;
    Ok(Outcome::Done)
}

fn tell_present(context: &Context, base: &str, entry: &EntryId, started: Instant) -> Result<()> {
    if context.json() {
        let elapsed_ms = settings::elapsed_ms(started);
        crate::output::value(&json!({ "base": base, "entry": entry.to_string(), "new": false, "elapsed_ms": elapsed_ms }))?;
    }
    context.say(format_args!("the base {base} is here already, as {}", entry.short()))
}

fn tell(context: &Context, base: &str, found: &Found, fetched: &Fetched, got: &Got, elapsed_ms: u64) -> Result<()> {
    let signed = super::receive::signed_by(found.signer.as_ref(), found.known_as.as_deref());
    let size = human::size(found.offer.size.unwrap_or(got.continued_at + got.received));
    let continued =
        if got.continued_at > 0 { format!(", {} of it here from an earlier try", human::size(got.continued_at)) } else { String::new() };
    context.say(format_args!(
        "fetched {base}, {size}{continued}, {} as the catalogue {} says, {signed}; in {}",
        found.offer.digest.algorithm(),
        found.catalogue,
        human::elapsed(elapsed_ms)
    ))?;
    match &fetched.file {
        Some(file) => context.say(format_args!("overlays stand on {}", file.display())),
        None => Ok(()),
    }
}

/// How large it is, for people.
pub fn size(offer: &Offer) -> String {
    offer.size.map_or_else(|| "size unknown".to_owned(), human::size)
}

/// An offer as JSON.
fn describe(base: &str, found: &Found) -> serde_json::Value {
    json!({
        "base": base,
        "catalogue": found.catalogue,
        "signer": found.signer.as_ref().map(PublicKey::fingerprint),
        "known_as": found.known_as,
        "format": found.offer.format.name(),
        "bytes": found.offer.size,
        "digest": found.offer.digest.to_string(),
        "urls": found.offer.urls,
    })
}

fn plan(context: &Context, base: &str, found: &Found) -> Result<Outcome> {
    if context.json() {
        let mut value = describe(base, found);
        value["dry_run"] = true.into();
        crate::output::value(&value)?;
    }
    let offer = &found.offer;
    context.say(format_args!("would fetch {base}: {}", human::first_line(&offer.description)))?;
    context.say(format_args!("{} as {}, {}", size(offer), offer.format.name(), offer.digest))?;
    let signed = super::receive::signed_by(found.signer.as_ref(), found.known_as.as_deref());
    context.say(format_args!("named by the catalogue {}, {signed}", found.catalogue))?;
    offer.urls.iter().try_for_each(|url| context.say(format_args!("from {url}")))?;
    Ok(Outcome::Done)
}

/// The network as it is set on this host.
struct Online {
    settings: Settings,
    network: Network,
}

impl Online {
    fn new(proxy: Option<&str>) -> Result<Self> {
        let settings = Settings::read()?;
        let network = settings.network(proxy)?;
        Ok(Self { settings, network })
    }

    /// The base in the catalogues.
    fn find(&self, base: &str, how: &How<'_>) -> Result<Found> {
        let places = places(how)?;
        if places.is_empty() {
            bail!(Error::not_found("no catalogue is known here: `vml base catalogue add NAME URL` adds one, or say --catalogue"));
        }
        let told = |error: &anyhow::Error| {
            if places.len() > 1 {
                complain(format_args!("vml: {error:#}"));
            }
        };
        let found = catalogues::find(&self.network, &places, base, &told)?;
        let names = || places.iter().map(|place| place.name.as_str()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| Error::not_found(format!("no catalogue names the base {base}: {} was asked", names())).into())
    }

    /// Gets it, unless another process does so at this moment.
    fn fetch(&self, context: &Context, base: &str, found: &Found, limit: Option<u64>) -> Result<Fetched> {
        let offer = &found.offer;
        if offer.format == Format::Tar && !settings::is_root() {
            bail!(Error::new(ErrorKind::PermissionDenied, format!("{base} is a tree: only root can keep the owners of its files")));
        }
        let dir = settings::home()?.join("bases").join(base);
        fs::create_dir_all(&dir).at(|| format!("cannot make the folder {}", dir.display()))?;
        let _lock = lock(base, || {
            if !context.json() {
                _ = context.say(format_args!("another command is fetching {base}: waiting for it"));
            }
        })?;
        if let Some(entry) = context.repository()?.refs().get(RefKind::Base, base)? {
            return Ok(Fetched { entry, file: None, got: None, notices: Vec::new() });
        }
        let packed = import_base::packed_path(&dir, offer);
        let progress = context.progress();
        let got = self.get(offer, &packed, limit, &progress);
        progress.finish();
        let got = got.with_context(|| format!("cannot fetch {base}"))?;
        let come = Come { base, offer, packed: &packed, dir: &dir, from: &got.from, catalogue: &found.catalogue };
        let (entry, file) =
            import_base::import(context, &come).with_context(|| format!("cannot use the file of {base} that was fetched"))?;
        Ok(Fetched { entry, file, got: Some(got), notices: progress.notices() })
    }

    fn get(&self, offer: &Offer, packed: &Path, limit: Option<u64>, progress: &crate::progress::Progress) -> Result<Got> {
        // A run that was killed later than this has left it whole.
        if import_base::is_whole(packed, offer)? {
            let len = fs::metadata(packed).at(|| format!("cannot read {}", packed.display()))?.len();
            return Ok(Got { continued_at: len, ..Got::default() });
        }
        let mut urls = Vec::new();
        for url in &offer.urls {
            match url.parse::<Url>() {
                Ok(url) => urls.push(url),
                Err(error) => progress.notice(&format!("{error}")),
            }
        }
        let urls = nearest_mirrors(&self.network, &urls, self.settings.geo()?.as_ref());
        let limit = limit.or(self.settings.limit()?);
        let wanted = Wanted { urls: &urls, size: offer.size, digest: offer.digest, limit };
        Ok(download(&self.network, &wanted, packed, Patience::default(), progress)?)
    }
}

fn places(how: &How<'_>) -> Result<Vec<Place>> {
    let mut places = catalogues::list()?;
    if let Some(at) = how.catalogue {
        match places.iter().find(|place| place.name == at) {
            Some(known) => places = vec![known.clone()],
            None => places = vec![Place::of(at, how.require_signed)?],
        }
    }
    places.iter_mut().for_each(|place| place.require_signed |= how.require_signed);
    Ok(places)
}

/// Waits until nobody else fetches this base. Whoever is killed lets it go.
fn lock(base: &str, mut waiting: impl FnMut()) -> Result<File> {
    let path = settings::home()?.join("bases").join(format!("{base}.lock"));
    let failed = || format!("cannot lock {}", path.display());
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).at(failed)?;
    let started = Instant::now();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).at(failed).map_err(Into::into),
            Err(TryLockError::WouldBlock) if started.elapsed() < WAIT_LIMIT => {
                if !std::mem::replace(&mut told, true) {
                    waiting();
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Err(TryLockError::WouldBlock) => {
                bail!(Error::new(ErrorKind::Locked, format!("another command has been fetching {base} for two days")))
            }
        }
    }
}

/// The base that an entry names: itself, or one of the same name and version that was imported here.
pub fn base_here(repository: &Repository, base: &BaseRef) -> Result<Option<Entry>> {
    match repository.entry(&base.entry) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let equal = repository.refs().get(RefKind::Base, &name(base))?;
            Ok(equal.map(|equal| repository.entry(&equal)).transpose()?)
        }
        other => Ok(Some(other?)),
    }
}

fn name(base: &BaseRef) -> String {
    format!("{}@{}", base.name, base.version)
}

/// Fetches the base of an entry if it is missing here and a catalogue names it; the repository to go on with, which sees it. Where it only helps, a fetch that
/// fails is told, and the entry is built without.
pub fn base_of(context: &Context, repository: Repository, entry: &Entry, no_fetch: bool, is_needed: bool) -> Result<Repository> {
    let Some(base) = &entry.base else { return Ok(repository) };
    if base_here(&repository, base)?.is_some() {
        return Ok(repository);
    }
    let base = name(base);
    if no_fetch {
        if is_needed {
            bail!(Error::not_found(format!("the base {base} is not in this repository, and --no-fetch says not to fetch it")));
        }
        return Ok(repository);
    }
    match fetch_missing(context, &base) {
        Ok(true) => context.repository(),
        Ok(false) if is_needed => bail!(Error::not_found(format!("the base {base} is not in this repository, and no catalogue names it"))),
        Ok(false) => Ok(repository),
        Err(error) if is_needed => Err(error),
        Err(error) => {
            complain(format_args!("vml: {base} is not here and cannot be fetched, the entry is built without it: {error:#}"));
            Ok(repository)
        }
    }
}

/// Fetches a base of which it is known that it is missing; whether a catalogue names it.
fn fetch_missing(context: &Context, base: &str) -> Result<bool> {
    if catalogues::list()?.is_empty() {
        return Ok(false);
    }
    let online = Online::new(None)?;
    let how = How { catalogue: None, require_signed: context.repository()?.policy()?.require_signed };
    let found = match online.find(base, &how) {
        Err(error) if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound) => return Ok(false),
        other => other?,
    };
    context.say(format_args!("the base {base} is missing here: fetching {}", size(&found.offer)))?;
    let started = Instant::now();
    let fetched = online.fetch(context, base, &found, None)?;
    if let Some(got) = &fetched.got {
        tell(context, base, &found, &fetched, got, settings::elapsed_ms(started))?;
    }
    Ok(true)
}

/// Fetches what a share file needs and this repository lacks, before it is received; the same stream from its beginning.
pub fn before_receiving<'a>(
    context: &Context,
    reader: Box<dyn Read + 'a>,
    may: &dyn Fn(Option<PublicKey>) -> bool,
) -> Result<Box<dyn Read + 'a>> {
    if catalogues::list()?.is_empty() {
        return Ok(reader);
    }
    let (preface, again) = preface_of(reader);
    // Whoever receives it tells what is wrong with it.
    let Ok(preface) = preface else { return Ok(again) };
    if !may(preface.head.signer.map(PublicKey::from_bytes)) {
        return Ok(again);
    }
    let repository = context.repository()?;
    for need in &preface.head.needs {
        let EntryKind::Base { name, version } = &need.kind else { continue };
        let base = BaseRef { name: name.clone(), version: version.clone(), entry: need.entry };
        if base_here(&repository, &base)?.is_none() {
            fetch_missing(context, &need.origin())
                .with_context(|| format!("the share file needs the base {}, which is missing here", need.origin()))?;
        }
    }
    Ok(again)
}

/// Reads a share file's preface, and gives back the file from its beginning.
pub fn preface_of<'a>(reader: Box<dyn Read + 'a>) -> (vml_core::Result<Preface>, Box<dyn Read + 'a>) {
    let mut kept = Keeping { reader, bytes: Vec::new() };
    let preface = read_preface(&mut kept);
    (preface, Box::new(Cursor::new(kept.bytes).chain(kept.reader)))
}

/// Keeps what is read.
struct Keeping<'a> {
    reader: Box<dyn Read + 'a>,
    bytes: Vec<u8>,
}

impl Read for Keeping<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = self.reader.read(buf)?;
        self.bytes.extend_from_slice(&buf[..len]);
        Ok(len)
    }
}
