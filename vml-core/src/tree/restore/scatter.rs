//! Writes a file in pieces: each of its chunks when the frame that has it is at hand.
//!
//! Long files share chunks with others, and with themselves of earlier saves. Written from front to end they would ask for frame after frame of
//! many packs, and the next such file for the same ones again.

use super::member::{Outcome, Run, Trouble, count, create, tame, tell};
use super::{MemberJob, OutDirectory, Session};
use crate::recipe::Piece;
use crate::tree::at;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vml_chunk::Result;

/// A file that is being written in pieces.
pub(super) struct Scattered {
    job: Box<MemberJob>,
    file: File,
    /// Pieces that are not written, and one for the walk.
    pending: AtomicUsize,
    /// A problem was told of: it will not be there.
    failed: AtomicBool,
}

/// What became of a file that was to be written in pieces.
pub(super) enum Scattering {
    Begun(Scattered),
    /// Something is in its way.
    Whole(Box<MemberJob>),
    /// It cannot be made, as was told, or must not be.
    Refused(Arc<OutDirectory>),
}

/// A part of such a file.
pub(super) struct PieceJob {
    file: Arc<Scattered>,
    offset: u64,
    piece: Piece,
}

impl PieceJob {
    pub(super) fn len(&self) -> u64 {
        self.piece.len()
    }
}

impl Scattered {
    /// Makes the file, without its bytes, in a directory that was empty.
    pub(super) fn create(session: &Session<'_>, mut job: Box<MemberJob>) -> Result<Scattering> {
        if !session.options.special {
            match tame(session, &job) {
                Some(node) => job.node = node,
                None => return Ok(Scattering::Refused(job.directory)),
            }
        }
        let made = create(&job.directory, &job.node.name).map_err(Trouble::Os).map(File::from);
        // Its holes are there by that.
        match made.and_then(|file| file.set_len(job.node.len()).map(|()| file).map_err(Trouble::Io)) {
            Ok(file) => {
                session.open_count.fetch_add(1, Ordering::Relaxed);
                Ok(Scattering::Begun(Self { job, file, pending: AtomicUsize::new(1), failed: AtomicBool::new(false) }))
            }
            Err(Trouble::Os(Errno::EXIST)) => Ok(Scattering::Whole(job)),
            Err(trouble) => {
                tell(session, &job.node, &at::join(&job.directory.path, &job.node.name), trouble)?;
                Ok(Scattering::Refused(job.directory))
            }
        }
    }

    /// One more piece of it, which begins at `offset`.
    pub(super) fn piece(self: &Arc<Self>, offset: u64, piece: Piece) -> PieceJob {
        self.pending.fetch_add(1, Ordering::Relaxed);
        PieceJob { file: Arc::clone(self), offset, piece }
    }

    /// It cannot be finished.
    pub(super) fn fail(&self, session: &Session<'_>, trouble: Trouble) -> Result<()> {
        // Many of its chunks may be missing; it is one file.
        if self.failed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        // Half a file must not be taken for the file.
        let MemberJob { directory, node } = &*self.job;
        _ = rustix::fs::unlinkat(&directory.fd, node.name.as_slice(), AtFlags::empty());
        tell(session, node, &at::join(&directory.path, &node.name), trouble)
    }

    /// So many pieces are finished; after the last the file gets its attributes.
    pub(super) fn release(&self, session: &Session<'_>, pieces_count: usize) -> Result<()> {
        // Whoever is last must see what the others did.
        if self.pending.fetch_sub(pieces_count, Ordering::AcqRel) > pieces_count {
            return Ok(());
        }
        let MemberJob { directory, node } = &*self.job;
        if !self.failed.load(Ordering::Relaxed) {
            session.set_attributes(self.file.as_fd(), node, &at::join(&directory.path, &node.name), !directory.inherits);
            count(session, node, &Outcome::Written);
        }
        session.open_count.fetch_sub(1, Ordering::Relaxed);
        directory.release(session)
    }
}

/// Writes pieces, those of one file together.
pub(super) fn write_pieces(session: &Session<'_>, pieces: &[PieceJob]) -> Result<()> {
    for pieces in pieces.chunk_by(|a, b| Arc::ptr_eq(&a.file, &b.file)) {
        if session.stopped() {
            break;
        }
        let file = &pieces[0].file;
        if !file.failed.load(Ordering::Relaxed)
            && let Err(trouble) = write_run(session, &file.file, pieces)
        {
            file.fail(session, trouble)?;
        }
        file.release(session, pieces.len())?;
    }
    Ok(())
}

fn write_run(session: &Session<'_>, file: &File, pieces: &[PieceJob]) -> std::result::Result<(), Trouble> {
    let mut run = Run::new(file);
    for PieceJob { offset, piece, .. } in pieces {
        run.write(session, *offset, piece)?;
    }
    run.flush().map_err(Trouble::Io)
}
