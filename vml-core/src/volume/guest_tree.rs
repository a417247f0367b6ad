//! The files of a saved disk as a tree, without restoring the disk.
//!
//! Directories are read when they are asked for, and a file's chunks are parts of the disk. So what walks, prints, compares
//! and restores saved trees does so here too: it asks [`GuestTree`] for chunks instead of the store.

use super::ext4::{Ext4, Inode, InodeKind};
use super::partition::Volume;
use crate::disk::{Disk, SavedDisk};
use crate::recipe::{GetChunk, Piece, Recipe, RecipeWriter, Root};
use crate::tree::{Block, Content, DEPTH_MAX, Node, NodeKind, join_path};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use vml_chunk::{Chunk, ChunkId, ChunkRef, Error, ErrorKind, IdKey, Result};

/// The root directory's inode, in every ext file system.
const ROOT_INODE: u32 = 2;
/// Bytes of a file that are one chunk here.
const PART_LEN: u64 = 1 << 20;
/// Chunks that are known at the same time: some 100 MB of memory, a terabyte of files.
const MADE_MAX: usize = 1 << 20;

/// The tree in one volume of a saved disk.
pub struct GuestTree<'a> {
    disk: &'a SavedDisk<'a>,
    store: &'a dyn GetChunk,
    ext4: Ext4<'a>,
    /// Told apart from the directories of other volumes.
    key: [u8; 32],
    made: Mutex<HashMap<ChunkId, Made>>,
    /// The directory in which each one stands: a second one would be a loop, or never end.
    parents: Mutex<HashMap<u32, u32>>,
    links: OnceLock<HashMap<u32, Vec<u8>>>,
}

/// What a chunk is made of.
#[derive(Clone)]
enum Made {
    Directory(u32),
    Part { offset: u64, len: u32 },
    Bytes(Vec<u8>),
}

impl<'a> GuestTree<'a> {
    /// The tree in `volume` of `disk`, whose chunks `store` has.
    ///
    /// # Errors
    /// `UnsupportedFormat` for a file system that cannot be read here, `Corrupt` for one that cannot be.
    pub fn open(store: &'a dyn GetChunk, disk: &'a SavedDisk<'a>, volume: &Volume) -> Result<Self> {
        if !volume.kind.is_readable() {
            let message = format!("the file system {} cannot be read yet, only ext2, ext3 and ext4", volume.kind.name());
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let mut hash = blake3::Hasher::new();
        hash.update(&volume.offset.to_le_bytes());
        hash.update(&vml_chunk::codec::encode_payload(disk.recipe()));
        Ok(Self {
            disk,
            store,
            ext4: Ext4::open(disk, volume)?,
            key: *hash.finalize().as_bytes(),
            made: Mutex::default(),
            parents: Mutex::default(),
            links: OnceLock::new(),
        })
    }

    /// Its root.
    ///
    /// # Errors
    /// `Corrupt` when it is no directory; else as the disk.
    pub fn root(&self) -> Result<Node> {
        let inode = self.ext4.inode(ROOT_INODE)?;
        if inode.kind != InodeKind::Directory {
            return Err(Error::corrupt("the file system's root is no directory"));
        }
        let kind = NodeKind::Directory(self.directory(&inode)?);
        self.node(&inode, Vec::new(), kind)
    }

    fn known(&self, id: &ChunkId) -> Option<Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn remember(&self, id: ChunkId, made: Made) -> Result<()> {
        let mut known = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MADE_MAX {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                "the file system has more files than can be looked at at once: name a path in it",
            ));
        }
        known.insert(id, made);
        Ok(())
    }

    /// The names of a directory with their inodes, sorted.
    fn names(&self, directory: &Inode) -> Result<Vec<(Vec<u8>, u32)>> {
        let mut names = Vec::new();
        self.ext4.for_names(directory, &mut |name| {
            names.push((name.name.to_vec(), name.inode));
            Ok(())
        })?;
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::corrupt(format!("the directory of inode {} has a name twice", directory.number)));
        }
        Ok(names)
    }

    /// The listing of a directory, which is made when it is asked for.
    fn directory(&self, inode: &Inode) -> Result<Recipe> {
        if self.names(inode)?.is_empty() {
            return Ok(Recipe::empty());
        }
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(b"directory");
        hash.update(&inode.number.to_le_bytes());
        let id = ChunkId::from_bytes(*hash.finalize().as_bytes());
        self.remember(id, Made::Directory(inode.number))?;
        Ok(Recipe { len: 1, root: Root::Pieces(vec![Piece::Data { id, len: 1 }]) })
    }

    fn list(&self, number: u32) -> Result<Vec<u8>> {
        let directory = self.ext4.inode(number)?;
        let mut nodes = Vec::new();
        for (name, child) in self.names(&directory)? {
            let inode = self.ext4.inode(child)?;
            let kind = match inode.kind {
                InodeKind::Directory => {
                    self.adopt(child, number)?;
                    NodeKind::Directory(self.directory(&inode)?)
                }
                InodeKind::File => NodeKind::File(self.content(&inode)?),
                InodeKind::Symlink => NodeKind::Symlink(self.ext4.symlink_target(&inode)?),
                InodeKind::CharDevice => NodeKind::CharDevice { major: inode.device.0, minor: inode.device.1 },
                InodeKind::BlockDevice => NodeKind::BlockDevice { major: inode.device.0, minor: inode.device.1 },
                InodeKind::Fifo => NodeKind::Fifo,
                // As in a saved tree: without the program that made it, it is nothing.
                InodeKind::Socket => continue,
            };
            nodes.push(self.node(&inode, name, kind)?);
        }
        Ok(Block::encode(&nodes))
    }

    /// Notes in which directory another stands.
    fn adopt(&self, child: u32, parent: u32) -> Result<()> {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        if child == ROOT_INODE || *parents.entry(child).or_insert(parent) != parent {
            return Err(Error::corrupt(format!("the directory of inode {child} stands in two directories")));
        }
        Ok(())
    }

    fn node(&self, inode: &Inode, name: Vec<u8>, kind: NodeKind) -> Result<Node> {
        let several = inode.links_count > 1 && inode.kind != InodeKind::Directory;
        let node = Node {
            name,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: self.ext4.attributes(inode)?,
            link: if several { self.links()?.get(&inode.number).cloned() } else { None },
            kind,
        };
        Ok(node)
    }

    /// The first path of every file with several names.
    fn links(&self) -> Result<&HashMap<u32, Vec<u8>>> {
        if let Some(links) = self.links.get() {
            return Ok(links);
        }
        let mut links: HashMap<u32, Vec<u8>> = HashMap::new();
        let mut stack = vec![(ROOT_INODE, Vec::new(), 0)];
        let mut seen = std::collections::HashSet::new();
        while let Some((number, path, depth)) = stack.pop() {
            if depth > DEPTH_MAX || !seen.insert(number) {
                return Err(Error::corrupt("the file system's directories are nested too deeply, or in a loop"));
            }
            for (name, child) in self.names(&self.ext4.inode(number)?)? {
                let inode = self.ext4.inode(child)?;
                let path = join_path(&path, &name);
                if inode.kind == InodeKind::Directory {
                    stack.push((child, path, depth + 1));
                } else if inode.links_count > 1 {
                    let first = links.entry(child).or_insert_with(|| path.clone());
                    if path.split(|byte| *byte == b'/').lt(first.split(|byte| *byte == b'/')) {
                        *first = path;
                    }
                }
            }
        }
        Ok(self.links.get_or_init(|| links))
    }

    fn content(&self, inode: &Inode) -> Result<Content> {
        if let Some(mut bytes) = self.ext4.inline_data(inode)? {
            let len = usize::try_from(inode.len).ok().filter(|len| *len <= 1 << 16);
            bytes.resize(len.ok_or_else(|| Error::corrupt(format!("inode {} is too long for its place", inode.number)))?, 0);
            return Ok(Content::Inline(bytes));
        }
        let mut recipe = RecipeWriter::default();
        let mut put = |bytes: &[u8]| {
            let id = ChunkId::of(bytes);
            self.remember(id, Made::Bytes(bytes.to_vec()))?;
            Ok(ChunkRef { id, len: u32::try_from(bytes.len()).map_err(|_| Error::corrupt("a file's list of parts is too long"))? })
        };
        let mut at = 0;
        for run in self.ext4.runs(inode)? {
            recipe.push(Piece::Hole { len: run.file_offset - at }, &mut put)?;
            at = run.file_offset;
            let end = at + run.len;
            while at < end {
                // At the same places of the file, wherever it lies.
                let part = at..end.min((at / PART_LEN + 1) * PART_LEN);
                let piece = self.part(run.disk_offset + (part.start - run.file_offset), part.end - part.start)?;
                recipe.push(piece, &mut put)?;
                at = part.end;
            }
        }
        recipe.push(Piece::Hole { len: inode.len - at }, &mut put)?;
        Ok(Content::Recipe(recipe.finish(&mut put)?))
    }

    /// A part of the disk as a piece. Its id is made from those of the disk's chunks, so that parts that were cut alike are
    /// known to be equal.
    fn part(&self, offset: u64, len: u64) -> Result<Piece> {
        let mut hash = blake3::Hasher::new_derive_key("vml 2026 part of a disk");
        let mut has_data = false;
        for (start, piece) in self.disk.pieces(offset, len)? {
            let (from, to) = (offset.max(start), (offset + len).min(start + piece.len()));
            if let Piece::Data { id, .. } = &piece {
                has_data = true;
                hash.update(id.as_bytes());
                hash.update(&(from - start).to_le_bytes());
            } else {
                hash.update(&[0; 40]);
            }
            hash.update(&(to - from).to_le_bytes());
        }
        if !has_data {
            return Ok(Piece::Hole { len });
        }
        let id = ChunkId::from_bytes(*hash.finalize().as_bytes());
        let len = u32::try_from(len).map_err(|_| Error::corrupt("a part of a file is too long"))?;
        self.remember(id, Made::Part { offset, len })?;
        Ok(Piece::Data { id, len })
    }
}

impl GetChunk for GuestTree<'_> {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        match self.known(id) {
            Some(Made::Directory(number)) => Ok(Chunk::from(self.list(number)?)),
            Some(Made::Bytes(bytes)) => Ok(Chunk::from(bytes)),
            Some(Made::Part { offset, len }) => {
                let mut bytes = vec![0; len as usize];
                self.disk.read_at(&mut bytes, offset)?;
                Ok(Chunk::from(bytes))
            }
            None => self.store.get_chunk(id),
        }
    }

    fn is_made(&self, id: &ChunkId) -> bool {
        self.known(id).is_some()
    }

    fn ids(&self) -> IdKey {
        self.store.ids()
    }
}

/// The chunks of two trees that are compared, each of a disk or of the store itself.
pub struct TreePair<'a> {
    /// Where the chunks of one are.
    pub old: &'a dyn GetChunk,
    /// Where those of the other are.
    pub new: &'a dyn GetChunk,
}

impl GetChunk for TreePair<'_> {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        if self.new.is_made(id) { self.new.get_chunk(id) } else { self.old.get_chunk(id) }
    }

    fn is_made(&self, id: &ChunkId) -> bool {
        self.new.is_made(id) || self.old.is_made(id)
    }

    fn ids(&self) -> IdKey {
        self.new.ids()
    }
}
