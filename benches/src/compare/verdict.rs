//! The goals that the project has set itself, and whether the numbers meet them.

use super::corpus::STATES;
use super::results::{FLOOR, Results, Step};

/// A goal and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is compared.
    pub what: String,
    /// At most this.
    pub goal: f64,
    /// This; `None` when one of the two was not measured.
    pub measured: Option<f64>,
    /// Of both numbers.
    pub unit: &'static str,
}

impl Verdict {
    /// One of both numbers, with as many digits as it takes.
    pub fn number(&self, value: f64) -> String {
        match self.unit {
            "" if self.goal < 0.1 => format!("{value:.4}"),
            "" => format!("{value:.2}"),
            unit => format!("{value:.0}{unit}"),
        }
    }

    /// "met", "not met" with by how much, or "not measured".
    pub fn word(&self) -> String {
        match self.measured {
            None => "not measured".to_owned(),
            Some(measured) if measured <= self.goal => "met".to_owned(),
            Some(measured) => format!("**not met**, {:.0} % above", (measured / self.goal - 1.0) * 100.0),
        }
    }
}

/// A ratio of median times.
pub fn time(results: &Results, step: Step, peer: &str, goal: f64) -> Verdict {
    let measured = results.wall("vml", step).zip(results.wall(peer, step)).map(|(vml, peer)| vml / peer);
    Verdict { what: format!("{}: time, vml / {peer}", step.title()), goal, measured, unit: "" }
}

/// The peak memory of all vml's commands.
pub fn peak(results: &Results) -> Verdict {
    let measured = results.peak("vml").map(|bytes| bytes as f64 / f64::from(1 << 20));
    Verdict { what: "peak memory of any vml command".to_owned(), goal: 256.0, measured, unit: " MiB" }
}

/// Every goal of the comparison of trees.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    let last = STATES.len() - 1;
    let time = |step, peer, goal| time(results, step, peer, goal);
    vec![
        time(Step::Save(0), "restic", 0.5),
        time(Step::Save(1), "restic", 0.5),
        time(Step::SaveAgain, "restic", 0.15),
        time(Step::Build, "restic", 0.5),
        time(Step::Build, FLOOR, 1.3),
        Verdict {
            what: "repository after all states: bytes, vml / restic".to_owned(),
            goal: 0.82,
            measured: results.size("vml", last).zip(results.size("restic", last)).map(|(vml, restic)| vml / restic),
            unit: "",
        },
        peak(results),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure::Measured;

    #[test]
    fn goals_are_judged_by_medians() {
        let mut results = Results::default();
        let took = |wall_s| Measured { wall_s, cpu_s: wall_s, peak_bytes: 100 << 20 };
        results.add("vml", Step::Save(0), took(1.0));
        results.add("restic", Step::Save(0), took(4.0));
        results.add("vml", Step::Build, took(2.8));
        results.add(FLOOR, Step::Build, took(2.0));
        let words: Vec<String> = verdicts(&results).iter().map(Verdict::word).collect();
        assert_eq!(words[0], "met");
        assert_eq!(words[1], "not measured");
        assert_eq!(words[4], "**not met**, 8 % above");
        assert_eq!(words[6], "met");
        let numbers = verdicts(&results).into_iter().map(|verdict| verdict.number(verdict.measured.unwrap_or(verdict.goal)));
        assert_eq!(numbers.collect::<Vec<_>>()[4..], ["1.40", "0.82", "100 MiB"]);
        let small = Verdict { what: String::new(), goal: 0.01, measured: Some(0.00149), unit: "" };
        assert_eq!(small.number(0.00149), "0.0015");
    }
}
