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
    /// "met", "not met" with by how much, or "not measured".
    pub fn word(&self) -> String {
        match self.measured {
            None => "not measured".to_owned(),
            Some(measured) if measured <= self.goal => "met".to_owned(),
            Some(measured) => format!("**not met**, {:.0} % above", (measured / self.goal - 1.0) * 100.0),
        }
    }
}

/// Every goal of the comparison.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    let last = STATES.len() - 1;
    let ratio = |step: Step, peer: &str| Some(results.wall("vml", step)? / results.wall(peer, step)?);
    let time = |step: Step, peer: &str, goal| Verdict {
        what: format!("{}: time, vml / {peer}", step.title()),
        goal,
        measured: ratio(step, peer),
        unit: "",
    };
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
        Verdict {
            what: "peak memory of any vml command".to_owned(),
            goal: 256.0,
            measured: results.peak("vml").map(|bytes| bytes as f64 / f64::from(1 << 20)),
            unit: " MiB",
        },
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
    }
}
