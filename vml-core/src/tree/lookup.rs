//! Finds a path in a stored tree.

use super::at::join;
use super::listing::ListingReader;
use super::node::{Node, NodeKind, display_path};
use crate::recipe::GetChunk;
use vml_chunk::{Error, Result};

/// The components of a path inside a tree; `/`, `.` and nothing mean the root. `..` is refused: trees have no above.
///
/// # Errors
/// `InvalidInput`.
pub fn split_path(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::invalid(format!("the path {:?} has a \"..\": write it from the root of the tree", display_path(path))));
    }
    Ok(parts)
}

/// The node at `path`, below `root`. Symbolic links are not followed.
///
/// # Errors
/// `NotFound` naming the first component that is not there, else as the store.
pub fn find_path(store: &dyn GetChunk, root: &Node, path: &[u8]) -> Result<Node> {
    let mut node = root.clone();
    let mut walked = Vec::new();
    for part in split_path(path)? {
        let NodeKind::Directory(listing) = &node.kind else {
            return Err(Error::not_found(format!("{:?} is not a directory", display_path(&walked))));
        };
        walked = join(&walked, part);
        let mut found = None;
        for member in ListingReader::new(store, listing) {
            let member = member?;
            if member.name.as_slice() >= part {
                found = (member.name == part).then_some(member);
                break;
            }
        }
        node = found.ok_or_else(|| Error::not_found(format!("{:?} is not in the entry", display_path(&walked))))?;
    }
    Ok(node)
}
