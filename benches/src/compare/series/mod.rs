//! Many small saves: what the newest state costs to build when its chunks lie scattered over a hundred saves.
//!
//! ```text
//! a copy of w3 ─► save ─► (edit 1 %, save) a hundred times ─────────► build the latest   ┐ in turns
//!                                                   └ its last state ─► saved once, alone ─► build it ┘
//! now and then: build in a process that counts what is decoded       at last: `vml compact`, where there is one, and build
//! ```

pub mod count;
pub mod report;

use super::after::copy_dir;
use super::corpus::{BUILT, Corpus, Kind, contents};
use super::edit::{Edited, SHARE, edit_tree};
use super::measure::{Measured, measure};
use super::mount::Mounted;
use super::run::verify;
use super::tools::{Look, Tool as _, Vml, repository};
use anyhow::{Context as _, Result};
use count::Counted;
use std::fs;
use std::path::{Path, PathBuf};

/// So many saves follow the first one.
pub const SAVES: usize = 100;
/// After so many of them it is counted what a build decodes.
const COUNTED: [usize; 5] = [0, 10, 25, 50, SAVES];
const LAST: &str = "edited-100";

/// What was measured.
#[derive(Debug, Clone)]
pub struct Series {
    /// The first save, and each that followed.
    pub saves: Vec<Measured>,
    /// What the last edit did.
    pub edited: Edited,
    /// The repository after the first and after the last save.
    pub bytes: [u64; 2],
    /// One that has the last state only.
    pub alone_bytes: u64,
    /// Builds of the last state, each run one.
    pub build: Vec<Measured>,
    /// The same from the repository that has it only.
    pub build_alone: Vec<Measured>,
    /// What builds decode, by the number of saves before them.
    pub counted: Vec<(usize, Counted)>,
    /// The same from the repository that has it only.
    pub counted_alone: Counted,
    /// Where vml has that: the time, the bytes after it, builds from what it made, and what they decode.
    pub compacted: Option<(Measured, u64, Vec<Measured>, Counted)>,
    /// What was compared.
    pub compared: String,
}

/// Makes the series below `work` and measures `runs` builds.
///
/// # Errors
/// When a command fails, or anything else is built than was saved.
pub fn run(vml: &Vml, corpus: &Corpus, runs: usize, work: &Path) -> Result<Series> {
    let bench = Bench { vml, work, mount: work.join("tree"), target: work.join("built") };
    let (edited_tree, place, alone) = (work.join("edited"), work.join("series"), work.join("alone"));
    fs::create_dir_all(&bench.mount).with_context(|| format!("cannot make {}", bench.mount.display()))?;
    copy_dir(&corpus.state(BUILT), &edited_tree)?;
    let mounted = Mounted::new(&edited_tree, &bench.mount)?;
    bench.init(&place)?;
    bench.init(&alone)?;
    let (mut saves, mut counted, mut first_bytes, mut edited) = (Vec::new(), Vec::new(), 0, None);
    for number in 0..=SAVES {
        let name = format!("edited-{number}");
        if number > 0 {
            edited = Some(edit_tree(&edited_tree, number as u64, SHARE)?);
        }
        corpus.warm(&bench.mount)?;
        saves.push(measure(vml.save(&place, &bench.mount, &name), work)?);
        if number == 0 {
            first_bytes = bytes(&place)?;
        }
        if COUNTED.contains(&number) {
            let found = count::measure_count(&repository(&place), &name, work)?;
            eprintln!("after {number} saves a build decodes {:.2} bytes for each that it writes", found.per_byte());
            counted.push((number, found));
        }
    }
    corpus.warm(&bench.mount)?;
    measure(vml.save(&alone, &bench.mount, LAST), work)?;
    drop(mounted);
    let (mut build, mut build_alone) = (Vec::new(), Vec::new());
    for number in 0..runs {
        for turn in [number, number + 1] {
            let (rows, from) = if turn % 2 == 0 { (&mut build, &place) } else { (&mut build_alone, &alone) };
            rows.push(bench.build(from, None)?);
        }
    }
    let compared = bench.compare(&place, &edited_tree)?;
    let counted_alone = count::measure_count(&repository(&alone), LAST, work)?;
    let (after, alone_bytes) = (bytes(&place)?, bytes(&alone)?);
    let compacted = match vml.compact(&place) {
        None => None,
        Some(compact) => {
            let took = measure(compact, work)?;
            let builds = (0..runs).map(|_| bench.build(&place, None)).collect::<Result<_>>()?;
            bench.compare(&place, &edited_tree)?;
            Some((took, bytes(&place)?, builds, count::measure_count(&repository(&place), LAST, work)?))
        }
    };
    for dir in [&edited_tree, &place, &alone] {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let edited = edited.context("there is at least one edit")?;
    Ok(Series { saves, edited, bytes: [first_bytes, after], alone_bytes, build, build_alone, counted, counted_alone, compacted, compared })
}

fn bytes(place: &Path) -> Result<u64> {
    Ok(contents(&repository(place))?.bytes)
}

struct Bench<'a> {
    vml: &'a Vml,
    work: &'a Path,
    mount: PathBuf,
    target: PathBuf,
}

impl Bench<'_> {
    fn init(&self, place: &Path) -> Result<()> {
        fs::create_dir_all(place.join("home")).with_context(|| format!("cannot make {}", place.display()))?;
        self.vml.init(place, &self.mount).into_iter().try_for_each(|command| measure(command, self.work).map(drop))
    }

    /// Builds the last state; with a state to compare it with, does that as well.
    fn build(&self, place: &Path, compare: Option<&Path>) -> Result<Measured> {
        fs::create_dir(&self.target).with_context(|| format!("cannot make {}", self.target.display()))?;
        let look = Look { place, mount: &self.mount, name: LAST, later: 0 };
        let measured = measure(self.vml.build(&look, &self.target), self.work)?;
        if let Some(state) = compare {
            verify("vml", Kind::Trees, state, &self.target, self.work)?;
        }
        fs::remove_dir_all(&self.target).with_context(|| format!("cannot remove {}", self.target.display()))?;
        Ok(measured)
    }

    fn compare(&self, place: &Path, state: &Path) -> Result<String> {
        self.build(place, Some(state))?;
        Ok(format!("The tree that was built after {SAVES} saves was compared with the edited one: they are equal."))
    }
}
