//! Receives a share file into a repository: chunks as they come, entries and refs last.

use super::Need;
use super::publish::{Arrival, Origin, ReceivedEntry, publish};
use super::read::{Preface, read_preface_from};
use super::section::{SectionKind, SectionReader};
use super::sign::{self, PublicKey};
use super::solid::SolidReader;
use crate::entry::{Entry, EntryId, EntryKind};
use crate::monitor::{Monitor, Task};
use crate::refs::RefKind;
use crate::repository::Repository;
use crate::repository::reach::{self, Reach};
use std::io::Read;
use vml_chunk::{ChunkStore, ChunkWriter, Error, ErrorKind, PackKind, Result, StoreWriter};

/// How to receive, and what the library cannot know.
#[derive(Clone, Copy)]
pub struct ReceiveOptions<'a> {
    /// Whether a key is trusted; by the name it is known by.
    pub trusted: &'a dyn Fn(&PublicKey) -> Option<String>,
    /// Take nothing that is not signed by a trusted key, also where the repository's policy does not demand that.
    pub require_signed: bool,
    /// The time now: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
}

/// A received file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its entries.
    pub entries: Vec<ReceivedEntry>,
    /// By which key it is signed.
    pub signer: Option<PublicKey>,
    /// The name by which that key is known here.
    pub known_as: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Chunks in it.
    pub chunks_count: u64,
    /// Those of them that the repository did not have.
    pub new_chunks_count: u64,
    /// Bytes that were stored for them.
    pub stored_bytes: u64,
}

/// Receives a share file from a stream.
///
/// Nothing of it is visible before all of it was checked and everything its entries name is stored. After an error what came is kept as chunks that no entry names, so
/// that receiving it again stores only the rest.
///
/// # Errors
/// `NotFound` naming a base or an entry that must be here first, `PermissionDenied` when `options` ask for a signature that it has not, `Corrupt`
/// for a file that was damaged or made badly, `Locked` when somebody else moved a ref meanwhile.
pub fn receive(repository: &Repository, reader: &mut dyn Read, options: &ReceiveOptions<'_>, monitor: &dyn Monitor) -> Result<Received> {
    let mut sections = SectionReader::new(reader)?;
    let (preface, mut section) = read_preface_from(&mut sections)?;
    let policy = ReceiveOptions { require_signed: options.require_signed || repository.policy()?.require_signed, ..*options };
    let options = &policy;
    let announced = preface.head.signer.map(PublicKey::from_bytes);
    check_policy(announced.as_ref(), options)?;
    let store = repository.store(monitor)?;
    check_needs(repository, store, &preface)?;
    let generation = store.generation()?;
    let writer = store.writer()?;
    let mut chunks_count = 0;
    let stored = store_frames(&writer, &mut sections, &mut section, &mut chunks_count, monitor);
    // What came before an error is kept: the next try finds it.
    let finished = writer.finish_relying();
    stored?;
    let (stats, mut reliance) = finished?;
    let signature = sections.end()?;
    let signer = match &signature {
        Some(armoured) => Some(sign::verify(&sign::statement(&sections.table_digest()), armoured)?),
        None => None,
    };
    if signer != announced {
        return Err(Error::corrupt("the share file is not signed by the key that it names"));
    }
    let known_as = check_policy(signer.as_ref(), options)?;
    check_whole(store, &preface).or_else(|error| {
        // Collections that began since do not know of the file: it is not the file that lacks something.
        let is_lack = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
        if is_lack && store.generation()? != generation { Err(taken_away().because(error)) } else { Err(error) }
    })?;
    let needed = relied_on(repository, &preface)?;
    let mut commit = |entry: &Entry| {
        let committed = repository.commit(store, &mut reliance, entry, &needed)?;
        committed.map(|_| ()).ok_or_else(taken_away)
    };
    let origin = Origin::File { author: &preface.head.author, signer: signer.as_ref(), known_as: known_as.as_deref() };
    let arrival = Arrival { entries: preface.entries, lineage: &preface.head.lineage, origin, time_ms: options.time_ms };
    let entries = publish(repository, arrival, &mut commit)?;
    Ok(Received {
        entries,
        signer,
        known_as,
        bytes: sections.offset(),
        chunks_count,
        new_chunks_count: stats.new_chunks,
        stored_bytes: stats.stored_bytes,
    })
}

fn taken_away() -> Error {
    Error::new(ErrorKind::Locked, "a collection took away what the share file relies on: receive it again")
}

fn check_policy(signer: Option<&PublicKey>, options: &ReceiveOptions<'_>) -> Result<Option<String>> {
    let known_as = signer.and_then(|key| (options.trusted)(key));
    let refused = match (signer, &known_as) {
        _ if !options.require_signed => return Ok(known_as),
        (_, Some(_)) => return Ok(known_as),
        (None, _) => "the share file is not signed".to_owned(),
        (Some(key), None) => format!("the share file is signed by {key}, which is no trusted key"),
    };
    Err(Error::new(ErrorKind::PermissionDenied, refused))
}

/// Everything that the file leaves out must be here.
fn check_needs(repository: &Repository, store: &ChunkStore, preface: &Preface) -> Result<()> {
    for need in &preface.head.needs {
        match repository.entry(&need.entry) {
            Ok(_) if repository.are_there(&[need.entry])? => continue,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // The same content may be here under another identity: somebody else's import of the same base.
        let record = preface.needed.iter().find(|(id, _)| *id == need.entry).map(|(_, entry)| entry);
        if let Some(entry) = record
            && count_missing(store, &mut Reach::new(store), entry, false)? == 0
        {
            continue;
        }
        return Err(needs(repository, need));
    }
    Ok(())
}

fn needs(repository: &Repository, need: &Need) -> Error {
    let (origin, id) = (need.origin(), need.entry.short());
    let message = match &need.kind {
        EntryKind::State { .. } => {
            format!(
                "the share file needs entry {id} of {origin}, which is not in this repository: receive that first, or ask for a file without --since"
            )
        }
        EntryKind::Base { .. } => match repository.refs().get(RefKind::Base, &origin) {
            Ok(Some(other)) => format!(
                "the share file needs the base {origin} as entry {id}, and the base {origin} of this repository, entry {}, has other content: receive that base first, or ask for a file with --full",
                other.short()
            ),
            _ => format!(
                "the share file needs the base {origin}, entry {id}, which is not in this repository: receive that base first, or ask for a file with --full"
            ),
        },
    };
    Error::not_found(message)
}

/// How many of an entry's chunks are not there, up to a limit.
fn count_missing(store: &ChunkStore, reach: &mut Reach<'_>, entry: &Entry, witness: bool) -> Result<u64> {
    let view = store.view();
    reach.missing(entry, witness, &mut |id, len| view.locate(id).any(|location| location.chunk_len == len))
}

/// Stores the chunks of all frames, up to the table.
fn store_frames(
    writer: &StoreWriter<'_>,
    sections: &mut SectionReader<'_>,
    section: &mut (SectionKind, Vec<u8>),
    chunks_count: &mut u64,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut data = writer.chunks(PackKind::Data)?;
    let mut meta = writer.chunks(PackKind::Meta)?;
    let mut solid = None;
    let mut run = || loop {
        let len = section.1.len() as u64;
        let payload = std::mem::take(&mut section.1);
        let count = match section.0 {
            SectionKind::Data => data.put_frame(payload)?.0,
            SectionKind::Meta => meta.put_frame(payload)?.0,
            SectionKind::Solid => put_solid(&mut solid, &payload, &mut data)?,
            SectionKind::Table => return Ok(()),
            _ => return Err(Error::corrupt("the sections of the share file are not in their order")),
        };
        *chunks_count += count;
        monitor.advance(Task::Share, count, len);
        *section = sections.next()?;
    };
    let result = run();
    let (data, meta) = (data.finish(), meta.finish());
    result.and(data).and(meta)
}

/// Puts the chunks of a part of the content's one stream; tells how many.
fn put_solid(reader: &mut Option<SolidReader>, payload: &[u8], data: &mut ChunkWriter<'_>) -> Result<u64> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(SolidReader::new()?),
    };
    let (lens, plain) = reader.section(payload)?;
    let mut rest = &plain[..];
    for len in &lens {
        let (chunk, tail) = rest.split_at(*len as usize);
        data.put(chunk)?;
        rest = tail;
    }
    Ok(lens.len() as u64)
}

/// Everything that the entries name must be there now.
fn check_whole(store: &ChunkStore, preface: &Preface) -> Result<()> {
    let mut reach = Reach::new(store);
    for (id, entry) in &preface.entries {
        let missing = count_missing(store, &mut reach, entry, true)
            .map_err(|error| error.context(format!("entry {} of the share file is damaged", id.short())))?;
        if missing > 0 {
            return Err(Error::corrupt(format!(
                "the share file lacks {} chunks of entry {}, and they are not in this repository",
                reach::told(missing),
                id.short()
            )));
        }
    }
    Ok(())
}

/// Entries whose chunks are relied on without being in the file: those that it needs, or here their equals by name.
fn relied_on(repository: &Repository, preface: &Preface) -> Result<Vec<EntryId>> {
    let mut found = Vec::new();
    for need in &preface.head.needs {
        match repository.entry(&need.entry) {
            Ok(_) => found.push(need.entry),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let kind = if matches!(need.kind, EntryKind::State { .. }) { RefKind::Area } else { RefKind::Base };
                found.extend(repository.refs().get(kind, &need.origin())?);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
