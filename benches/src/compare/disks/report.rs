//! Goals, tables and JSON of the comparison of disks; pure functions of what was measured.

use super::super::report::{self, MIB, Setting, head};
use super::super::results::{COMPACTED, Step};
use super::super::verdict::{Verdict, peak, smallest, time};
use super::lone::{FORMATS, OVERLAY, PARTS, SHARED, SPARSE, after, alone, as_format};
use super::{Outcome, Rows, TREES};
use serde_json::{Value, json};

/// Every goal of the comparison of disks.
pub fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
    let (results, rows) = (&outcome.main.results, &outcome.rows);
    let last = outcome.main.states.len() - 1;
    let all = "repository after all disks";
    let trees = results.size("vml", last).zip(results.size(TREES, last)).map(|(disks, trees)| disks / trees);
    let mut goals = vec![smallest(results, all, "vml", last, 0.74)];
    if results.has(Step::Compact) {
        goals.push(smallest(results, all, COMPACTED, last, 0.60));
    }
    goals.push(Verdict::new(format!("{all}: bytes, vml / {TREES}"), 1.10, trees, ""));
    for state in SHARED {
        for [other, part] in PARTS {
            goals.push(added(rows, &after(part, other, state), &alone(part, state), 0.12));
        }
    }
    let [raw, formats @ ..] = FORMATS;
    // What this vml does not save has no row.
    let saved = formats.into_iter().filter(|format| rows.get(&as_format(format)).is_some());
    goals.extend(saved.map(|format| added(rows, &as_format(format), &as_format(raw), 0.01)));
    goals.extend([
        time(results, Step::Save(1), "restic", 0.5),
        wall(rows, OVERLAY, 1.5),
        Verdict::ratio(
            format!("{}: time, vml / restic restoring the image", Step::Overlay.title()),
            0.3,
            results.ratio([("vml", Step::Overlay), ("restic", Step::Build)]),
        ),
        wall(rows, SPARSE, 1.1),
        Verdict::new(
            format!("save {}: peak memory", SPARSE[0]),
            256.0,
            rows.get(SPARSE[0]).and_then(super::Row::peak).map(|bytes| bytes as f64 / MIB),
            " MiB",
        ),
        peak(results),
    ]);
    goals
}

fn added(rows: &Rows, what: &str, beside: &str, goal: f64) -> Verdict {
    let added = |what| rows.get(what).and_then(super::Row::added);
    let measured = added(what).zip(added(beside)).map(|(added, beside)| added / beside);
    Verdict::new(format!("save {what}: bytes added / of {beside}"), goal, measured, "")
}

fn wall(rows: &Rows, [what, beside]: [&str; 2], goal: f64) -> Verdict {
    let median = |what| rows.get(what).and_then(super::Row::wall).map(|spread| spread.median);
    let measured = median(what).zip(median(beside)).map(|(wall, beside)| wall / beside);
    Verdict::new(format!("save {what}: time / of {beside}"), goal, measured, "")
}

/// The whole block.
pub fn markdown(setting: &Setting, outcome: &Outcome) -> String {
    let more = format!("{}{}", builds(setting, outcome), rows(&outcome.rows));
    report::markdown(setting, &outcome.main, &verdicts(outcome), &[TREES], &more)
}

/// What builds write.
fn builds(setting: &Setting, outcome: &Outcome) -> String {
    let names: Vec<String> = setting.tools.iter().map(|tool| tool.name.to_owned()).collect();
    let mut text = format!("\n### Written by builds, MiB\n\n{}", head("", &names));
    for step in [Step::Build, Step::Overlay] {
        let written = |name: &String| outcome.main.results.written(name, step);
        let cells: Vec<String> =
            names.iter().map(|name| written(name).map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / MIB))).collect();
        text.push_str(&format!("| {} | {} |\n", step.title(), cells.join(" | ")));
    }
    let [blocks, clusters] = outcome.differing.map(|bytes| bytes as f64 / MIB);
    text + &format!(
        "\nThe built state differs from the base in {blocks:.1} MiB, counted in blocks of 4 KiB, and in {clusters:.1} MiB, counted in \
         clusters of 64 KiB, which is what an overlay is made of.\n"
    )
}

/// What vml was measured at by itself.
fn rows(rows: &Rows) -> String {
    let columns = ["saves", "seconds", "peak MiB", "MiB added"].map(str::to_owned);
    let mut text = format!("\n### Saves by vml beside each other\n\n{}", head("", &columns));
    for row in &rows.0 {
        let (Some(wall), Some(added), Some(peak)) = (row.wall(), row.added(), row.peak()) else { continue };
        text.push_str(&format!(
            "| {} | {} | {:.2} ({:.2}–{:.2}) | {:.0} | {:.2} |\n",
            row.what,
            row.measured.len(),
            wall.median,
            wall.min,
            wall.max,
            peak as f64 / MIB,
            added / MIB
        ));
    }
    text
}

/// Every number and fact.
pub fn to_json(setting: &Setting, outcome: &Outcome) -> Value {
    let mut json = report::to_json(setting, &outcome.main, &verdicts(outcome));
    let rows = outcome.rows.0.iter().map(|row| {
        let runs: Vec<Value> = row.measured.iter().map(super::Measured::to_json).collect();
        json!({ "what": row.what, "runs": runs, "added_bytes": row.added })
    });
    json["vml_alone"] = rows.collect();
    json["differing_bytes"] = json!({ "blocks": outcome.differing[0], "clusters": outcome.differing[1] });
    json
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;
    use crate::compare::corpus::{Contents, Kind};
    use crate::compare::machine::Machine;
    use crate::compare::report::ToolInfo;
    use crate::compare::results::Results;
    use crate::compare::run;

    fn took(wall_s: f64) -> Measured {
        Measured { wall_s, cpu_s: wall_s, peak_bytes: 100 << 20, ..Measured::default() }
    }

    fn outcome() -> Outcome {
        let mut results = Results::default();
        for (tool, wall_s, size) in [("vml", 1.0, 300), ("restic", 4.0, 400), (TREES, 9.0, 250_u64)] {
            results.add_size(tool, 3, size << 20);
            results.add(tool, Step::Save(1), took(wall_s));
        }
        results.add("restic", Step::Build, took(10.0));
        results.add("vml", Step::Overlay, took(2.0));
        results.add_written("vml", Step::Overlay, 12 << 20);
        let mut rows = Rows::default();
        rows.add(&alone("disk", "base"), took(1.0), 100 << 20);
        rows.add(&after("disk", "tree", "base"), took(1.0), 20 << 20);
        rows.add(&as_format("raw"), took(1.0), 100 << 20);
        rows.add(&as_format("qcow2"), took(1.0), 100 << 10);
        for (wall_s, by_itself) in [(1.2, 1.0), (9.0, 1.0), (1.1, 1.0)] {
            rows.add(OVERLAY[0], took(wall_s), 5);
            rows.add(OVERLAY[1], took(by_itself), 5);
        }
        let states = vec![Contents { files: 1, bytes: 500 << 20 }; 4];
        let main = run::Outcome { kind: Kind::Images, results, states, compared: Vec::new() };
        Outcome { main, rows, differing: [10 << 20, 11 << 20] }
    }

    fn goal(what: &str) -> (Option<f64>, String) {
        let found = verdicts(&outcome()).into_iter().find(|verdict| verdict.what.starts_with(what));
        found.map(|verdict| (verdict.measured, verdict.word())).unwrap()
    }

    #[test]
    fn every_goal_is_judged_by_what_stands_beside_it() {
        assert_eq!(goal("repository after all disks: bytes, vml / the smallest of"), (Some(0.75), "**not met**, 1 % above".to_owned()));
        assert_eq!(goal("repository after all disks: bytes, vml / vml, trees"), (Some(1.2), "**not met**, 9 % above".to_owned()));
        assert_eq!(goal("save the disk of base after its tree"), (Some(0.2), "**not met**, 67 % above".to_owned()));
        assert_eq!(goal("save the tree of base after its disk"), (None, "not measured".to_owned()));
        assert_eq!(goal("save w3 as qcow2: bytes added / of w3 as raw"), (Some(0.0009765625), "met".to_owned()));
        assert_eq!(goal("save w1: time, vml / restic"), (Some(0.25), "met".to_owned()));
        assert_eq!(goal("save an overlay with 100 MiB changed: time / of these 100 MiB alone"), (Some(1.2), "met".to_owned()));
        assert_eq!(goal("build w3 as an overlay"), (Some(0.2), "met".to_owned()));
        assert_eq!(goal("save 1 TiB with 1 GiB of data: peak memory").0, None);
        assert!(!verdicts(&outcome()).iter().any(|verdict| verdict.what.contains("vmdk")), "it was not saved");
    }

    #[test]
    fn tables_have_what_was_written_and_each_save() {
        let tool = |name| ToolInfo { name, version: format!("{name} 1"), settings: "plain", guarantees: "None." };
        let machine = Machine { cores: 2, memory_bytes: 3 << 30, cpu: "A CPU".to_owned(), kernel: "6.1".to_owned() };
        let setting = Setting { machine, tools: ["vml", "restic"].map(tool).to_vec(), runs: 3, in_memory: true };
        let text = markdown(&setting, &outcome());
        assert!(text.contains("| build w3 as an overlay | 12.0 |  |\n\nThe built state differs from the base in 10.0 MiB"), "{text}");
        assert!(text.contains("| an overlay with 100 MiB changed | 3 | 1.20 (1.10–9.00) | 100 | 0.00 |\n"), "{text}");
        assert!(text.contains("| w3 | 1 | 500 | 300.0 | 400.0 | 250.0 | 0.750 |\n"), "{text}");
        for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(columns.iter().all(|count| *count == columns[0]), "{table}");
        }
        let json = to_json(&setting, &outcome());
        assert_eq!((&json["vml_alone"][4]["runs"][1]["wall_s"], &json["differing_bytes"]["blocks"]), (&9.0.into(), &(10 << 20).into()));
    }
}
