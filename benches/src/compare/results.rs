//! What was measured, and medians over the runs.

use super::measure::Measured;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One thing that is measured with every tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A state is saved, by its number in the corpus' order.
    Save(usize),
    /// A state is saved again without a change.
    SaveAgain,
    /// A state is saved again after 1 % of its bytes were edited.
    SaveFew,
    /// A state is built in an empty directory.
    Build,
    /// The first state is.
    BuildFirst,
    /// A state's image is built upon the image of its base.
    Overlay,
    /// One file is restored.
    RestoreFile,
    /// Two states are compared.
    Diff,
    /// The saved states are listed.
    List,
    /// The same, in a repository that is opened with a passphrase.
    Unlock,
    /// Every byte is read and checked.
    Check,
    /// A repository is made smaller.
    Compact,
}

impl Step {
    /// All steps in the order of the tables, those of `states` states.
    pub fn all(states: usize) -> Vec<Self> {
        let again = super::corpus::STATES.iter().position(|state| *state == super::corpus::AGAIN);
        let saves = (0..states).flat_map(|state| [Some(Self::Save(state)), Some(Self::SaveAgain).filter(|_| Some(state) == again)]);
        let rest = [
            Self::SaveFew,
            Self::BuildFirst,
            Self::Build,
            Self::Overlay,
            Self::RestoreFile,
            Self::Diff,
            Self::List,
            Self::Unlock,
            Self::Check,
            Self::Compact,
        ];
        saves.flatten().chain(rest).collect()
    }

    /// For tables.
    pub fn title(self) -> String {
        use super::corpus::{AGAIN, BUILT, STATES};
        match self {
            Self::Save(state) => format!("save {}", STATES[state]),
            Self::SaveAgain => format!("save {AGAIN} again"),
            Self::SaveFew => format!("save {} with 1 % changed", STATES[STATES.len() - 1]),
            Self::Build => format!("build {BUILT}"),
            Self::BuildFirst => format!("build {}", STATES[0]),
            Self::Overlay => format!("build {BUILT} as an overlay"),
            Self::RestoreFile => format!("restore a file of {}", STATES[STATES.len() - 1]),
            Self::Diff => "diff w2 w3".to_owned(),
            Self::List => "list".to_owned(),
            Self::Unlock => "open with a passphrase".to_owned(),
            Self::Check => "check with all data".to_owned(),
            Self::Compact => "compact".to_owned(),
        }
    }
}

/// The floor of a build: `cp -a` of the same tree.
pub const FLOOR: &str = "cp -a";
/// The floor of a save: cutting, hashing and compressing the same bytes, and nothing else.
pub const LIMIT: &str = "limit";
/// A repository of vml after `vml compact`.
pub const COMPACTED: &str = "vml, compacted";

/// All measurements of one invocation, by tool and step, in the order of the runs.
#[derive(Debug, Clone, Default)]
pub struct Results {
    times: BTreeMap<(String, Step), Vec<Measured>>,
    sizes: BTreeMap<(String, usize), Vec<u64>>,
    written: BTreeMap<(String, Step), u64>,
}

impl Results {
    /// Adds a measurement.
    pub fn add(&mut self, tool: &str, step: Step, measured: Measured) {
        self.times.entry((tool.to_owned(), step)).or_default().push(measured);
    }

    /// Adds the bytes of a repository after a state was saved into it.
    pub fn add_size(&mut self, tool: &str, state: usize, bytes: u64) {
        self.sizes.entry((tool.to_owned(), state)).or_default().push(bytes);
    }

    /// Notes the bytes that a build takes on its file system.
    pub fn add_written(&mut self, tool: &str, step: Step, bytes: u64) {
        self.written.insert((tool.to_owned(), step), bytes);
    }

    /// Whether anything was measured of a step.
    pub fn has(&self, step: Step) -> bool {
        self.times.keys().any(|(_, measured)| *measured == step)
    }

    /// Whether anything was measured of a tool.
    pub fn has_tool(&self, tool: &str) -> bool {
        self.times.keys().any(|(measured, _)| measured == tool)
    }

    /// The bytes that a build takes on its file system.
    pub fn written(&self, tool: &str, step: Step) -> Option<u64> {
        self.written.get(&(tool.to_owned(), step)).copied()
    }

    /// The spread of one field over the runs.
    pub fn spread(&self, tool: &str, step: Step, field: impl Fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.times.get(&(tool.to_owned(), step))?.iter().map(field))
    }

    /// The median wall time in seconds.
    pub fn wall(&self, tool: &str, step: Step) -> Option<f64> {
        self.spread(tool, step, |measured| measured.wall_s).map(|spread| spread.median)
    }

    /// The ratio of two median wall times, and the smallest and largest ratio within one run.
    pub fn ratio(&self, [one, other]: [(&str, Step); 2]) -> Option<Spread> {
        let rows = [one, other].map(|(tool, step)| self.times.get(&(tool.to_owned(), step)));
        let [Some(one_rows), Some(other_rows)] = rows else { return None };
        let within = Spread::of(one_rows.iter().zip(other_rows).map(|(one, other)| one.wall_s / other.wall_s))?;
        Some(Spread { median: self.wall(one.0, one.1)? / self.wall(other.0, other.1)?, ..within })
    }

    /// Of some tools the one with the smallest median wall time.
    pub fn fastest<'a>(&self, tools: &[&'a str], step: Step) -> Option<&'a str> {
        let walls = tools.iter().filter_map(|tool| Some((*tool, self.wall(tool, step)?)));
        walls.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(tool, _)| tool)
    }

    /// Of some tools the one with the smallest repository after a state.
    pub fn smallest<'a>(&self, tools: &[&'a str], state: usize) -> Option<&'a str> {
        let sizes = tools.iter().filter_map(|tool| Some((*tool, self.size(tool, state)?)));
        sizes.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(tool, _)| tool)
    }

    /// How often a tool was measured at a step.
    pub fn runs(&self, tool: &str, step: Step) -> usize {
        self.times.get(&(tool.to_owned(), step)).map_or(0, Vec::len)
    }

    /// The median size of a repository after a state.
    pub fn size(&self, tool: &str, state: usize) -> Option<f64> {
        Spread::of(self.sizes.get(&(tool.to_owned(), state))?.iter().map(|bytes| *bytes as f64)).map(|spread| spread.median)
    }

    /// The largest ratio of two tools' peak memories at any step that both were measured at.
    pub fn peak_ratio(&self, one: &str, other: &str) -> Option<f64> {
        let peak = |tool: &str, step| self.spread(tool, step, |measured| measured.peak_bytes as f64).map(|spread| spread.max);
        let steps = self.times.keys().filter(|(tool, _)| tool == one).map(|(_, step)| *step);
        steps.filter_map(|step| Some(peak(one, step)? / peak(other, step)?)).max_by(f64::total_cmp)
    }

    /// The largest peak memory of a tool over all steps and runs, in bytes.
    pub fn peak(&self, tool: &str) -> Option<u64> {
        self.times.iter().filter(|((name, _), _)| name == tool).flat_map(|(_, rows)| rows).map(|row| row.peak_bytes).max()
    }

    /// Every number.
    pub fn to_json(&self) -> Value {
        let times = self.times.iter().map(|((tool, step), rows)| {
            let rows: Vec<Value> = rows.iter().map(Measured::to_json).collect();
            json!({ "tool": tool, "step": step.title(), "runs": rows, "median_wall_s": self.wall(tool, *step), "written_bytes": self.written(tool, *step) })
        });
        let sizes =
            self.sizes.iter().map(|((tool, state), bytes)| json!({ "tool": tool, "after": super::corpus::STATES[*state], "bytes": bytes }));
        json!({ "times": times.collect::<Vec<_>>(), "sizes": sizes.collect::<Vec<_>>() })
    }
}

/// Smallest, middle and largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of no numbers there is none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) };
        Some(Self { min: values[0], median, max: values[values.len() - 1] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_sorted_numbers() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn medians_and_peaks_are_by_tool() {
        let mut results = Results::default();
        for (wall_s, peak_bytes) in [(2.0, 5), (1.0, 9), (4.0, 7)] {
            results.add("vml", Step::Build, Measured { wall_s, cpu_s: 0.5, peak_bytes, ..Measured::default() });
        }
        results.add_size("vml", 4, 100);
        assert_eq!((results.wall("vml", Step::Build), results.peak("vml")), (Some(2.0), Some(9)));
        assert_eq!((results.wall("restic", Step::Build), results.size("vml", 4), results.size("vml", 3)), (None, Some(100.0), None));
        results.add_written("vml", Step::Build, 8);
        let json = results.to_json();
        assert_eq!((&json["times"][0]["runs"][2]["peak_bytes"], &json["times"][0]["written_bytes"]), (&7.into(), &8.into()));
        assert!(results.has(Step::Build) && !results.has(Step::Overlay));
    }

    #[test]
    fn ratios_are_of_medians_and_their_spread_within_runs() {
        let mut results = Results::default();
        let took = |wall_s, peak_bytes| Measured { wall_s, peak_bytes, ..Measured::default() };
        for (vml, peer) in [(1.0, 4.0), (2.0, 4.0), (4.0, 5.0)] {
            results.add("vml", Step::Check, took(vml, 30));
            results.add("restic", Step::Check, took(peer, 10));
        }
        results.add("borg", Step::Check, took(3.0, 1));
        results.add_size("borg", 1, 50);
        results.add_size("restic", 1, 40);
        assert_eq!(results.ratio([("vml", Step::Check), ("restic", Step::Check)]), Some(Spread { min: 0.25, median: 0.5, max: 0.8 }));
        assert_eq!(results.ratio([("vml", Step::Check), ("rustic", Step::Check)]), None);
        let peers = ["restic", "borg", "rustic"];
        assert_eq!((results.fastest(&peers, Step::Check), results.fastest(&peers, Step::Build)), (Some("borg"), None));
        assert_eq!((results.smallest(&peers, 1), results.peak_ratio("vml", "restic")), (Some("restic"), Some(3.0)));
        assert_eq!((results.runs("vml", Step::Check), results.runs("zpaq", Step::Check)), (3, 0));
        let steps = Step::all(5);
        assert_eq!((steps[1], steps[2], steps.len()), (Step::Save(1), Step::SaveAgain, 16));
    }
}
