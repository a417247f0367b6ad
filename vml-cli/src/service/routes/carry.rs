//! The calls of a [`Remote`] that carry much: needs and frames go out as they are made, frames that come are held.

use super::remote::{asking, held_body, not_understood, with_remote};
use super::{Answer, OCTETS, Served, State, answer, blocking, with_type};
use crate::service::Service;
use crate::service::body::{Held, Pulled, Source, streamed};
use crate::service::errors::Failure;
use crate::service::limits::{MESSAGE_MAX, READ_LEN, Work, shrink};
use axum::body::Bytes;
use axum::extract::Request;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use vml_chunk::{ChunkId, PackKind};
use vml_core::remote::wire::{END, block_head, decode_message, decode_parcel, encode_message, frame_head};
use vml_core::remote::{CHUNKS_MAX, FrameAt, PARCEL_MAX, PARCEL_TARGET, Remote};
use vml_core::{EntryId, Error, ErrorKind, IoResultExt as _, NoMonitor, Result};

/// Whoever asks what is needed takes it as fast as he gets what he needs over another connection.
const NEEDS_PATIENCE: Duration = Duration::from_secs(15 * 60);

pub async fn needs(State(service): Served, request: Request) -> Answer {
    let (who, peer) = asking(&request)?;
    let (received, held) = held_body(&service, &peer, request, MESSAGE_MAX).await?;
    let room = service.limits.enter(Work::Walk).await?;
    peer.patience.set(NEEDS_PATIENCE.max(peer.patience.usual()));
    let body = streamed(room, move |outlet| {
        let (entries, known): (Vec<EntryId>, Vec<EntryId>) =
            decode_message("lists of entries", &received.into_vec()).map_err(not_understood)?;
        drop(held);
        let mut send = |bytes: &[u8]| outlet.write_all(bytes).at(|| "the client has gone");
        with_remote(&service, &who, |remote| {
            remote.needs(&entries, &known, &mut |needs| {
                let block = encode_message(&needs);
                send(&block_head(block.len()))?;
                send(&block)
            })
        })?;
        send(&END)
    });
    Ok(with_type(OCTETS, body.await?))
}

/// Frames on their way out, read from their packs as they are taken.
struct Frames {
    service: Arc<Service>,
    frames: std::vec::IntoIter<FrameAt>,
    /// The frame that is being sent, and how much of it was.
    current: Option<(FrameAt, u32)>,
    ended: bool,
}

impl Source for Frames {
    fn next_piece(&mut self) -> Result<Option<Bytes>> {
        let mut piece = Vec::with_capacity(READ_LEN);
        while piece.len() < READ_LEN - END.len() - 1 {
            match &mut self.current {
                Some((frame, done)) => {
                    let room = u32::try_from(READ_LEN - piece.len()).unwrap_or(0);
                    let len = room.min(frame.stored_len - *done);
                    let store = self.service.repository.store(&NoMonitor)?;
                    let mut part = Vec::new();
                    store.read_frame(frame.kind, &frame.pack, frame.offset + *done, len, &mut part)?;
                    piece.extend_from_slice(&part);
                    *done += len;
                    if *done == frame.stored_len {
                        self.current = None;
                    }
                }
                None => match self.frames.next() {
                    Some(frame) => {
                        piece.extend_from_slice(&frame_head(frame.kind, frame.stored_len as usize));
                        self.current = Some((frame, 0));
                    }
                    None if self.ended => break,
                    None => {
                        piece.extend_from_slice(&END);
                        self.ended = true;
                    }
                },
            }
        }
        Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
    }
}

/// What is asked for must be there, as far as that can be told before it is read; returns the length of the answer.
fn check_frames(service: &Service, frames: &[FrameAt]) -> Result<u64> {
    if frames.len() > CHUNKS_MAX {
        return Err(Error::invalid(format!("{} frames were named at once, {CHUNKS_MAX} are the limit", frames.len())));
    }
    let stored: u64 = frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
    if stored > PARCEL_MAX as u64 {
        return Err(Error::invalid(format!("{stored} bytes of frames were asked for at once, {PARCEL_MAX} are the limit")));
    }
    let backend = service.repository.backend();
    let mut packs = std::collections::HashMap::new();
    for frame in frames {
        let len = match packs.get(&(frame.kind.number(), frame.pack)) {
            Some(len) => *len,
            None => {
                let len = backend.len(&frame.kind.key(&frame.pack))?;
                packs.insert((frame.kind.number(), frame.pack), len);
                len
            }
        };
        if frame.stored_len == 0 || u64::from(frame.offset) + u64::from(frame.stored_len) > len.min(u64::from(u32::MAX)) {
            return Err(Error::invalid(format!("there is no frame of {} bytes at {} of its pack", frame.stored_len, frame.offset)));
        }
    }
    Ok(stored + frames.len() as u64 * 5 + END.len() as u64)
}

pub async fn fetch(State(service): Served, request: Request) -> Answer {
    let (_, peer) = asking(&request)?;
    let (received, held) = held_body(&service, &peer, request, MESSAGE_MAX).await?;
    let room = service.limits.enter(Work::Call).await?;
    let checking = Arc::clone(&service);
    let (frames, len) = blocking(room, move || {
        let frames: Vec<FrameAt> = decode_message("list of frames", &received.into_vec()).map_err(not_understood)?;
        drop(held);
        let len = check_frames(&checking, &frames)?;
        Ok((frames, len))
    })
    .await?;
    let room = service.limits.enter(Work::Send).await?;
    let frames = Frames { service, frames: frames.into_iter(), current: None, ended: false };
    Ok(with_type(OCTETS, Pulled::body(frames, Some(len), room)))
}

pub async fn compose(State(service): Served, request: Request) -> Answer {
    let (who, peer) = asking(&request)?;
    let (received, held) = held_body(&service, &peer, request, MESSAGE_MAX).await?;
    let looking = Arc::clone(&service);
    let room = service.limits.enter(Work::Call).await?;
    let (kind, chunks, len) = blocking(room, move || {
        let (kind, chunks): (PackKind, Vec<ChunkId>) = decode_message("list of chunks", &received.into_vec()).map_err(not_understood)?;
        drop(held);
        let view = looking.repository.store(&NoMonitor)?.view();
        let len = chunks.iter().map(|id| view.locate(id).next().map_or(0, |location| location.chunk_len as usize)).sum::<usize>();
        Ok((kind, chunks, len))
    })
    .await?;
    if len > PARCEL_MAX - PARCEL_TARGET {
        return Err(Failure::bad_request("more chunks were asked for at once than an answer may have"));
    }
    let mut answered = service.limits.hold(len).await?;
    let room = service.limits.enter(Work::Call).await?;
    let parcel = blocking(room, move || with_remote(&service, &who, |remote| remote.compose(kind, &chunks))).await?;
    let mut pieces = Vec::with_capacity(2 * parcel.len() + 1);
    for (kind, frame) in parcel {
        pieces.push(Bytes::copy_from_slice(&frame_head(kind, frame.len())));
        pieces.push(Bytes::from(frame));
    }
    pieces.push(Bytes::from_static(&END));
    shrink(&mut answered, pieces.iter().map(Bytes::len).sum());
    Ok(with_type(OCTETS, Held::body(pieces, Some(answered))))
}

pub async fn store(State(service): Served, request: Request) -> Answer {
    let (who, peer) = asking(&request)?;
    // Each frame has a length before it.
    let (received, held) = held_body(&service, &peer, request, PARCEL_MAX + (1 << 20)).await?;
    let room = service.limits.enter(Work::Store).await?;
    let stowed = blocking(room, move || {
        let parcel = decode_parcel(received)?;
        let stowed = with_remote(&service, &who, |remote| remote.store(parcel));
        drop(held);
        stowed.map_err(|error| match error.kind() {
            ErrorKind::Corrupt => error.context("a frame that came is damaged"),
            _ => error,
        })
    });
    Ok(answer(OCTETS, encode_message(&stowed.await?)))
}
