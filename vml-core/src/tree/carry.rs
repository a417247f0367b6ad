//! Carries a tree into another store, which cuts and names chunks in its own way.
//!
//! ```text
//! listing of the source ──► directory, side by side with what is known: (a tree there, the same tree here) …
//!    ├─ content as in a known tree, or as carried lately ──────────────► taken over unread
//!    ├─ file ──────► worker: read, cut, put ───────┐
//!    └─ directory ─► walked next                   ▼
//!                                     listing, written anew when its last member is there
//! ```
//! Everything about a member stays but what names its content. Memory is bounded as that of a capture.

use super::assemble::Directory;
use super::at;
use super::listing::ListingReader;
use super::memo::{Memo, MemoKey};
use super::node::{Content, Node, NodeKind};
use crate::monitor::{Monitor, Task};
use crate::recipe::{GetChunk, Piece, Recipe, RecipeReader, read_stream, recut};
use std::iter::Peekable;
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{ChunkRef, ChunkStore, ChunkWriter, Chunker, Error, ErrorKind, JobSink, PackKind, Result, StoreWriter, run_pool};

/// Files in one batch for a worker.
const BATCH_FILES: usize = 64;
/// And their bytes.
const BATCH_LEN: u64 = 1 << 20;

/// A tree that both stores have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownTree<'a> {
    /// Its root at the source.
    pub(crate) there: &'a Node,
    /// Its root at the target.
    pub(crate) here: &'a Node,
}

/// How a tree is carried.
pub(crate) struct CarryOptions<'a> {
    /// Where its chunks are.
    pub(crate) source: &'a dyn GetChunk,
    /// How the target cuts.
    pub(crate) chunker: &'a dyn Chunker,
    /// Files of at most this many bytes stand in their node at the target.
    pub(crate) inline_max: usize,
    /// Threads that read, cut and compress.
    pub(crate) threads: usize,
    /// Trees that both have; only what differs from them is read.
    pub(crate) known: &'a [KnownTree<'a>],
    /// What was carried before.
    pub(crate) memo: &'a Arc<Memo>,
}

/// Carries the tree below `root` into the session `writer`; returns the root as it is there.
///
/// # Errors
/// As [`ChunkStore::get`] and `Corrupt` of the source; what the session says.
///
/// # Cost
/// That of the files that no known tree and no earlier call had; of the rest, the listings of directories in which something differs.
pub(crate) fn carry_tree(writer: &StoreWriter<'_>, root: &Node, options: &CarryOptions<'_>, monitor: &dyn Monitor) -> Result<Node> {
    let carrier =
        Carrier { options, store: writer.store(), monitor, meta: Mutex::new(writer.chunks(PackKind::Meta)?), done: Mutex::default() };
    run_pool(
        writer,
        PackKind::Data,
        options.threads,
        |chunks, batch: Vec<Job>| batch.into_iter().try_for_each(|job| carrier.work(chunks, job)),
        |sink| Walk { carrier: &carrier, sink, batch: Vec::new(), batch_len: 0 }.run(root),
    )?;
    let Carrier { meta, done, .. } = carrier;
    meta.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
    let root = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    root.ok_or_else(|| Error::new(ErrorKind::Interrupted, "the walk ended before the tree was complete"))
}

/// A file to be carried.
struct Job {
    directory: Arc<Directory>,
    slot: usize,
    node: Node,
}

/// What all threads share.
struct Carrier<'a> {
    options: &'a CarryOptions<'a>,
    store: &'a ChunkStore,
    monitor: &'a dyn Monitor,
    meta: Mutex<ChunkWriter<'a>>,
    done: Mutex<Option<Node>>,
}

impl Carrier<'_> {
    fn put_meta(&self, bytes: &[u8]) -> Result<ChunkRef> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner).put(bytes)
    }

    fn deliver(&self, directory: &Arc<Directory>, slot: usize, member: Node) -> Result<()> {
        let done = directory.deliver(slot, Some(member), &mut |bytes| self.put_meta(bytes))?;
        self.complete(done);
        Ok(())
    }

    /// Notes the root, when it is complete.
    fn complete(&self, root: Option<Node>) {
        if root.is_some() {
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) = root;
        }
    }

    /// What a member becomes, if that can be told without reading it.
    fn told(&self, kind: &NodeKind, known: &[(NodeKind, NodeKind)]) -> Option<NodeKind> {
        match kind {
            NodeKind::File(Content::Inline(bytes)) if bytes.len() <= self.options.inline_max => Some(kind.clone()),
            NodeKind::File(_) | NodeKind::Directory(_) => {
                let same = known.iter().find(|(there, here)| there == kind && fits(kind, here)).map(|(_, here)| here.clone());
                same.or_else(|| self.options.memo.get(MemoKey::of(kind)?))
            }
            _ => Some(kind.clone()),
        }
    }

    fn work(&self, chunks: &mut ChunkWriter<'_>, job: Job) -> Result<()> {
        let Job { directory, slot, node } = job;
        let content = match &node.kind {
            NodeKind::File(content) => self.content(chunks, content),
            _ => Err(Error::invalid("only files are carried by a worker")),
        };
        let content =
            content.map_err(|error| error.context(format!("cannot carry {}", at::shown(&at::join(&directory.path, &node.name)))))?;
        let kind = NodeKind::File(content);
        if let Some(key) = MemoKey::of(&node.kind) {
            self.options.memo.put(key, kind.clone());
        }
        self.monitor.advance(Task::Transplant, 1, 0);
        self.deliver(&directory, slot, Node { kind, ..node })
    }

    fn content(&self, chunks: &mut ChunkWriter<'_>, content: &Content) -> Result<Content> {
        let CarryOptions { source, chunker, inline_max, .. } = *self.options;
        let recipe = match content {
            Content::Inline(bytes) => {
                let mut made = crate::recipe::RecipeWriter::default();
                let mut pushed = Ok(());
                let put = &mut |bytes: &[u8]| self.put_meta(bytes);
                let read = chunks.put_stream(chunker, &mut &bytes[..], u64::MAX, &mut |chunk| {
                    if pushed.is_ok() {
                        pushed = made.push_chunk(chunk, put);
                    }
                })?;
                read.map_err(|error| Error::new(ErrorKind::Io, "cannot read memory").because(error))?;
                pushed?;
                return Ok(Content::Recipe(made.finish(put)?));
            }
            Content::Recipe(recipe) => recipe,
        };
        if recipe.len <= inline_max as u64 && is_solid(source, recipe)? {
            let mut bytes = Vec::new();
            read_stream(source, recipe, &mut |part| {
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            self.monitor.advance(Task::Transplant, 0, recipe.len);
            return Ok(Content::Inline(bytes));
        }
        let read = &mut |len| self.monitor.advance(Task::Transplant, 0, len);
        recut(source, recipe, chunker, chunks, &mut |bytes| self.put_meta(bytes), read).map(Content::Recipe)
    }
}

/// Whether one can stand for the other.
fn fits(kind: &NodeKind, here: &NodeKind) -> bool {
    match (kind, here) {
        (NodeKind::File(content), NodeKind::File(other)) => content.len() == other.len(),
        (NodeKind::Directory(_), NodeKind::Directory(_)) => true,
        _ => false,
    }
}

/// Whether a short stream has neither holes nor zeros, which a node cannot say of bytes that stand in it.
fn is_solid(source: &dyn GetChunk, recipe: &Recipe) -> Result<bool> {
    for piece in RecipeReader::new(source, recipe) {
        if !matches!(piece?, Piece::Data { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A directory whose subdirectories are being walked.
struct Level {
    directory: Arc<Directory>,
    below: std::vec::IntoIter<Below>,
}

/// A directory to be walked.
struct Below {
    slot: usize,
    node: Node,
    known: Vec<(Recipe, Recipe)>,
}

struct Walk<'s, 'a> {
    carrier: &'s Carrier<'a>,
    sink: &'s JobSink<Vec<Job>>,
    batch: Vec<Job>,
    batch_len: u64,
}

impl Walk<'_, '_> {
    fn run(mut self, root: &Node) -> Result<()> {
        let roots: Vec<(NodeKind, NodeKind)> =
            self.carrier.options.known.iter().map(|known| (known.there.kind.clone(), known.here.kind.clone())).collect();
        if let Some(kind) = self.carrier.told(&root.kind, &roots) {
            self.carrier.complete(Some(Node { kind, ..root.clone() }));
            return Ok(());
        }
        let listing = listing_of(&root.kind).ok_or_else(|| Error::corrupt("the tree's root is no directory"))?;
        let directory = self.directory(Vec::new(), root, None);
        let mut stack = vec![self.enter(directory, listing, &both_listings(roots))?];
        while let Some(level) = stack.last_mut() {
            let Some(next) = level.below.next() else {
                stack.pop();
                continue;
            };
            let above = Arc::clone(&level.directory);
            let path = at::join(&above.path, &next.node.name);
            if stack.len() >= super::DEPTH_MAX {
                return Err(Error::corrupt(format!("{} is nested deeper than {} directories", at::shown(&path), super::DEPTH_MAX)));
            }
            // An equal one may have been carried since this one was listed.
            if let Some(kind) = self.carrier.told(&next.node.kind, &[]) {
                self.carrier.deliver(&above, next.slot, Node { kind, ..next.node })?;
                continue;
            }
            let Some(listing) = listing_of(&next.node.kind).cloned() else { continue };
            let directory = self.directory(path, &next.node, Some((above, next.slot)));
            stack.push(self.enter(directory, &listing, &next.known)?);
        }
        self.send()
    }

    /// Begins a directory; what becomes of its listing is remembered.
    fn directory(&self, path: Vec<u8>, node: &Node, above: Option<(Arc<Directory>, usize)>) -> Arc<Directory> {
        let (memo, key) = (Arc::clone(self.carrier.options.memo), MemoKey::of(&node.kind));
        let note = Box::new(move |listing: &Recipe| {
            if let Some(key) = key {
                memo.put(key, NodeKind::Directory(listing.clone()));
            }
        });
        Directory::noting(path, Some(node.clone()), above, note)
    }

    /// Handles every member that is no directory and collects those that are.
    fn enter(&mut self, directory: Arc<Directory>, listing: &Recipe, known: &[(Recipe, Recipe)]) -> Result<Level> {
        let carrier = self.carrier;
        let source = carrier.options.source;
        let mut pairs: Vec<Pair<'_>> = known.iter().map(|(there, here)| Pair::new((source, there), (carrier.store, here))).collect();
        let mut below = Vec::new();
        let mut total = 0;
        for node in ListingReader::new(source, listing) {
            let node = node.map_err(|error| error.context(format!("cannot read the directory {}", at::shown(&directory.path))))?;
            let known: Vec<(NodeKind, NodeKind)> = pairs.iter_mut().filter_map(|pair| pair.find(&node.name)).collect();
            let slot = total;
            total += 1;
            if let Some(kind) = carrier.told(&node.kind, &known) {
                carrier.monitor.advance(Task::Transplant, 1, 0);
                carrier.deliver(&directory, slot, Node { kind, ..node })?;
            } else if node.is_dir() {
                below.push(Below { slot, node, known: both_listings(known) });
            } else {
                self.batch_len += node.len();
                self.batch.push(Job { directory: Arc::clone(&directory), slot, node });
                if self.batch.len() >= BATCH_FILES || self.batch_len >= BATCH_LEN {
                    self.send()?;
                }
            }
        }
        let done = directory.close(total, &mut |bytes| carrier.put_meta(bytes))?;
        carrier.complete(done);
        Ok(Level { directory, below: below.into_iter() })
    }

    fn send(&mut self) -> Result<()> {
        self.batch_len = 0;
        if self.batch.is_empty() { Ok(()) } else { self.sink.send(std::mem::take(&mut self.batch)) }
    }
}

fn listing_of(kind: &NodeKind) -> Option<&Recipe> {
    if let NodeKind::Directory(listing) = kind { Some(listing) } else { None }
}

fn both_listings(known: Vec<(NodeKind, NodeKind)>) -> Vec<(Recipe, Recipe)> {
    let both = |pair| if let (NodeKind::Directory(there), NodeKind::Directory(here)) = pair { Some((there, here)) } else { None };
    known.into_iter().filter_map(both).collect()
}

/// One directory in both stores, read side by side. It is a help only: where it cannot be read, nothing is known.
struct Pair<'a> {
    there: Peekable<ListingReader<'a>>,
    here: Peekable<ListingReader<'a>>,
}

impl<'a> Pair<'a> {
    fn new(there: (&'a dyn GetChunk, &Recipe), here: (&'a dyn GetChunk, &Recipe)) -> Self {
        Self { there: ListingReader::new(there.0, there.1).peekable(), here: ListingReader::new(here.0, here.1).peekable() }
    }

    /// What a member is in both; names are asked for in their order.
    fn find(&mut self, name: &[u8]) -> Option<(NodeKind, NodeKind)> {
        let find = |reader: &mut Peekable<ListingReader<'a>>| {
            while reader.next_if(|node| node.as_ref().is_ok_and(|node| node.name.as_slice() < name)).is_some() {}
            let found = reader.peek()?.as_ref().ok().filter(|node| node.name == name)?;
            Some(found.kind.clone())
        };
        find(&mut self.there).zip(find(&mut self.here))
    }
}
