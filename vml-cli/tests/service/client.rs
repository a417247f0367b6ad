//! The calls of a remote over raw HTTP: as little client as the tests need.

use crate::server::Server;
use std::io::Cursor;
use vml_chunk::{ChunkId, PackKind};
use vml_core::entry::EntryId;
use vml_core::remote::wire::{BlockReader, NEEDS_MAX_LEN, decode_message, decode_parcel, encode_message, encode_parcel, kind_of};
use vml_core::remote::{Commit, Committed, FrameAt, HistoryItem, Needs, NoteId, Parcel, Remote, RemoteInfo, RemoteRef, Stowed};
use vml_core::{Error, IoResultExt as _, Result};

pub struct Client<'s> {
    pub server: &'s Server,
    pub token: String,
    /// What happens before each `store`.
    pub before_store: &'s (dyn Fn() -> Result<()> + Sync),
}

impl<'s> Client<'s> {
    pub fn new(server: &'s Server, token: String) -> Self {
        Self { server, token, before_store: &|| Ok(()) }
    }
}

impl Client<'_> {
    fn post(&self, call: &str, body: &[u8]) -> Result<Vec<u8>> {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str())];
        let headers = if self.token.is_empty() { &[][..] } else { &headers[..] };
        let answer = self.server.try_ask("POST", &format!("/v1/remote/{call}"), headers, body).at(|| "the connection is dead")?;
        if answer.status == 200 {
            assert!(answer.header("content-type") == Some("application/octet-stream"), "{call}: {:?}", answer.headers);
            return Ok(answer.body);
        }
        let told = answer.json();
        Err(Error::new(kind_of(told["error"]["kind"].as_str().unwrap()), told["error"]["message"].as_str().unwrap()))
    }
}

impl Remote for Client<'_> {
    fn info(&self) -> Result<RemoteInfo> {
        decode_message("answer", &self.post("info", &[])?)
    }

    fn refs(&self) -> Result<Vec<RemoteRef>> {
        decode_message("answer", &self.post("refs", &[])?)
    }

    fn history(&self, entries: &[EntryId]) -> Result<Vec<HistoryItem>> {
        decode_message("answer", &self.post("history", &encode_message(&entries.to_vec()))?)
    }

    fn entries_there(&self, entries: &[EntryId]) -> Result<Vec<bool>> {
        decode_message("answer", &self.post("entries-there", &encode_message(&entries.to_vec()))?)
    }

    fn records(&self, entries: &[EntryId]) -> Result<Vec<Vec<u8>>> {
        decode_message("answer", &self.post("records", &encode_message(&entries.to_vec()))?)
    }

    fn notes(&self) -> Result<Vec<NoteId>> {
        decode_message("answer", &self.post("notes", &[])?)
    }

    fn note_records(&self, notes: &[NoteId]) -> Result<Vec<Vec<u8>>> {
        decode_message("answer", &self.post("note-records", &encode_message(&notes.to_vec()))?)
    }

    fn needs(&self, entries: &[EntryId], known: &[EntryId], each: &mut dyn FnMut(Needs) -> Result<()>) -> Result<()> {
        let answer = self.post("needs", &encode_message(&(entries.to_vec(), known.to_vec())))?;
        let mut blocks = BlockReader::new(Cursor::new(answer), NEEDS_MAX_LEN);
        while let Some(block) = blocks.next_block()? {
            each(decode_message("needs", &block)?)?;
        }
        Ok(())
    }

    fn has(&self, chunks: &[ChunkId]) -> Result<Vec<bool>> {
        decode_message("answer", &self.post("has", &encode_message(&chunks.to_vec()))?)
    }

    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel> {
        decode_parcel(&self.post("fetch", &encode_message(&frames.to_vec()))?[..])
    }

    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<Parcel> {
        decode_parcel(&self.post("compose", &encode_message(&(kind, chunks.to_vec())))?[..])
    }

    fn store(&self, parcel: Parcel) -> Result<Stowed> {
        (self.before_store)()?;
        decode_message("answer", &self.post("store", &encode_parcel(&parcel))?)
    }

    fn commit(&self, commit: &Commit) -> Result<Committed> {
        decode_message("answer", &self.post("commit", &encode_message(commit))?)
    }

    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()> {
        assert!(self.post("forget", &encode_message(&(entries.to_vec(), force)))?.is_empty());
        Ok(())
    }
}
