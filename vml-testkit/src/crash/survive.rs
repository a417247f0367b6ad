//! Which states a crash may leave on a local file system.
//!
//! A file's bytes are durable after its sync, and a name after the sync of its directory. Until then:
//!
//! - a name stands for anything it stood for since its directory was synced, each name for itself: links, renames and removals may be
//!   lost and may come in any order. A rename never leaves the new name without a file that it stood for before or after;
//! - a directory that is not durable is there, with what is durable in it, or is not;
//! - bytes that were not synced are lost, cut (at every 4 KiB, and at some odd places), or of full length with pages of zeros.

use super::disk::Op;
use super::image::{Content, Image, is_temporary, parent};
use crate::noise::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const PAGE: usize = 4096;
/// Places at which unsynced bytes are cut, at most.
const CUTS_MAX: usize = 12;

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: usize,
    content: Option<Content>,
}

/// Follows a log.
#[derive(Debug, Default)]
pub struct Survivors {
    /// What each name stood for since it was last durable, that first.
    names: BTreeMap<String, Vec<Option<u64>>>,
    dirs: BTreeMap<String, Vec<bool>>,
    files: HashMap<u64, File>,
}

/// What is open about a state, and how many ways there are.
enum Choice {
    Name(String, Vec<Option<u64>>),
    Dir(String),
    Bytes(u64, Vec<Content>),
}

impl Choice {
    fn ways(&self) -> usize {
        match self {
            Self::Name(_, values) => values.len(),
            Self::Dir(_) => 2,
            Self::Bytes(_, variants) => variants.len(),
        }
    }
}

impl Survivors {
    /// A disk on which all of `image` is durable; files are numbered as [`Disk::holding`](super::Disk::holding) does.
    pub fn of(image: &Image) -> Self {
        let mut this = Self::default();
        this.dirs.extend(image.dirs.iter().map(|dir| (dir.clone(), vec![true])));
        for (number, (path, content)) in (0..).zip(&image.files) {
            this.names.insert(path.clone(), vec![Some(number)]);
            let bytes = content.bytes().to_vec();
            this.files.insert(number, File { durable: bytes.len(), bytes, content: Some(content.clone()) });
        }
        this
    }

    fn push(&mut self, path: &str, value: Option<u64>) {
        self.names.entry(path.to_owned()).or_insert_with(|| vec![None]).push(value);
    }

    /// Goes on by one operation; tells whether other states can be left now.
    pub fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::MakeDir(path) => self.dirs.entry(path.clone()).or_insert_with(|| vec![false]).push(true),
            Op::Create(number, path) => {
                self.files.insert(*number, File::default());
                let Some(path) = path else { return false };
                self.push(path, Some(*number));
            }
            Op::Write(number, bytes) => {
                let file = self.files.get_mut(number).expect("it was made");
                file.bytes.extend_from_slice(bytes);
                file.content = None;
                return self.is_named(*number);
            }
            Op::Sync(number) => {
                let file = self.files.get_mut(number).expect("it was made");
                file.durable = file.bytes.len();
                return self.is_named(*number);
            }
            Op::Link(number, to) => self.push(to, Some(*number)),
            Op::Rename(from, to) => {
                let number = self.names.get(from).and_then(|values| *values.last()?);
                self.push(to, number);
                self.push(from, None);
            }
            Op::Remove(path) => self.push(path, None),
            Op::SyncDir(dir) => {
                let mut changed = false;
                for (_, values) in self.names.iter_mut().filter(|(path, values)| values.len() > 1 && parent(path) == dir) {
                    values.drain(..values.len() - 1);
                    changed = true;
                }
                self.names.retain(|_, values| values.as_slice() != [None]);
                for (_, values) in self.dirs.iter_mut().filter(|(path, values)| values.len() > 1 && parent(path) == dir) {
                    values.drain(..values.len() - 1);
                    changed = true;
                }
                return changed;
            }
        }
        true
    }

    fn is_named(&self, number: u64) -> bool {
        self.names.iter().any(|(path, values)| values.contains(&Some(number)) && !is_temporary(path))
    }

    /// Gives every state that a crash may leave now to `each`, if there are at most `limit`; else the newest, the oldest, those that differ from one of them in
    /// one thing, and so many that `rng` draws. Tells whether it gave all. Some may be equal.
    pub fn states(&mut self, limit: usize, rng: &mut Rng, each: &mut dyn FnMut(Image)) -> bool {
        let choices = self.choices();
        let ways: Vec<usize> = choices.iter().map(Choice::ways).collect();
        let all = ways.iter().try_fold(1_usize, |all, ways| all.checked_mul(*ways).filter(|all| *all <= limit));
        if let Some(all) = all {
            for number in 0..all {
                let mut rest = number;
                let picked: Vec<usize> = ways.iter().map(|ways| (rest % ways, rest /= ways).0).collect();
                each(self.image(&choices, &picked));
            }
            return true;
        }
        let oldest = vec![0; ways.len()];
        let newest: Vec<usize> = ways.iter().map(|ways| ways - 1).collect();
        each(self.image(&choices, &oldest));
        each(self.image(&choices, &newest));
        let mut left = limit.saturating_sub(2);
        for start in [&oldest, &newest] {
            for place in 0..ways.len() {
                for way in (0..ways[place]).filter(|way| *way != start[place]) {
                    let mut picked = start.clone();
                    picked[place] = way;
                    if left > 0 {
                        each(self.image(&choices, &picked));
                        left -= 1;
                    }
                }
            }
        }
        for _ in 0..left {
            let picked: Vec<usize> = ways.iter().map(|ways| rng.below(*ways)).collect();
            each(self.image(&choices, &picked));
        }
        false
    }

    fn choices(&mut self) -> Vec<Choice> {
        let mut choices: Vec<Choice> = Vec::new();
        choices.extend(self.dirs.iter().filter(|(_, values)| values.len() > 1).map(|(path, _)| Choice::Dir(path.clone())));
        let mut torn = BTreeSet::new();
        for (path, values) in &self.names {
            // A file on its way is there or it is not; nobody reads it.
            if is_temporary(path) {
                continue;
            }
            torn.extend(values.iter().flatten().filter(|number| {
                let file = &self.files[*number];
                file.durable < file.bytes.len()
            }));
            if values.len() > 1 {
                let mut distinct: Vec<Option<u64>> = Vec::new();
                for value in values.iter().rev() {
                    if !distinct.contains(value) {
                        distinct.insert(0, *value);
                    }
                }
                choices.push(Choice::Name(path.clone(), distinct));
            }
        }
        for number in torn {
            let file = &self.files[&number];
            choices.push(Choice::Bytes(number, variants(&file.bytes, file.durable)));
        }
        choices
    }

    fn image(&mut self, choices: &[Choice], picked: &[usize]) -> Image {
        let mut values: HashMap<&str, Option<u64>> = HashMap::new();
        let mut lost: Vec<&str> = Vec::new();
        let mut bytes: HashMap<u64, &Content> = HashMap::new();
        for (choice, way) in choices.iter().zip(picked) {
            match choice {
                Choice::Name(path, candidates) => _ = values.insert(path, candidates[*way]),
                Choice::Dir(path) if *way == 0 => lost.push(path),
                Choice::Dir(_) => {}
                Choice::Bytes(number, variants) => _ = bytes.insert(*number, &variants[*way]),
            }
        }
        let is_lost = |path: &str| lost.iter().any(|dir| path == *dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
        let mut image = Image { dirs: self.dirs.keys().filter(|dir| !is_lost(dir)).cloned().collect(), ..Image::default() };
        for (path, all) in &self.names {
            let value = values.get(path.as_str()).copied().unwrap_or_else(|| *all.last().expect("there is one"));
            let Some(number) = value.filter(|_| !is_lost(path)) else { continue };
            let content = match bytes.get(&number) {
                Some(content) => (*content).clone(),
                None => {
                    let file = self.files.get_mut(&number).expect("it was made");
                    file.content.get_or_insert_with(|| Content::new(file.bytes.clone())).clone()
                }
            };
            image.files.insert(path.clone(), content);
        }
        image
    }
}

/// What may be left of a file of which only the first `durable` bytes are durable; all of it last.
fn variants(bytes: &[u8], durable: usize) -> Vec<Content> {
    let len = bytes.len();
    let pages = (durable / PAGE + 1..).map(|page| page * PAGE).take_while(|at| *at < len);
    let odd = [durable, durable + 1, durable + 63, durable.midpoint(len), len.saturating_sub(33), len - 1];
    let mut cuts: Vec<usize> = pages.chain(odd).filter(|at| (durable..len).contains(at)).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let step = cuts.len().div_ceil(CUTS_MAX).max(1);
    let mut variants: Vec<Vec<u8>> = cuts.into_iter().step_by(step).map(|at| bytes[..at].to_vec()).collect();
    // The length came to the disk, and not the first, or not the last, or none of the pages.
    for range in [durable..len.min((durable / PAGE + 1) * PAGE), durable.max((len - 1) / PAGE * PAGE)..len, durable..len] {
        let mut zeroed = bytes.to_vec();
        zeroed[range].fill(0);
        variants.push(zeroed);
    }
    variants.push(bytes.to_vec());
    variants.into_iter().map(Content::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn states_after(ops: &[Op]) -> Vec<String> {
        let mut survivors = Survivors::of(&Image { dirs: ["r".to_owned()].into(), ..Image::default() });
        for op in ops {
            survivors.apply(op);
        }
        let mut found = BTreeSet::new();
        let complete = survivors.states(1000, &mut Rng::new(1), &mut |image| {
            let files: Vec<String> =
                image.files.iter().map(|(path, content)| format!("{path}={}", String::from_utf8_lossy(content.bytes()))).collect();
            found.insert(files.join(" "));
        });
        assert!(complete);
        found.into_iter().collect()
    }

    fn write(number: u64, text: &str) -> Op {
        Op::Write(number, Arc::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_is_synced_is_there_and_what_is_not_may_be() {
        let name = || Op::Link(1, "r/a".to_owned());
        let whole = [Op::Create(1, None), write(1, "xyz"), Op::Sync(1), name(), Op::SyncDir("r".to_owned())];
        assert_eq!(states_after(&whole), ["r/a=xyz"]);
        assert_eq!(states_after(&whole[..4]), ["", "r/a=xyz"], "the name is not durable");
        let unsynced = [Op::Create(1, None), write(1, "xyz"), name(), Op::SyncDir("r".to_owned())];
        assert_eq!(states_after(&unsynced), ["r/a=", "r/a=\0\0\0", "r/a=x", "r/a=xy", "r/a=xyz"]);
    }

    #[test]
    fn names_change_each_for_itself_and_a_rename_leaves_the_old_or_the_new() {
        let two = [
            Op::Create(1, Some("r/a".to_owned())),
            write(1, "1"),
            Op::Sync(1),
            Op::SyncDir("r".to_owned()),
            Op::Create(2, Some("r/tmp/b".to_owned())),
            write(2, "2"),
            Op::Sync(2),
            Op::Rename("r/tmp/b".to_owned(), "r/a".to_owned()),
            Op::Create(3, None),
            Op::Link(3, "r/c".to_owned()),
        ];
        assert_eq!(states_after(&two), ["r/a=1", "r/a=1 r/c=", "r/a=2", "r/a=2 r/c="]);
    }

    #[test]
    fn a_directory_takes_with_it_what_is_in_it() {
        let ops = [
            Op::MakeDir("r/d".to_owned()),
            Op::Create(1, None),
            Op::Sync(1),
            Op::Link(1, "r/d/a".to_owned()),
            Op::SyncDir("r/d".to_owned()),
        ];
        assert_eq!(states_after(&ops), ["", "r/d/a="]);
        assert_eq!(states_after(&[&ops[..], &[Op::SyncDir("r".to_owned())]].concat()), ["r/d/a="]);
    }
}
