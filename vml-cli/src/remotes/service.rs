//! A repository behind a service, as one end of a transfer. Every call is one request, which is repeated when the line was cut or the service is busy.

use crate::net::Limit;
use serde_json::Value;
use std::io::{self, Read};
use std::time::Duration;
use vml_core::entry::EntryId;
use vml_core::remote::wire::{
    BlockReader, CALLS, Message, NEEDS_MAX_LEN, decode_message, decode_parcel, encode_message, encode_parcel, kind_of,
};
use vml_core::remote::{Commit, Committed, FrameAt, HistoryItem, Needs, NoteId, Parcel, Remote, RemoteInfo, RemoteRef, Stowed};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// Longest answer that is one message.
const MESSAGE_MAX_LEN: u64 = 64 << 20;
/// Longest answer that is an error.
const ERROR_MAX_LEN: u64 = 64 << 10;
/// Pauses before a request is sent again: somewhat more than a minute in all.
const PAUSES_MS: [u64; 7] = [100, 400, 1500, 5000, 10_000, 20_000, 30_000];

/// What carries requests to a service.
pub trait Line: Send + Sync {
    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// `Io` when there is no answer, and whatever would not be mended by asking again under another kind.
    fn post(&self, path: &str, body: &[u8]) -> Result<Answer<'_>>;

    /// Where it leads, for people.
    fn name(&self) -> &str;
}

/// An answer.
pub struct Answer<'a> {
    pub status: u16,
    /// Seconds until the service wants to be asked again.
    pub retry_after: Option<u64>,
    pub body: Box<dyn Read + 'a>,
}

/// A repository behind a service.
pub struct ServiceRemote {
    line: Box<dyn Line>,
    limit: Limit,
}

impl ServiceRemote {
    /// At the other end of `line`; `limit` bounds the bytes of a second.
    pub fn new(line: Box<dyn Line>, limit: Limit) -> Self {
        Self { line, limit }
    }

    /// Asks until there is an answer that `read` can use.
    fn call<T>(&self, call: &str, body: &[u8], read: &mut dyn FnMut(&mut dyn Read) -> Result<T>) -> Result<T> {
        let mut pauses = PAUSES_MS.into_iter();
        loop {
            let (error, wait) = match self.try_call(call, body, read) {
                Ok(value) => return Ok(value),
                Err(Trouble::Final(error)) => return Err(self.named(error)),
                Err(Trouble::Passing(error, wait)) => (error, wait),
            };
            let Some(pause) = pauses.next() else { return Err(self.named(error)) };
            let wanted = wait.map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.min(60)));
            std::thread::sleep(wanted.max(Duration::from_millis(pause)));
        }
    }

    fn named(&self, error: Error) -> Error {
        error.context(format!("the repository {} cannot be used", self.line.name()))
    }

    fn try_call<T>(&self, call: &str, body: &[u8], read: &mut dyn FnMut(&mut dyn Read) -> Result<T>) -> Result<T, Trouble> {
        let path = format!("/{CALLS}/{call}");
        self.limit.wait_for(body.len() as u64);
        let answer = self.line.post(&path, body).map_err(Trouble::of)?;
        let mut body = Limited { body: answer.body, limit: &self.limit };
        if answer.status == 200 {
            return read(&mut body).map_err(Trouble::of);
        }
        let error = told(answer.status, &mut body);
        match answer.status {
            // Busy, asked too often, or somebody in between who reaches nobody.
            429 | 502 | 503 | 504 => Err(Trouble::Passing(error, answer.retry_after)),
            _ => Err(Trouble::Final(error)),
        }
    }

    fn message<T: Message>(&self, call: &str, body: &[u8]) -> Result<T> {
        self.call(call, body, &mut read_message)
    }
}

fn read_message<T: Message>(answer: &mut dyn Read) -> Result<T> {
    let mut bytes = Vec::new();
    let read = answer.take(MESSAGE_MAX_LEN + 1).read_to_end(&mut bytes).at(|| "cannot read the answer")?;
    if read as u64 > MESSAGE_MAX_LEN {
        return Err(Error::corrupt("the answer is longer than any can be"));
    }
    decode_message("answer", &bytes)
}

/// Why a request has no usable answer.
enum Trouble {
    /// It may be mended by asking again.
    Passing(Error, Option<u64>),
    Final(Error),
}

impl Trouble {
    fn of(error: Error) -> Self {
        if is_of_the_line(&error) { Self::Passing(error, None) } else { Self::Final(error) }
    }
}

/// Whether the line, and not what came over it, is to blame.
fn is_of_the_line(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    error.kind() == ErrorKind::Io || error.to_string().contains("the connection was cut")
}

/// What a service says of an error.
fn told(status: u16, body: &mut dyn Read) -> Error {
    let mut text = Vec::new();
    let read = body.take(ERROR_MAX_LEN).read_to_end(&mut text);
    let value: Option<Value> = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    let field = |name: &str| value.as_ref()?.get("error")?.get(name)?.as_str().map(str::to_owned);
    match (field("kind"), field("message")) {
        (Some(kind), Some(message)) => {
            let message: String = message.chars().filter(|letter| !letter.is_control()).take(2000).collect();
            Error::new(kind_of(&kind), message)
        }
        // Not a service of ours, or somebody in between.
        _ => {
            let kind = match status {
                401 | 403 => ErrorKind::PermissionDenied,
                404 => ErrorKind::NotFound,
                413 => ErrorKind::InvalidInput,
                _ => ErrorKind::Io,
            };
            let hint = if status == 404 { ": is there a `vml serve` at this address?" } else { "" };
            Error::new(kind, format!("it answers with status {status}{hint}"))
        }
    }
}

/// A body that is read no faster than the limit.
struct Limited<'a, 'l> {
    body: Box<dyn Read + 'a>,
    limit: &'l Limit,
}

impl Read for Limited<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.limit.wait_for(count as u64);
        Ok(count)
    }
}

impl Remote for ServiceRemote {
    fn info(&self) -> Result<RemoteInfo> {
        self.message("info", &[])
    }

    fn refs(&self) -> Result<Vec<RemoteRef>> {
        self.message("refs", &[])
    }

    fn history(&self, entries: &[EntryId]) -> Result<Vec<HistoryItem>> {
        self.message("history", &encode_message(&entries))
    }

    fn entries_there(&self, entries: &[EntryId]) -> Result<Vec<bool>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.message("entries-there", &encode_message(&entries))
    }

    fn records(&self, entries: &[EntryId]) -> Result<Vec<Vec<u8>>> {
        self.message("records", &encode_message(&entries))
    }

    fn notes(&self) -> Result<Vec<NoteId>> {
        self.message("notes", &[])
    }

    fn note_records(&self, notes: &[NoteId]) -> Result<Vec<Vec<u8>>> {
        self.message("note-records", &encode_message(&notes))
    }

    fn needs(&self, entries: &[EntryId], known: &[EntryId], each: &mut dyn FnMut(Needs) -> Result<()>) -> Result<()> {
        // What was told before the line was cut is not told again: its chunks are on their way.
        let mut told = 0;
        self.call("needs", &encode_message(&(entries, known)), &mut |answer| {
            let mut blocks = BlockReader::new(answer, NEEDS_MAX_LEN);
            let mut at = 0;
            while let Some(block) = blocks.next_block()? {
                at += 1;
                if at > told {
                    each(decode_message("list of chunks", &block)?)?;
                    told = at;
                }
            }
            Ok(())
        })
    }

    fn has(&self, chunks: &[vml_core::ChunkId]) -> Result<Vec<bool>> {
        self.message("has", &encode_message(&chunks))
    }

    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel> {
        self.call("fetch", &encode_message(&frames), &mut |answer| decode_parcel(answer))
    }

    fn compose(&self, kind: vml_core::PackKind, chunks: &[vml_core::ChunkId]) -> Result<Parcel> {
        self.call("compose", &encode_message(&(kind, chunks)), &mut |answer| decode_parcel(answer))
    }

    fn store(&self, mut parcel: Parcel) -> Result<Stowed> {
        let body = encode_parcel(&parcel);
        if parcel.len() > 1 {
            return match self.try_call("store", &body, &mut read_message) {
                Ok(stowed) => Ok(stowed),
                Err(Trouble::Final(error)) => Err(self.named(error)),
                // Over a line that is cut again and again less has a better chance.
                Err(Trouble::Passing(..)) => {
                    let rest = parcel.split_off(parcel.len() / 2);
                    let (one, other) = (self.store(parcel)?, self.store(rest)?);
                    Ok(Stowed {
                        chunks_count: one.chunks_count + other.chunks_count,
                        new_chunks_count: one.new_chunks_count + other.new_chunks_count,
                    })
                }
            };
        }
        self.message("store", &body)
    }

    fn commit(&self, commit: &Commit) -> Result<Committed> {
        self.message("commit", &encode_message(commit))
    }

    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()> {
        self.call("forget", &encode_message(&(entries, force)), &mut |_| Ok(()))
    }
}
