//! How a failed command is told: what, why, and what to do next.

use crate::output::complain;
use serde_json::json;
use std::process::ExitCode;
use vml_core::ErrorKind;

/// Whether whoever read our output has gone: no error of ours. A hypervisor or a server that goes away breaks a pipe too, so the output itself is asked.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let has_gone = poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && asked[0].revents().contains(PollFlags::ERR);
    has_gone
        && error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints the error, its causes and a hint to standard error; returns the exit code.
pub fn report(error: &anyhow::Error, json: bool, quiet: bool) -> ExitCode {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<vml_core::Error>()).map(vml_core::Error::kind);
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    let hint = hint(error, kind);
    if json {
        let kind = kind.map(|kind| format!("{kind:?}"));
        complain(json!({ "error": error.to_string(), "kind": kind, "causes": causes, "hint": hint }));
    } else {
        complain(format_args!("vml: {error}"));
        for cause in causes {
            complain(format_args!("  caused by: {cause}"));
        }
        if let (Some(hint), false) = (hint, quiet) {
            complain(format_args!("  hint: {hint}"));
        }
    }
    ExitCode::from(if kind == Some(ErrorKind::InvalidInput) { 2 } else { 3 })
}

fn hint(error: &anyhow::Error, kind: Option<ErrorKind>) -> Option<&'static str> {
    let text = format!("{error:#}");
    let has = |part: &str| text.contains(part);
    if has("is not the description of an area") {
        return Some("mend it by hand, or remove it with `vml area rm` and add the area again; its entries are not touched");
    }
    // An address in object storage is in each of its errors.
    let is_far = ["s3://", "gs://", "az://"].iter().any(|scheme| has(scheme));
    Some(match kind? {
        ErrorKind::NeedsKey if has("can save but not read") => "`vml access list` shows which keys can read",
        ErrorKind::NeedsKey => {
            "give a key with --passphrase-file, --passphrase-command, --passphrase-fd or --key-file, or by VML_PASSPHRASE_FILE, VML_PASSPHRASE_COMMAND or VML_KEY_FILE"
        }
        ErrorKind::WrongKey => "`vml access list` shows the keys that there are",
        ErrorKind::InvalidInput if has("is not encrypted") => "unset what gives a passphrase or a key for this repository",
        ErrorKind::NotFound if has("there is no remote ") => "`vml remote list` shows the remotes",
        ErrorKind::PermissionDenied if has("the repository http") => "a token with the right scopes is needed: docs/service.md",
        ErrorKind::PermissionDenied if is_far => "docs/object-storage.md says where credentials come from and what they must allow",
        ErrorKind::Io if is_far && has("cannot be reached") => "AWS_ENDPOINT_URL names the store's address, if it is not Amazon's",
        ErrorKind::InvalidInput if has("cannot hold a repository") => "docs/object-storage.md says what a store must keep",
        ErrorKind::Interrupted if is_far => "try again: what was stored so far is used",
        ErrorKind::NotFound if has("no repository here") => "make one with `vml init`, or name another with --repo PLACE or VML_REPO",
        ErrorKind::NotFound if has("there is no area") => "`vml area list` shows the areas of this host, `vml area add` adds one",
        ErrorKind::NotFound if has("receive that base first") => {
            "`vml base catalogue add` names a place from which missing bases are fetched"
        }
        ErrorKind::NotFound if has("no catalogue names") => "`vml base catalogue show` tells what a catalogue has",
        ErrorKind::NotFound if has("there is no base") => "`vml base list` shows the bases",
        ErrorKind::NotFound if has("is not in the entry") => "`vml ls ENTRY:PATH` shows what is there",
        ErrorKind::NotFound if has("neither a tag") || has("no entry in this repository") || has("no tag") => {
            "`vml log` shows the entries, `vml tag` the tags"
        }
        ErrorKind::NotFound if has("chunk") || has("cannot read entry") => "`vml check` tells what else is missing",
        ErrorKind::AlreadyExists if has("a repository here already") => "it is ready to use, and nothing in it was changed",
        ErrorKind::AlreadyExists if has("the area") => "edit its description by hand, or remove it first with `vml area rm`",
        ErrorKind::AlreadyExists if has("tag") => "choose another name, or move the tag with `vml tag ENTRY NAME --force`",
        ErrorKind::AlreadyExists if has("base") => "a base never changes: add it under another version",
        ErrorKind::AlreadyExists if has("not empty") => "choose a new directory, or --delete to make this one equal to the entry",
        ErrorKind::PermissionDenied if has("no trusted key") || has("is not signed") => {
            "ask whom you have it from for the public key, by another way, and `vml key trust` it"
        }
        ErrorKind::PermissionDenied if has("found what may be secret") || has("the memory of a machine") || has("others can read") => {
            "docs/sharing.md says what is looked for"
        }
        ErrorKind::Corrupt if has("the catalogue says") || has("signature of the catalogue") => {
            "ask whom the catalogue is from: the file was changed on its way, or the catalogue is wrong"
        }
        ErrorKind::Corrupt if has("share file") => "get the file again: nothing of it is visible here",
        ErrorKind::Corrupt => "`vml check --data` tells what is damaged; entries that do not use it are whole",
        ErrorKind::UnsupportedFormat if has("the guest needs") => "docs/guests.md says what a guest needs",
        ErrorKind::UnsupportedFormat => "it was written by a newer version: use that one, or a newer one",
        ErrorKind::Locked => "try again: what was stored so far is used",
        ErrorKind::InvalidInput if has("could be") => "type more digits of the id",
        ErrorKind::PermissionDenied if has("host key of") || has("does not let us in") => {
            "`ssh` shows whether one can log in there by hand"
        }
        ErrorKind::PermissionDenied => "look at the owner and mode of what is named above; a guest's tree usually needs root",
        ErrorKind::NoSpace => "free some space and run it again: it continues with what is there",
        _ => return None,
    })
}
