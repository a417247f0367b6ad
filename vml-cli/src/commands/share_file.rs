//! `vml show`, `ls` and `cat` of a share file, which need no repository.

use super::{Context, Outcome, receive, share};
use crate::args::OpeningArgs;
use crate::keys;
use crate::output::{human, json};
use anyhow::{Result, bail};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vml_core::share::ShareFile;
use vml_core::{Error, ErrorKind};

/// The file that `target` means, `FILE.vml` or `FILE.vml:PATH`, if there is one; and the path in it.
pub fn split(target: &OsStr) -> Option<(&Path, Option<&[u8]>)> {
    let bytes = target.as_bytes();
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(4).position(|four| four == b".vml") {
        let end = from + at + 4;
        let file = Path::new(OsStr::from_bytes(&bytes[..end]));
        if matches!(bytes.get(end), None | Some(b':')) && file.is_file() {
            return Some((file, bytes.get(end + 1..)));
        }
        from = end;
    }
    None
}

/// Opens a file, with keys where it is sealed.
fn open<'a>(path: &Path, opening: &OpeningArgs) -> Result<ShareFile<'a>> {
    let mut failure = None;
    let file = ShareFile::open_with(path, &mut || {
        keys::identities(&opening.identity).map_err(|error| {
            failure = Some(error);
            Error::new(ErrorKind::PermissionDenied, "no key opens it")
        })
    });
    match failure {
        Some(error) => Err(error.context(format!("{} is sealed", path.display()))),
        None => Ok(file?),
    }
}

pub fn show(context: &Context, path: &Path, opening: &OpeningArgs) -> Result<Outcome> {
    let file = open(path, opening)?;
    let head = &file.preface().head;
    let signer = file.signer();
    let known = keys::list()?;
    let known_as = signer.and_then(|key| known.iter().find(|known| known.key == key)).map(|known| known.name.clone());
    if context.json() {
        crate::output::value(&json!({
            "file": json::host_path(path),
            "bytes": file.len(),
            "sealed": file.is_sealed(),
            "author": head.author,
            "time": human::time_utc(head.time_ms),
            "time_ms": head.time_ms,
            "signer": signer.map(|key| key.fingerprint()),
            "known_as": known_as,
            "statement": file.statement(),
            "signature": file.signature(),
            "needs": share::needs_json(&head.needs),
            "entries": file.preface().entries.iter().map(|(id, entry)| json::entry(id, entry)).collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Done);
    }
    let row = |name: &str, value: &dyn std::fmt::Display| context.say(format_args!("{name:<13}{value}"));
    row("share file", &human::size(file.len()))?;
    row("made", &format!("{} by {}", human::time_exact(head.time_ms), human::printable(&head.author)))?;
    if file.is_sealed() {
        row("sealed", &"to keys of which one is here")?;
    }
    row("signature", &receive::signed_by(signer.as_ref(), known_as.as_deref()))?;
    for need in &head.needs {
        row("needs", &format!("{}, entry {}", need.origin(), need.entry))?;
    }
    for (id, entry) in &file.preface().entries {
        context.say("")?;
        super::log::show_entry(context, id, entry, &[])?;
    }
    Ok(Outcome::Done)
}

/// Hands the file's only, or last, entry and its chunks to `look`. What the file leaves out is read from the repository, where there is one.
pub fn with_file(
    context: &Context,
    path: &Path,
    opening: &OpeningArgs,
    look: impl FnOnce(&ShareFile<'_>, &vml_core::Entry) -> Result<Outcome>,
) -> Result<Outcome> {
    let repository = context.repository().ok();
    let progress = context.progress();
    let store = repository.as_ref().and_then(|repository| repository.store(&progress).ok());
    let file = open(path, opening)?.with_behind(store.map(|store| store as &dyn vml_core::recipe::GetChunk));
    let Some((_, entry)) = file.preface().entries.last() else { bail!(Error::corrupt("the share file has no entry")) };
    look(&file, entry)
}
