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
    /// A state is built in an empty directory.
    Build,
    /// A state's image is built upon the image of its base.
    Overlay,
    /// The saved states are listed.
    List,
}

impl Step {
    /// For tables.
    pub fn title(self) -> String {
        use super::corpus::{AGAIN, BUILT, STATES};
        match self {
            Self::Save(state) => format!("save {}", STATES[state]),
            Self::SaveAgain => format!("save {AGAIN} again"),
            Self::Build => format!("build {BUILT}"),
            Self::Overlay => format!("build {BUILT} as an overlay"),
            Self::List => "list".to_owned(),
        }
    }
}

/// The floor of a build: `cp -a` of the same tree.
pub const FLOOR: &str = "cp -a";

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

    /// The median size of a repository after a state.
    pub fn size(&self, tool: &str, state: usize) -> Option<f64> {
        Spread::of(self.sizes.get(&(tool.to_owned(), state))?.iter().map(|bytes| *bytes as f64)).map(|spread| spread.median)
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
            results.add("vml", Step::Build, Measured { wall_s, cpu_s: 0.5, peak_bytes });
        }
        results.add_size("vml", 4, 100);
        assert_eq!((results.wall("vml", Step::Build), results.peak("vml")), (Some(2.0), Some(9)));
        assert_eq!((results.wall("restic", Step::Build), results.size("vml", 4), results.size("vml", 3)), (None, Some(100.0), None));
        results.add_written("vml", Step::Build, 8);
        let json = results.to_json();
        assert_eq!((&json["times"][0]["runs"][2]["peak_bytes"], &json["times"][0]["written_bytes"]), (&7.into(), &8.into()));
        assert!(results.has(Step::Build) && !results.has(Step::Overlay));
    }
}
