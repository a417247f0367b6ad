//! Walks a recipe item by item, so that a whole node can be passed over, compared or taken as it is.

use super::{GetChunk, Node, NodeRef, Piece, Recipe, Root, sum_nodes, sum_pieces};
use vml_chunk::{Error, Result};

/// What stands at a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A node that has not been looked into; on level 1 it holds pieces.
    Node { node: NodeRef, level: u8 },
    /// A piece.
    Piece(Piece),
}

impl Item {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Node { node, .. } => node.len,
            Self::Piece(piece) => piece.len(),
        }
    }
}

/// A place between two items of a recipe; it moves forward only.
pub(crate) struct Cursor<'a> {
    store: &'a dyn GetChunk,
    /// What is still to come, the next one last.
    items: Vec<Item>,
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(store: &'a dyn GetChunk, recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let items = match &recipe.root {
            Root::Pieces(pieces) => pieces.iter().rev().cloned().map(Item::Piece).collect(),
            Root::Nodes { depth, nodes } => nodes.iter().rev().map(|node| Item::Node { node: node.clone(), level: *depth }).collect(),
        };
        Ok(Self { store, items, offset: 0 })
    }

    /// Where the next item begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn peek(&self) -> Option<&Item> {
        self.items.last()
    }

    /// Whether the next item is the last one.
    pub(crate) fn is_last(&self) -> bool {
        self.items.len() == 1
    }

    /// Passes over the next item.
    pub(crate) fn skip(&mut self) {
        if let Some(item) = self.items.pop() {
            // The recipe's own check bounds the sum.
            self.offset += item.len();
        }
    }

    /// Puts the members of the next item, a node, in its place.
    pub(crate) fn descend(&mut self) -> Result<()> {
        let Some(Item::Node { node, level }) = self.items.last() else { return Ok(()) };
        let members = self.members(node, *level)?;
        self.items.pop();
        self.items.extend(members);
        Ok(())
    }

    /// Checks that the next item, if it is a node, is what its parent says; then it can be passed over by who knows what is below it.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(Item::Node { node, level }) = self.items.last() else { return Ok(()) };
        self.members(node, *level).map(|_| ())
    }

    /// The members of a node, the first one last.
    fn members(&self, node: &NodeRef, level: u8) -> Result<Vec<Item>> {
        match Node::decode(&self.store.get_chunk(&node.id)?)? {
            Node::Leaf(pieces) if level == 1 && sum_pieces(&pieces) == Some(node.len) => {
                Ok(pieces.into_iter().rev().map(Item::Piece).collect())
            }
            Node::Inner(nodes) if level > 1 && sum_nodes(&nodes) == Some(node.len) => {
                Ok(nodes.into_iter().rev().map(|node| Item::Node { node, level: level - 1 }).collect())
            }
            _ => Err(Error::corrupt(format!("recipe node {} is not what its parent says", node.id.short()))),
        }
    }

    /// Moves to the piece that has the byte at `offset`; to the end when none has.
    ///
    /// # Cost
    /// One node a level.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<()> {
        self.seek_item(offset)?;
        while matches!(self.items.last(), Some(Item::Node { .. })) {
            self.descend()?;
        }
        Ok(())
    }

    /// As [`seek`](Self::seek), but stops before a node that begins at `offset`.
    pub(crate) fn seek_item(&mut self, offset: u64) -> Result<()> {
        while let Some(item) = self.items.last() {
            if self.offset + item.len() <= offset {
                self.skip();
            } else if self.offset < offset && matches!(item, Item::Node { .. }) {
                self.descend()?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// The next piece, passed over.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>> {
        while let Some(Item::Node { .. }) = self.items.last() {
            self.descend()?;
        }
        let Some(Item::Piece(piece)) = self.items.pop() else { return Ok(None) };
        self.offset += piece.len();
        Ok(Some(piece))
    }
}
