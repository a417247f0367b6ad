//! A file system in memory that writes down every change.

use super::image::{Content, Image, is_temporary, parent};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A change, as it was made. Files are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A directory was made.
    MakeDir(String),
    /// A file was made, with a name or without.
    Create(u64, Option<String>),
    /// Bytes were appended to a file.
    Write(u64, Arc<Vec<u8>>),
    /// A file's bytes were synced.
    Sync(u64),
    /// A file got a name.
    Link(u64, String),
    /// A name took the place of another: from, to.
    Rename(String, String),
    /// A name was taken away.
    Remove(String),
    /// The names in a directory were synced.
    SyncDir(String),
}

#[derive(Debug, Default)]
struct File {
    bytes: Arc<Vec<u8>>,
    names: usize,
    locked: bool,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeSet<String>,
    names: BTreeMap<String, u64>,
    files: HashMap<u64, File>,
    next: u64,
    log: Vec<Op>,
}

/// A disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk on which `image` is, all of it durable; its log begins here.
    pub fn holding(image: &Image) -> Self {
        let mut state = State { dirs: image.dirs.clone(), ..State::default() };
        for (path, content) in &image.files {
            let file = File { bytes: content.share(), names: 1, locked: false };
            state.files.insert(state.next, file);
            state.names.insert(path.clone(), state.next);
            state.next += 1;
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// The same after these changes, which its log has.
    pub fn after(image: &Image, log: &[Op]) -> Self {
        let disk = Self::holding(image);
        for op in log {
            disk.redo(op).expect("it was done before");
        }
        disk
    }

    fn redo(&self, op: &Op) -> io::Result<()> {
        match op {
            Op::MakeDir(path) => self.make_dir(path),
            Op::Create(_, path) => self.create(path.as_deref()).map(|_| ()),
            Op::Write(number, bytes) => {
                self.write(*number, bytes);
                Ok(())
            }
            Op::Sync(number) => {
                self.sync(*number);
                Ok(())
            }
            Op::Link(number, to) => self.link(*number, to),
            Op::Rename(from, to) => self.rename(from, to),
            Op::Remove(path) => self.remove(path, false).map(|_| ()),
            Op::SyncDir(path) => self.sync_dir(path),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What everybody sees on it now.
    pub fn image(&self) -> Image {
        let state = self.state();
        let content = |number: &u64| Content::shared(Arc::clone(&state.files[number].bytes));
        Image { dirs: state.dirs.clone(), files: state.names.iter().map(|(path, number)| (path.clone(), content(number))).collect() }
    }

    /// How many changes were made.
    pub fn position(&self) -> usize {
        self.state().log.len()
    }

    /// The changes so far.
    pub fn log(&self) -> Vec<Op> {
        self.state().log.clone()
    }

    pub(super) fn number_of(&self, path: &str) -> io::Result<u64> {
        self.state().names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn is_dir(&self, path: &str) -> bool {
        self.state().dirs.contains(path)
    }

    pub(super) fn with_bytes<T>(&self, path: &str, run: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let state = self.state();
        let number = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(run(&state.files[number].bytes))
    }

    pub(super) fn bytes(&self, path: &str) -> io::Result<Arc<Vec<u8>>> {
        let state = self.state();
        let number = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(&state.files[number].bytes))
    }

    /// Names and lengths of the files directly in a directory.
    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside =
            state.names.range(format!("{dir}/")..).take_while(|(path, _)| path.starts_with(dir) && path.as_bytes()[dir.len()] == b'/');
        let direct = inside.filter(|(path, _)| parent(path) == dir);
        Ok(direct.map(|(path, number)| (path[dir.len() + 1..].to_owned(), state.files[number].bytes.len() as u64)).collect())
    }

    pub(super) fn list_dirs(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.dirs.iter().filter(|path| parent(path) == dir && *path != dir).map(|path| path[dir.len() + 1..].to_owned()).collect())
    }

    pub(super) fn make_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.dirs.contains(path) || state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !parent(path).is_empty() && !state.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.dirs.insert(path.to_owned());
        state.log.push(Op::MakeDir(path.to_owned()));
        Ok(())
    }

    pub(super) fn create(&self, path: Option<&str>) -> io::Result<u64> {
        let mut state = self.state();
        if let Some(path) = path {
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !state.dirs.contains(parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        let number = state.next;
        state.next += 1;
        state.files.insert(number, File { names: usize::from(path.is_some()), ..File::default() });
        if let Some(path) = path {
            state.names.insert(path.to_owned(), number);
        }
        state.log.push(Op::Create(number, path.map(str::to_owned)));
        Ok(number)
    }

    pub(super) fn write(&self, number: u64, bytes: &[u8]) {
        let mut state = self.state();
        Arc::make_mut(&mut state.files.get_mut(&number).expect("it is open").bytes).extend_from_slice(bytes);
        state.log.push(Op::Write(number, Arc::new(bytes.to_vec())));
    }

    pub(super) fn sync(&self, number: u64) {
        self.state().log.push(Op::Sync(number));
    }

    pub(super) fn names_of(&self, number: u64) -> usize {
        self.state().files[&number].names
    }

    pub(super) fn try_lock(&self, number: u64) -> bool {
        !std::mem::replace(&mut self.state().files.get_mut(&number).expect("it is open").locked, true)
    }

    pub(super) fn unlock(&self, number: u64) {
        if let Some(file) = self.state().files.get_mut(&number) {
            file.locked = false;
        }
    }

    pub(super) fn link(&self, number: u64, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.dirs.contains(parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.names.contains_key(to) || state.dirs.contains(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.insert(to.to_owned(), number);
        state.files.get_mut(&number).expect("it is open").names += 1;
        state.log.push(Op::Link(number, to.to_owned()));
        Ok(())
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.dirs.contains(parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = state.names.insert(to.to_owned(), number) {
            state.files.get_mut(&old).expect("it has a name").names -= 1;
        }
        state.log.push(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Takes a name away; with `unlocked_only` only if nobody has the file locked.
    pub(super) fn remove(&self, path: &str, unlocked_only: bool) -> io::Result<bool> {
        let mut state = self.state();
        let number = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if unlocked_only && state.files[&number].locked {
            return Ok(false);
        }
        state.names.remove(path);
        state.files.get_mut(&number).expect("it has a name").names -= 1;
        state.log.push(Op::Remove(path.to_owned()));
        Ok(true)
    }

    pub(super) fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        // What is above the repository is not of this disk.
        if !path.is_empty() && !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.log.push(Op::SyncDir(path.to_owned()));
        Ok(())
    }
}

impl Op {
    /// The name that it gives or takes away, if it is no temporary one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Create(_, Some(path)) | Self::Link(_, path) | Self::Rename(_, path) | Self::Remove(path) => {
                Some(path.as_str()).filter(|path| !is_temporary(path))
            }
            _ => None,
        }
    }
}
