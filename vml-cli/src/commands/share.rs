//! `vml share`

use super::{Context, Outcome, transplant};
use crate::args::ShareArgs;
use crate::keys;
use crate::output::{complain, human, json};
use crate::progress::Progress;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use vml_core::share::scrub::scrub;
use vml_core::share::seal::{Recipient, Sealer};
use vml_core::share::secrets::{Finding, Found, SecretRules, scan};
use vml_core::share::{ShareRequest, Shared, Signer, share};
use vml_core::tree::display_path;
use vml_core::{EntryId, Error, ErrorKind, IoResultExt as _, Monitor as _, Repository};

/// zstd levels, without and with `--small`.
const LEVEL: i32 = 12;
const SMALL_LEVEL: i32 = 19;
/// Entries whose files are looked through in one walk.
const SCANNED_AT_ONCE: usize = 256;

pub fn run(context: &Context, args: &ShareArgs) -> Result<Outcome> {
    let started = Instant::now();
    let repository = context.repository()?;
    let progress = context.progress();
    let resolve = |names: &[String]| names.iter().map(|name| repository.resolve(name)).collect::<Result<Vec<_>, _>>();
    let mut entries = resolve(&args.entry)?;
    let since = resolve(&args.since)?;
    let signer = if args.no_sign { None } else { keys::signer(args.key.as_deref())? };
    let recipients = args.to.iter().map(|name| keys::recipient(name)).collect::<Result<Vec<_>>>()?;
    let author = settings::author();
    let output = match &args.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}-{}.vml", repository.entry(&entries[0])?.origin().replace('@', "-"), entries[0].short())),
    };
    let to_stdout = output == Path::new("-");
    if !to_stdout && !args.replace && output.symlink_metadata().is_ok() {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is there already: --replace replaces it", output.display())));
    }
    let time_ms = settings::now_ms();
    let request = ShareRequest {
        entries: &[],
        since: &since,
        full: args.full,
        level: args.level.unwrap_or(if args.small { SMALL_LEVEL } else { LEVEL }),
        solid: args.small,
        threads: context.options().threads,
        author: &author,
        time_ms,
        signer: signer.as_deref(),
    };
    let rules = rules()?;
    let findings =
        scan(&repository, &ShareRequest { entries: &entries, ..request }, &rules, &progress).context("cannot look for secrets")?;
    let left_out = decide(context, args, &repository, &mut entries, &findings, &progress)?;
    let request = ShareRequest { entries: &entries, ..request };
    let shared = if to_stdout {
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        write_to(context, &repository, &request, &recipients, &mut out, &progress)?
    } else {
        write(context, &repository, &request, &recipients, &output, &progress)?
    };
    progress.finish();
    let elapsed_ms = settings::elapsed_ms(started);
    let findings: Vec<Value> = findings.iter().map(finding_json).collect();
    if context.json() && !to_stdout {
        crate::output::value(&json!({
            "file": json::host_path(&output),
            "bytes": shared.bytes,
            "entries": shared.head.entries.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "needs": needs_json(&shared.head.needs),
            "sealed_to": recipients.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "signer": signer.as_ref().map(|signer| signer.public_key().fingerprint()),
            "chunks": shared.chunks_count,
            "plain_bytes": shared.plain_bytes,
            "found": findings,
            "left_out": left_out,
            "elapsed_ms": elapsed_ms,
            "notices": progress.notices(),
        }))?;
    }
    if !to_stdout {
        tell(context, &output, &shared, signer.as_deref(), &recipients, elapsed_ms)?;
    }
    Ok(Outcome::Done)
}

/// The rules for secrets, with those of the home folder.
fn rules() -> Result<SecretRules> {
    let path = settings::home()?.join("secrets.toml");
    let extra = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    SecretRules::with(&extra).with_context(|| format!("cannot use {}", path.display()))
}

/// Refuses, or leaves out what was found; returns how many files.
fn decide(
    context: &Context,
    args: &ShareArgs,
    repository: &Repository,
    entries: &mut [EntryId],
    findings: &[Finding],
    progress: &Progress,
) -> Result<usize> {
    let secrets: Vec<&Finding> = findings.iter().filter(|finding| finding.found != Found::Memory).collect();
    if !context.global.quiet && !context.json() {
        for finding in &secrets {
            complain(format_args!("vml: found {}", describe(finding)));
        }
    }
    if args.scrub {
        let mut count = 0;
        if let Some(finding) = secrets.iter().find(|finding| finding.disk.is_some()) {
            let message =
                format!("found {}: files on a saved disk cannot be left out: remove them in the guest and save again", describe(finding));
            bail!(Error::invalid(message));
        }
        if let Some(finding) = findings.iter().find(|finding| !entries.contains(&finding.entry)) {
            bail!(Error::invalid(format!("found {}: that is in the base, which cannot be changed", describe(finding))));
        }
        for id in entries.iter_mut() {
            let paths: BTreeSet<Vec<u8>> =
                secrets.iter().filter(|finding| finding.entry == *id).map(|finding| finding.path.clone()).collect();
            let has_memory = repository.entry(id)?.memory().is_some();
            if paths.is_empty() && (!has_memory || args.with_memory) {
                continue;
            }
            count += paths.len();
            let (new, _) = scrub(repository, id, &paths, args.with_memory, settings::now_ms(), progress)?;
            complain(format_args!(
                "vml: left {} out of {}: what is shared is {}",
                human::counted(paths.len() as u64, "file"),
                id.short(),
                new.short()
            ));
            *id = new;
        }
        return Ok(count);
    }
    refuse_secrets(context, findings, args.allow_secrets, args.with_memory, true)?;
    Ok(0)
}

/// Looks for what should not leave the house in what entries have beyond what is known elsewhere.
pub fn find_secrets(repository: &Repository, entries: &[EntryId], known: &[EntryId], progress: &Progress) -> Result<Vec<Finding>> {
    let rules = rules()?;
    let mut findings = Vec::new();
    let mut since = known.to_vec();
    for part in entries.chunks(SCANNED_AT_ONCE) {
        let request = ShareRequest {
            entries: part,
            since: &since,
            full: false,
            level: 1,
            solid: false,
            threads: 1,
            author: "",
            time_ms: 0,
            signer: None,
        };
        findings.extend(scan(repository, &request, &rules, progress).context("cannot look for secrets")?);
        since.extend(part.last());
    }
    Ok(findings)
}

/// Refuses what was found, unless it is allowed.
pub fn refuse_secrets(context: &Context, findings: &[Finding], allow: bool, with_memory: bool, can_scrub: bool) -> Result<()> {
    let secrets: Vec<&Finding> = findings.iter().filter(|finding| finding.found != Found::Memory).collect();
    if can_scrub {
        // They were told already.
    } else if !context.global.quiet && !context.json() {
        secrets.iter().for_each(|finding| complain(format_args!("vml: found {}", describe(finding))));
    }
    let (leave_memory, leave_secrets) = if can_scrub { (", --scrub leaves it out", "--scrub leaves it out, ") } else { ("", "") };
    if secrets.len() < findings.len() && !with_memory {
        let message =
            format!("the entry has the memory of a machine, with whatever its programs knew: --with-memory shares it{leave_memory}");
        bail!(Error::new(ErrorKind::PermissionDenied, message));
    }
    if !secrets.is_empty() && !allow {
        let mut list: Vec<String> = secrets.iter().take(5).map(|finding| describe(finding)).collect();
        if secrets.len() > list.len() {
            list.push(format!("{} more", secrets.len() - list.len()));
        }
        let message = format!("found what may be secret: {}: {leave_secrets}--allow-secrets shares it", list.join(", "));
        bail!(Error::new(ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

fn describe(finding: &Finding) -> String {
    let place = finding.disk.as_ref().map(|(disk, partition)| format!(" on disk {disk}, partition {partition}")).unwrap_or_default();
    match &finding.found {
        Found::Secret(rule) => format!("/{}{place} ({rule})", display_path(&finding.path)),
        Found::Unseen(file_system) => format!("a file system that cannot be looked into, {file_system}{place}"),
        Found::Memory => "the memory of a machine".to_owned(),
    }
}

fn finding_json(finding: &Finding) -> Value {
    let rule = match &finding.found {
        Found::Secret(rule) => rule.clone(),
        Found::Unseen(_) => "unseen".to_owned(),
        Found::Memory => "memory".to_owned(),
    };
    json!({
        "entry": finding.entry.to_string(),
        "disk": finding.disk.as_ref().map(|(disk, _)| disk),
        "partition": finding.disk.as_ref().map(|(_, partition)| partition),
        "path": json::path(&finding.path),
        "rule": rule,
    })
}

/// What a file needs, as JSON.
pub fn needs_json(needs: &[vml_core::share::Need]) -> Vec<Value> {
    needs.iter().map(|need| json!({ "name": need.origin(), "entry": need.entry.to_string() })).collect()
}

/// Writes the file to a stream, sealed where there are recipients.
fn write_to(
    context: &Context,
    repository: &Repository,
    request: &ShareRequest<'_>,
    recipients: &[Recipient],
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<Shared> {
    let share = |out: &mut dyn Write| -> Result<Shared> {
        if repository.config().is_encrypted() {
            progress.notice("the repository is encrypted: for the file its entries are carried over, by way of a temporary folder, and have other ids there");
            return transplant::share_other(context, repository, request, out, progress);
        }
        Ok(share(repository, request, out, progress)?)
    };
    if recipients.is_empty() {
        return share(out);
    }
    let mut sealer = Sealer::new(recipients, out)?;
    let shared = share(&mut sealer)?;
    sealer.finish()?.flush().at(|| "cannot write the sealed file".to_owned())?;
    Ok(shared)
}

/// Writes the file: under its name once it is whole.
fn write(
    context: &Context,
    repository: &Repository,
    request: &ShareRequest<'_>,
    recipients: &[Recipient],
    output: &Path,
    progress: &Progress,
) -> Result<Shared> {
    let name = output.file_name().ok_or_else(|| Error::invalid(format!("{} names no file", output.display())))?;
    let part = output.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let run = || -> Result<Shared> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&part).at(|| format!("cannot write {}", part.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut shared = write_to(context, repository, request, recipients, &mut out, progress)?;
        out.flush().at(|| format!("cannot write {}", part.display()))?;
        out.get_ref().sync_all().at(|| format!("cannot write {}", part.display()))?;
        shared.bytes = out.get_ref().metadata().at(|| format!("cannot look at {}", part.display()))?.len();
        fs::rename(&part, output).at(|| format!("cannot name {}", output.display()))?;
        Ok(shared)
    };
    run().inspect_err(|_| _ = fs::remove_file(&part))
}

fn tell(
    context: &Context,
    output: &Path,
    shared: &Shared,
    signer: Option<&dyn Signer>,
    recipients: &[Recipient],
    elapsed_ms: u64,
) -> Result<()> {
    context.say(format_args!(
        "wrote {}: {}, of {} in {}, in {}",
        output.display(),
        human::size(shared.bytes),
        human::size(shared.plain_bytes),
        human::counted(shared.chunks_count, "chunk"),
        human::elapsed(elapsed_ms)
    ))?;
    for need in &shared.head.needs {
        context.say(format_args!("whoever receives it needs {}, entry {}", need.origin(), need.entry.short()))?;
    }
    for recipient in recipients {
        context.say(format_args!("sealed to {}", human::printable(&recipient.to_string())))?;
    }
    match signer {
        Some(signer) => context.say(format_args!("signed by {}", signer.public_key())),
        None => context.say("not signed: `vml key new` makes a key"),
    }
}
