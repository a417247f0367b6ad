//! Goals, table and JSON; pure functions of what was measured.

use super::{FORGOTTEN, LAST, Run};
use crate::compare::measure::Measured;
use crate::compare::report::MIB;
use crate::compare::results::Spread;
use crate::compare::verdict::Verdict;
use serde_json::{Value, json};

fn spread(runs: &[Run], of: impl Fn(&Run) -> f64) -> Option<Spread> {
    Spread::of(runs.iter().map(of))
}

/// Every goal; ratios are of medians.
pub fn verdicts(runs: &[Run]) -> Vec<Verdict> {
    let median = |of: &dyn Fn(&Run) -> f64| spread(runs, of).map(|spread| spread.median);
    let ratio = |one: &dyn Fn(&Run) -> f64, other: &dyn Fn(&Run) -> f64| median(one).zip(median(other)).map(|(one, other)| one / other);
    let verdict = |what: String, goal: f64, measured: Option<f64>, unit: &'static str| Verdict::new(what, goal, measured, unit);
    let peak = runs.iter().flat_map(|run| [run.check[0], run.collect[0], run.save_beside]).map(|measured| measured.peak_bytes).max();
    vec![
        verdict(
            "collect: time, vml gc / restic prune".to_owned(),
            0.3,
            ratio(&|run| run.collect[0].wall_s, &|run| run.collect[1].wall_s),
            "",
        ),
        // At 0.7 of its speed a save takes 1 / 0.7 of its time.
        verdict(
            format!("save {LAST} while collections run: time / of the same alone"),
            1.43,
            ratio(&|run| run.save_beside.wall_s, &|run| run.save_alone.wall_s),
            "",
        ),
        verdict(
            "check every byte: time, vml check --data / restic check --read-data".to_owned(),
            0.35,
            ratio(&|run| run.check[0].wall_s, &|run| run.check[1].wall_s),
            "",
        ),
        verdict("peak memory of these vml commands".to_owned(), 256.0, peak.map(|bytes| bytes as f64 / MIB), " MiB"),
    ]
}

/// The block of the page.
pub fn markdown(machine_line: &str, runs: &[Run]) -> String {
    let mut text = format!(
        "{machine_line} The states of the trees, saved as in the first comparison; then every byte is checked; then {} of the six entries are forgotten ({}), and what they alone needed is collected. \
         Repositories are in memory (tmpfs); medians of {} runs, smallest to largest in brackets.\n\n| goal | at most | measured | |\n|---|---:|---:|---|\n",
        FORGOTTEN.len(),
        FORGOTTEN.join(", "),
        runs.len()
    );
    text.extend(verdicts(runs).iter().map(Verdict::row));
    text.push_str("\n| what | wall seconds | CPU seconds | peak MiB |\n|---|---:|---:|---:|\n");
    let show = |spread: Option<Spread>, digits: usize| {
        spread.map_or(String::new(), |s| format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max))
    };
    let mut row = |name: &str, of: &dyn Fn(&Run) -> Measured| {
        let (wall, cpu) = (spread(runs, |run| of(run).wall_s), spread(runs, |run| of(run).cpu_s));
        let peak = spread(runs, |run| of(run).peak_bytes as f64 / MIB);
        text.push_str(&format!("| {name} | {} | {} | {} |\n", show(wall, 2), show(cpu, 2), show(peak, 0)));
    };
    row("vml check --data", &|run| run.check[0]);
    row("restic check --read-data", &|run| run.check[1]);
    row("vml gc", &|run| run.collect[0]);
    row("restic prune", &|run| run.collect[1]);
    row(&format!("vml save {LAST}, alone"), &|run| run.save_alone);
    row(&format!("vml save {LAST}, beside vml gc"), &|run| run.save_beside);
    let collections = show(spread(runs, |run| run.collections as f64), 0);
    text.push_str(&format!("\nCollections that ran beside the save, one after the other: {collections}.\n"));
    text.push_str("\n| repository, MiB | before | after |\n|---|---:|---:|\n");
    for (number, name) in ["vml", "restic"].into_iter().enumerate() {
        let mib = |of: &dyn Fn(&Run) -> u64| spread(runs, |run| of(run) as f64 / MIB).map_or(0.0, |spread| spread.median);
        text.push_str(&format!("| {name} | {:.1} | {:.1} |\n", mib(&|run| run.bytes[number].0), mib(&|run| run.bytes[number].1)));
    }
    text
}

/// Every number.
pub fn to_json(runs: &[Run]) -> Value {
    let one = |run: &Run| {
        let both = |pair: &[Measured; 2]| json!({ "vml": pair[0].to_json(), "restic": pair[1].to_json() });
        let bytes = |(before, after): (u64, u64)| json!({ "before": before, "after": after });
        json!({
            "check": both(&run.check), "collect": both(&run.collect), "save_alone": run.save_alone.to_json(), "save_beside": run.save_beside.to_json(),
            "collections": run.collections, "bytes": { "vml": bytes(run.bytes[0]), "restic": bytes(run.bytes[1]) },
        })
    };
    runs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_medians() {
        let took = |wall_s| Measured { wall_s, cpu_s: wall_s, peak_bytes: 100 << 20, ..Measured::default() };
        let run = |gc: f64| Run {
            check: [took(1.0), took(4.0)],
            collect: [took(gc), took(10.0)],
            bytes: [(300 << 20, 200 << 20), (400 << 20, 250 << 20)],
            save_alone: took(1.0),
            save_beside: took(1.6),
            collections: 4,
        };
        let runs = [run(1.0), run(9.0), run(2.0)];
        let words: Vec<String> = verdicts(&runs).iter().map(Verdict::word).collect();
        assert_eq!(words, ["met", "**not met**, 12 % above", "met", "met"]);
        let text = markdown("2 cores.", &runs);
        assert!(text.contains("| vml gc | 2.00 (1.00–9.00) |") && text.contains("| vml | 300.0 | 200.0 |"), "{text}");
        assert_eq!(to_json(&runs).as_array().unwrap().len(), 3);
    }
}
