//! Walks what entries need: every chunk once, listings and recipes before what they name.
//!
//! What was walked is remembered by a bit a row of the index, so that walking a second entry, or an entry after its base, costs what they differ in. A chunk can
//! be content in one place and a listing in another; having been seen as the one does not make it walked as the other.

use crate::entry::{Entry, Part, TreePart};
use crate::recipe::{Node as RecipeNode, NodeRef, Piece, Recipe, Root, sum_nodes, sum_pieces};
use crate::tree::{Block, Content, NodeKind};
use std::collections::HashSet;
use std::sync::Arc;
use vml_chunk::index::{IndexView, RowBits};
use vml_chunk::{ChunkId, ChunkStore, Error, ErrorKind, PackKind, Result};

/// Chunks that are counted as missing before the rest does not matter.
const MISSING_MAX: u64 = 1000;

/// So many chunks, for people.
pub(crate) fn told(missing: u64) -> String {
    if missing > MISSING_MAX { format!("more than {MISSING_MAX}") } else { missing.to_string() }
}

/// As what a chunk was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    /// As bytes that somebody needs.
    Bytes,
    /// As a block of a listing, with all below it.
    Block,
    /// As a node in the recipe of a listing.
    ListingNode,
    /// As a node in another recipe.
    StreamNode,
}

/// Which chunks were seen.
struct Seen {
    view: Arc<IndexView>,
    bits: [RowBits; 4],
    /// Those that the index does not have.
    others: HashSet<(Role, ChunkId)>,
}

impl Seen {
    fn new(view: Arc<IndexView>) -> Self {
        Self { bits: std::array::from_fn(|_| RowBits::new(&view)), view, others: HashSet::new() }
    }

    /// Whether it was not seen before.
    fn insert(&mut self, role: Role, id: &ChunkId) -> bool {
        let Some((segment, row)) = self.view.position(id) else { return self.others.insert((role, *id)) };
        self.bits[role as usize].insert(segment, row)
    }
}

/// Hears of each chunk once, with its length; says whether it is there to be looked into.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(PackKind, &ChunkId, u32) -> Result<bool>;

/// A walk over one entry after another.
pub(crate) struct Reach<'a> {
    store: &'a ChunkStore,
    seen: Seen,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(store: &'a ChunkStore) -> Self {
        Self { store, seen: Seen::new(store.view()) }
    }

    /// Whether the store has a chunk with this length.
    pub(crate) fn is_stored(&self, id: &ChunkId, len: u32) -> bool {
        self.seen.view.locate(id).any(|location| location.chunk_len == len)
    }

    /// Tells every chunk of `entry` that no earlier call told. The witness of a tree is of no use but to whoever saved it.
    pub(crate) fn entry(&mut self, entry: &Entry, witness: bool, visit: Visit<'_>) -> Result<()> {
        entry.parts.iter().try_for_each(|part| self.part(part, witness, visit))
    }

    /// As [`entry`](Self::entry), for one part of it.
    pub(crate) fn part(&mut self, part: &Part, witness: bool, visit: Visit<'_>) -> Result<()> {
        match part {
            Part::Tree(tree) => {
                if let NodeKind::Directory(listing) = &tree.root.kind {
                    self.tree(listing, visit)?;
                }
                if witness { self.witness(tree, visit) } else { Ok(()) }
            }
            Part::Disk(disk) => self.recipe(&disk.recipe, Role::StreamNode, visit, &mut |_, _| {}),
            Part::Memory(memory) => self.recipe(&memory.recipe, Role::StreamNode, visit, &mut |_, _| {}),
            Part::Machine(_) => Ok(()),
        }
    }

    /// Tells every chunk of a tree's witness that no earlier call told.
    pub(crate) fn witness(&mut self, tree: &TreePart, visit: Visit<'_>) -> Result<()> {
        self.recipe(&tree.witness, Role::StreamNode, visit, &mut |_, _| {})
    }

    /// How many of an entry's chunks are not there, counted up to one more than [`MISSING_MAX`]; `is_stored` hears of each.
    pub(crate) fn missing(&mut self, entry: &Entry, witness: bool, is_stored: &mut dyn FnMut(&ChunkId, u32) -> bool) -> Result<u64> {
        let mut missing = 0;
        let walked = self.entry(entry, witness, &mut |_, id, len| {
            let stored = is_stored(id, len);
            missing += u64::from(!stored);
            if missing > MISSING_MAX { Err(Error::new(ErrorKind::Interrupted, "enough")) } else { Ok(stored) }
        });
        match walked {
            Err(error) if missing <= MISSING_MAX => Err(error),
            _ => Ok(missing),
        }
    }

    fn tree(&mut self, root: &Recipe, visit: Visit<'_>) -> Result<()> {
        // Directories still to be walked, the next one last; a tree may be deeper than a thread's stack.
        let mut stack = vec![root.clone()];
        while let Some(listing) = stack.pop() {
            let mut blocks = Vec::new();
            self.recipe(&listing, Role::ListingNode, visit, &mut |id, len| blocks.push((id, len)))?;
            let mut below = Vec::new();
            for (id, len) in blocks {
                if !self.seen.insert(Role::Block, &id) || !self.tell(PackKind::Meta, &id, len, visit)? {
                    continue;
                }
                let chunk = self.store.get(&id)?;
                for node in Block::decode(&chunk)? {
                    match node.kind {
                        NodeKind::File(Content::Recipe(recipe)) => self.recipe(&recipe, Role::StreamNode, visit, &mut |_, _| {})?,
                        NodeKind::Directory(listing) => below.push(listing),
                        _ => {}
                    }
                }
            }
            stack.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Tells a chunk, unless it was told; whether it can be looked into.
    fn tell(&mut self, kind: PackKind, id: &ChunkId, len: u32, visit: Visit<'_>) -> Result<bool> {
        if self.seen.insert(Role::Bytes, id) { visit(kind, id, len) } else { Ok(self.is_stored(id, len)) }
    }

    /// Walks one recipe; the blocks of a listing go to `block`, other content is told.
    fn recipe(&mut self, recipe: &Recipe, role: Role, visit: Visit<'_>, block: &mut dyn FnMut(ChunkId, u32)) -> Result<()> {
        recipe.check()?;
        match &recipe.root {
            Root::Pieces(pieces) => self.pieces(pieces, role, visit, block),
            Root::Nodes { depth, nodes } => self.nodes(nodes, *depth, role, visit, block),
        }
    }

    fn pieces(&mut self, pieces: &[Piece], role: Role, visit: Visit<'_>, block: &mut dyn FnMut(ChunkId, u32)) -> Result<()> {
        for piece in pieces {
            match piece {
                Piece::Data { id, len } if role == Role::ListingNode => block(*id, *len),
                Piece::Data { id, len } => _ = self.tell(PackKind::Data, id, *len, visit)?,
                _ if role == Role::ListingNode => return Err(Error::corrupt("a listing has a hole")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Walks nodes of a level; a recipe's own check bounds the levels.
    fn nodes(&mut self, nodes: &[NodeRef], level: u8, role: Role, visit: Visit<'_>, block: &mut dyn FnMut(ChunkId, u32)) -> Result<()> {
        for node in nodes {
            if !self.seen.insert(role, &node.id) {
                continue;
            }
            if !self.tell(PackKind::Meta, &node.id, node.node_len, visit)? {
                continue;
            }
            match (RecipeNode::decode(&self.store.get(&node.id)?)?, level) {
                (RecipeNode::Leaf(pieces), 1) if sum_pieces(&pieces) == Some(node.len) => self.pieces(&pieces, role, visit, block)?,
                (RecipeNode::Inner(below), 2..) if sum_nodes(&below) == Some(node.len) => {
                    self.nodes(&below, level - 1, role, visit, block)?;
                }
                _ => return Err(Error::corrupt(format!("recipe node {} is not what its parent says", node.id.short()))),
            }
        }
        Ok(())
    }
}
