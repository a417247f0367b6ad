//! The calls of a [`Remote`] whose answers are one message.

use super::{Answer, OCTETS, Served, State, answer, blocking};
use crate::service::Service;
use crate::service::auth::Who;
use crate::service::body::{content_length, receive};
use crate::service::errors::Failure;
use crate::service::gate::Peer;
use crate::service::limits::{COMMIT_MAX, MESSAGE_MAX, Room, Work};
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use std::sync::Arc;
use vml_chunk::ChunkId;
use vml_core::remote::wire::{decode_message, encode_message};
use vml_core::remote::{Commit, NoteId, OpenRemote, Remote};
use vml_core::{EntryId, Error, Result};

/// Does something with the repository as a remote; entries that come are noted as coming from whoever asks.
pub fn with_remote<T>(service: &Service, who: &Who, run: impl FnOnce(&OpenRemote<'_>) -> Result<T>) -> Result<T> {
    let owner = service.options.owner;
    let origin = match &who.name {
        Some(name) => format!("{name}, by a push"),
        None if owner => "a push over ssh".to_owned(),
        None => "somebody without a token, by a push".to_owned(),
    };
    run(&OpenRemote::new(&service.repository, &origin, owner, crate::settings::now_ms()).durable())
}

/// Reads a body that is held in memory; room for it comes with it.
pub async fn held_body(
    service: &Service,
    peer: &Peer,
    request: Request,
    max: usize,
) -> Result<(crate::service::body::Received, Room), Failure> {
    let (parts, body) = request.into_parts();
    if let Some(given) = parts.headers.get(header::CONTENT_TYPE)
        && !given.to_str().is_ok_and(|given| given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(OCTETS)))
    {
        crate::service::body::discard(body).await;
        let message = format!("the body must be {OCTETS}");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_input", message));
    }
    let announced = content_length(&parts.headers);
    if announced.is_some_and(|len| len > max) {
        crate::service::body::discard(body).await;
        return Err(Failure::too_large(max));
    }
    // A body of unknown length may have any.
    let expected = if body.is_end_stream() { 0 } else { announced.unwrap_or(max) };
    let room = match service.limits.hold(expected).await {
        Ok(room) => room,
        Err(failure) => {
            crate::service::body::discard(body).await;
            return Err(failure);
        }
    };
    Ok((receive(body, max, peer.patience.usual()).await?, room))
}

/// What does not decode is the client's mistake.
pub fn not_understood(error: Error) -> Error {
    Error::invalid("the body of the request is not what it should be").because(error)
}

/// One call: a message comes, a message goes.
async fn call(
    service: Arc<Service>,
    request: Request,
    (work, max): (Work, usize),
    run: impl FnOnce(&OpenRemote<'_>, Vec<u8>) -> Result<Vec<u8>> + Send + 'static,
) -> Answer {
    let (who, peer) = asking(&request)?;
    let (received, held) = held_body(&service, &peer, request, max).await?;
    let room = service.limits.enter(work).await?;
    let bytes = blocking(room, move || {
        let bytes = received.into_vec();
        let answered = with_remote(&service, &who, |remote| run(remote, bytes));
        drop(held);
        answered
    });
    Ok(answer(OCTETS, bytes.await?))
}

const CALL: (Work, usize) = (Work::Call, MESSAGE_MAX);
const WALK: (Work, usize) = (Work::Walk, MESSAGE_MAX);
const COMMIT: (Work, usize) = (Work::Commit, COMMIT_MAX);
/// Nothing is said as nothing at all.
const EMPTY: (Work, usize) = (Work::Call, 0);

/// Who asks, and over which connection.
pub fn asking(request: &Request) -> Result<(Who, Peer), Failure> {
    let extensions = request.extensions();
    let both = extensions.get::<Who>().cloned().zip(extensions.get::<Peer>().cloned());
    both.ok_or_else(|| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "io", "the request came past the gate"))
}

pub async fn info(State(service): Served, request: Request) -> Answer {
    call(service, request, EMPTY, |remote, _| Ok(encode_message(&remote.info()?))).await
}

pub async fn refs(State(service): Served, request: Request) -> Answer {
    call(service, request, EMPTY, |remote, _| Ok(encode_message(&remote.refs()?))).await
}

pub async fn notes(State(service): Served, request: Request) -> Answer {
    call(service, request, EMPTY, |remote, _| Ok(encode_message(&remote.notes()?))).await
}

pub async fn history(State(service): Served, request: Request) -> Answer {
    call(service, request, WALK, |remote, bytes| Ok(encode_message(&remote.history(&entries(&bytes)?)?))).await
}

pub async fn entries_there(State(service): Served, request: Request) -> Answer {
    call(service, request, CALL, |remote, bytes| Ok(encode_message(&remote.entries_there(&entries(&bytes)?)?))).await
}

pub async fn records(State(service): Served, request: Request) -> Answer {
    call(service, request, CALL, |remote, bytes| Ok(encode_message(&remote.records(&entries(&bytes)?)?))).await
}

fn entries(bytes: &[u8]) -> Result<Vec<EntryId>> {
    decode_message("list of entries", bytes).map_err(not_understood)
}

pub async fn note_records(State(service): Served, request: Request) -> Answer {
    call(service, request, CALL, |remote, bytes| {
        let notes: Vec<NoteId> = decode_message("list of notes", &bytes).map_err(not_understood)?;
        Ok(encode_message(&remote.note_records(&notes)?))
    })
    .await
}

pub async fn has(State(service): Served, request: Request) -> Answer {
    call(service, request, CALL, |remote, bytes| {
        let chunks: Vec<ChunkId> = decode_message("list of chunks", &bytes).map_err(not_understood)?;
        drop(bytes);
        Ok(encode_message(&remote.has(&chunks)?))
    })
    .await
}

pub async fn commit(State(service): Served, request: Request) -> Answer {
    call(service, request, COMMIT, |remote, bytes| {
        let commit: Commit = decode_message("commit", &bytes).map_err(not_understood)?;
        drop(bytes);
        Ok(encode_message(&remote.commit(&commit)?))
    })
    .await
}

pub async fn forget(State(service): Served, request: Request) -> Answer {
    call(service, request, COMMIT, |remote, bytes| {
        let (ids, force): (Vec<EntryId>, bool) = decode_message("request to forget", &bytes).map_err(not_understood)?;
        remote.forget(&ids, force)?;
        Ok(Vec::new())
    })
    .await
}
