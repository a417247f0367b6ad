//! The JSON forms of things that several commands print; they are documented in `docs/cli.md` and only ever grow.

use super::human;
use crate::progress::Progress;
use serde_json::{Value, json};
use vml_core::Problem;
use vml_core::entry::{DiskPart, Entry, EntryId, EntryKind, Fact, Note, Part};
use vml_core::machine::GuestAddress;
use vml_core::repository::Collected;
use vml_core::tree::{ChangeKind, LeftOut, LeftOutReason, Node, NodeKind};

/// A path as text; when it is no UTF-8, also its bytes.
pub fn path(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "text": String::from_utf8_lossy(bytes), "bytes": bytes }),
    }
}

/// A path of this host, in the same form.
pub fn host_path(path: &std::path::Path) -> Value {
    use std::os::unix::ffi::OsStrExt;
    self::path(path.as_os_str().as_bytes())
}

/// Where a repository is.
pub fn place(place: &crate::places::Place) -> Value {
    match place {
        crate::places::Place::Directory(path) => host_path(path),
        #[cfg(feature = "object")]
        elsewhere => json!(elsewhere.to_string()),
    }
}

/// A saved disk.
pub fn disk(disk: &DiskPart) -> Value {
    let volumes: Vec<Value> = disk
        .volumes
        .iter()
        .map(|volume| {
            json!({
                "number": volume.number,
                "offset": volume.offset,
                "bytes": volume.len,
                "file_system": volume.file_system,
                "label": volume.label,
            })
        })
        .collect();
    json!({
        "kind": "disk",
        "name": disk.name,
        "format": disk.format,
        "bytes": disk.recipe.len,
        "data_bytes": disk.stats.data_bytes,
        "read_bytes": disk.stats.read_bytes,
        "known_bytes": disk.stats.known_bytes,
        "volumes": volumes,
    })
}

/// An entry, without its notes.
pub fn entry(id: &EntryId, entry: &Entry) -> Value {
    let (kind, area, base_name) = match &entry.kind {
        EntryKind::State { area } => ("state", Some(area.clone()), None),
        EntryKind::Base { name, version } => ("base", None, Some(format!("{name}@{version}"))),
    };
    let parts: Vec<Value> = entry
        .parts
        .iter()
        .map(|part| match part {
            Part::Tree(tree) => json!({
                "kind": "tree",
                "files": tree.stats.files_count,
                "directories": tree.stats.directories_count,
                "others": tree.stats.others_count,
                "bytes": tree.stats.bytes,
                "exclude": tree.exclude,
                "left_out": tree.left_out.iter().map(left_out).collect::<Vec<_>>(),
                "left_out_more": tree.left_out_more_count,
            }),
            Part::Disk(disk) => self::disk(disk),
            Part::Machine(machine) => json!({ "kind": "machine", "name": machine.name, "bytes": machine.bytes.len() }),
            Part::Memory(memory) => json!({
                "kind": "memory",
                "format": memory.format,
                "bytes": memory.recipe.len,
                "data_bytes": memory.stats.data_bytes,
                "facts": facts(&memory.facts),
            }),
        })
        .collect();
    json!({
        "entry": id.to_string(),
        "kind": kind,
        "area": area,
        "name": base_name,
        "time": human::time_utc(entry.time_ms),
        "time_ms": entry.time_ms,
        "author": entry.author,
        "message": entry.message,
        "tags_at_birth": entry.tags,
        "parents": entry.parents.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "base": entry.base.as_ref().map(|base| json!({ "name": base.name, "version": base.version, "entry": base.entry.to_string() })),
        "parts": parts,
        "cost": {
            "new_chunks": entry.cost.new_chunks_count,
            "new_bytes": entry.cost.new_bytes,
            "stored_bytes": entry.cost.stored_bytes,
            "elapsed_ms": entry.cost.elapsed_ms,
        },
        "facts": facts(&entry.facts),
    })
}

fn facts(facts: &[Fact]) -> Value {
    facts.iter().map(|fact| (fact.name.clone(), json!(fact.value))).collect::<serde_json::Map<_, _>>().into()
}

/// Where a guest is reached; `null` when that is not known.
pub fn address(address: Option<&GuestAddress>) -> Value {
    address.map(|address| json!({ "host": address.host, "ssh_port": address.ssh_port })).into()
}

/// A note.
pub fn note(note: &Note) -> Value {
    json!({ "time": human::time_utc(note.time_ms), "time_ms": note.time_ms, "author": note.author, "text": note.text })
}

/// Something that is not in an entry.
pub fn left_out(row: &LeftOut) -> Value {
    let reason = match row.reason {
        LeftOutReason::Excluded => "excluded",
        LeftOutReason::OtherFileSystem => "other_file_system",
        LeftOutReason::Socket => "socket",
        LeftOutReason::Unreadable => "unreadable",
    };
    json!({ "path": path(&row.path), "members": row.members_count, "reason": reason })
}

/// Problems of a run.
pub fn problems(problems: &[Problem]) -> Value {
    problems.iter().map(|problem| json!({ "subject": problem.subject, "message": problem.message })).collect()
}

/// What every command that collects tells, beside what is its `own`.
pub fn collection(mut own: Value, collected: &Collected, progress: &Progress) -> Value {
    let (plan, swept) = (&collected.plan, &collected.swept);
    let shared = json!({
        "entries": collected.entries_count,
        "missing_chunks": collected.missing_chunks_count,
        "kept_packs": plan.kept_packs_count,
        "kept_bytes": plan.kept_bytes,
        "held_packs": plan.held_packs_count,
        "unfinished_packs": collected.unfinished_packs_count,
        "unfinished_bytes": collected.unfinished_bytes,
        "deleted_packs": swept.deleted_packs_count,
        "deleted_bytes": swept.deleted_bytes,
        "copied_chunks": swept.copied_chunks_count,
        "written_bytes": swept.written_bytes,
        "problems": problems(&progress.problems()),
        "notices": progress.notices(),
    });
    if let (Value::Object(own), Value::Object(shared)) = (&mut own, shared) {
        own.extend(shared);
    }
    own
}

/// The name of a node's kind.
pub fn kind(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::File(_) => "file",
        NodeKind::Directory(_) => "directory",
        NodeKind::Symlink(_) => "symlink",
        NodeKind::CharDevice { .. } => "char_device",
        NodeKind::BlockDevice { .. } => "block_device",
        NodeKind::Fifo => "fifo",
    }
}

/// A member of a directory.
pub fn node(at: &[u8], node: &Node) -> Value {
    json!({
        "path": path(at),
        "kind": kind(node),
        "mode": format!("{:04o}", node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "mtime": { "seconds": node.mtime.seconds, "nanoseconds": node.mtime.nanoseconds },
        "bytes": node.len(),
        "target": match &node.kind { NodeKind::Symlink(target) => path(target), _ => Value::Null },
        "link": node.link.as_ref().map(|link| path(link)),
        "xattrs": node.xattrs.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect::<Vec<_>>(),
    })
}

/// What differs in a modified member.
pub fn aspects(change: &ChangeKind) -> Vec<&'static str> {
    match *change {
        ChangeKind::Added | ChangeKind::Removed => Vec::new(),
        ChangeKind::Modified { kind, content, mode, owner, time, xattrs, links } => {
            let all = [
                (kind, "kind"),
                (content, "content"),
                (mode, "mode"),
                (owner, "owner"),
                (time, "time"),
                (xattrs, "xattrs"),
                (links, "links"),
            ];
            all.iter().filter(|(differs, _)| *differs).map(|(_, name)| *name).collect()
        }
    }
}
