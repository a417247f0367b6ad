//! The goals that the project has set itself, and whether the numbers meet them.

use super::corpus::STATES;
use super::results::{COMPACTED, FLOOR, LIMIT, Results, Spread, Step};
use super::tools::PEERS;

/// A goal and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is compared.
    pub what: String,
    /// At most this.
    pub goal: f64,
    /// This; `None` when one of the two was not measured.
    pub measured: Option<f64>,
    /// The smallest and the largest within one run, where there are several.
    pub range: Option<[f64; 2]>,
    /// Of both numbers.
    pub unit: &'static str,
}

impl Verdict {
    /// One without a range.
    pub fn new(what: impl Into<String>, goal: f64, measured: Option<f64>, unit: &'static str) -> Self {
        Self { what: what.into(), goal, measured, range: None, unit }
    }

    /// A ratio with its range.
    pub fn ratio(what: impl Into<String>, goal: f64, ratio: Option<Spread>) -> Self {
        let range = ratio.filter(|ratio| ratio.min < ratio.max).map(|ratio| [ratio.min, ratio.max]);
        Self { range, ..Self::new(what, goal, ratio.map(|ratio| ratio.median), "") }
    }

    /// One of both numbers, with as many digits as it takes.
    pub fn number(&self, value: f64) -> String {
        match self.unit {
            "" if self.goal < 0.1 => format!("{value:.4}"),
            "" => format!("{value:.2}"),
            unit => format!("{value:.0}{unit}"),
        }
    }

    /// What was measured, with its range.
    pub fn shown(&self) -> String {
        let range = self.range.map(|range| format!(" ({})", range.map(|end| self.number(end)).join("–")));
        self.measured.map_or("–".to_owned(), |measured| self.number(measured) + &range.unwrap_or_default())
    }

    /// "met", "not met" with by how much, or "not measured".
    pub fn word(&self) -> String {
        match self.measured {
            None => "not measured".to_owned(),
            Some(measured) if measured <= self.goal => "met".to_owned(),
            Some(measured) => format!("**not met**, {:.0} % above", (measured / self.goal - 1.0) * 100.0),
        }
    }

    /// Its row in a table of goals.
    pub fn row(&self) -> String {
        format!("| {} | {} | {} | {} |\n", self.what, self.number(self.goal), self.shown(), self.word())
    }
}

/// The head of a table of goals.
pub const HEAD: &str = "| goal | at most | measured | |\n|---|---:|---:|---|\n";

/// A ratio of median times.
pub fn time(results: &Results, step: Step, peer: &str, goal: f64) -> Verdict {
    Verdict::ratio(format!("{}: time, vml / {peer}", step.title()), goal, results.ratio([("vml", step), (peer, step)]))
}

/// A ratio of median times to the fastest of the peers.
pub fn fastest(results: &Results, step: Step, goal: f64) -> Verdict {
    let peer = results.fastest(&PEERS, step);
    let ratio = peer.and_then(|peer| results.ratio([("vml", step), (peer, step)]));
    Verdict::ratio(format!("{}: time, vml / the fastest of {}", step.title(), named(peer)), goal, ratio)
}

/// A ratio of sizes to the smallest repository of the peers.
pub fn smallest(results: &Results, what: &str, tool: &str, state: usize, goal: f64) -> Verdict {
    let peer = results.smallest(&PEERS, state);
    let measured = peer.and_then(|peer| Some(results.size(tool, state)? / results.size(peer, state)?));
    Verdict::new(format!("{what}: bytes, {tool} / the smallest of {}", named(peer)), goal, measured, "")
}

/// The peers, and which of them it is.
fn named(peer: Option<&str>) -> String {
    format!("{}{}", PEERS.join(", "), peer.map_or(String::new(), |peer| format!(": {peer}")))
}

/// The peak memory of all vml's commands.
pub fn peak(results: &Results) -> Verdict {
    let measured = results.peak("vml").map(|bytes| bytes as f64 / f64::from(1 << 20));
    Verdict::new("peak memory of any vml command", 256.0, measured, " MiB")
}

/// Every goal of the comparison of trees.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    const ENCRYPTED: &str = "vml-encrypted";
    let last = STATES.len() - 1;
    let all = "repository after all states";
    let size = |what: &str, tool: &str, peer: &str, goal| {
        let measured = results.size(tool, last).zip(results.size(peer, last)).map(|(one, other)| one / other);
        Verdict::new(format!("{what}: bytes, {tool} / {peer}"), goal, measured, "")
    };
    let mut verdicts = vec![smallest(results, all, "vml", last, 0.76), size(all, "vml", "zpaq", 0.88)];
    if results.has(Step::Compact) {
        verdicts.extend([smallest(results, all, COMPACTED, last, 0.60), size(all, COMPACTED, "zpaq", 0.69)]);
    }
    let restored = results.ratio([("vml", Step::BuildFirst), ("vml", Step::Save(0))]);
    verdicts.extend([
        fastest(results, Step::Save(0), 0.30),
        fastest(results, Step::SaveFew, 0.20),
        fastest(results, Step::SaveAgain, 0.08),
        fastest(results, Step::Build, 0.33),
        time(results, Step::Build, FLOOR, 1.0),
        Verdict::ratio(format!("{}: time / of its save", Step::BuildFirst.title()), 1.0, restored),
        fastest(results, Step::RestoreFile, 0.20),
        time(results, Step::Save(0), LIMIT, 1.25),
        Verdict::new("peak memory, vml / restic, of the command where it is the most", 1.5, results.peak_ratio("vml", "restic"), ""),
        peak(results),
    ]);
    // What only the encrypted one has is not compared.
    verdicts.extend([Step::Save(0), Step::Save(1), Step::Build].map(|step| {
        Verdict::ratio(format!("{}: time, encrypted / plain", step.title()), 1.10, results.ratio([(ENCRYPTED, step), ("vml", step)]))
    }));
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure::Measured;

    #[test]
    fn goals_are_judged_by_medians() {
        let mut results = Results::default();
        let took = |wall_s| Measured { wall_s, cpu_s: wall_s, peak_bytes: 100 << 20, ..Measured::default() };
        for (vml, restic) in [(1.0, 4.0), (1.5, 4.0), (1.4, 2.0)] {
            results.add("vml", Step::Save(0), took(vml));
            results.add("restic", Step::Save(0), took(restic));
        }
        results.add("borg", Step::Save(0), took(5.0));
        results.add(LIMIT, Step::Save(0), took(1.0));
        results.add("vml", Step::Build, took(2.16));
        results.add(FLOOR, Step::Build, took(2.0));
        results.add("vml-encrypted", Step::Build, took(2.2));
        for (tool, bytes) in [("vml", 75), ("restic", 110), ("borg", 100), ("zpaq", 90)] {
            results.add_size(tool, 4, bytes);
        }
        let rows: Vec<String> = verdicts(&results).iter().map(Verdict::row).collect();
        assert_eq!(
            rows[0],
            "| repository after all states: bytes, vml / the smallest of restic, borg, rustic: borg | 0.76 | 0.75 | met |\n"
        );
        assert_eq!(
            rows[2],
            "| save base: time, vml / the fastest of restic, borg, rustic: restic | 0.30 | 0.35 (0.25–0.70) | **not met**, 17 % above |\n"
        );
        assert_eq!(rows[3], "| save v1 with 1 % changed: time, vml / the fastest of restic, borg, rustic | 0.20 | – | not measured |\n");
        assert_eq!(rows[6], "| build w3: time, vml / cp -a | 1.00 | 1.08 | **not met**, 8 % above |\n");
        assert_eq!(rows[11], "| peak memory of any vml command | 256 MiB | 100 MiB | met |\n");
        assert_eq!(rows[14], "| build w3: time, encrypted / plain | 1.10 | 1.02 | met |\n");
        results.add(COMPACTED, Step::Compact, took(9.0));
        results.add_size(COMPACTED, 4, 61);
        assert_eq!(verdicts(&results)[2].word(), "**not met**, 2 % above");
        assert_eq!(Verdict::new("", 0.01, Some(0.00149), "").number(0.00149), "0.0015");
    }
}
