use super::*;
use crate::compare::corpus::Contents;
use crate::compare::measure::Measured;
use crate::compare::verdict::verdicts;

fn outcome() -> Outcome {
    let mut results = Results::default();
    for (wall_s, peak) in [(1.0, 90_u64), (1.5, 120), (1.25, 80)] {
        results.add(
            "vml",
            Step::Save(0),
            Measured { wall_s, cpu_s: 2.0 * wall_s, peak_bytes: peak << 20, read_bytes: 64 << 20, written_bytes: 0 },
        );
        results.add("restic", Step::Save(0), Measured { wall_s: 5.0, cpu_s: 9.0, peak_bytes: 130 << 20, ..Measured::default() });
    }
    results.add(FLOOR, Step::Build, Measured { wall_s: 1.0, cpu_s: 1.0, peak_bytes: 0, ..Measured::default() });
    results.add_size("vml", 0, 75 << 20);
    results.add_size("restic", 0, 100 << 20);
    let states = vec![Contents { files: 7, bytes: 200 << 20 }; STATES.len()];
    Outcome { kind: Kind::Trees, results, states, compared: vec!["All are equal.".to_owned()] }
}

fn tools() -> Vec<ToolInfo> {
    ["vml", "restic"].map(|name| ToolInfo { name, version: format!("{name} 1"), settings: "plain", guarantees: "None." }).to_vec()
}

fn setting(in_memory: bool) -> Setting {
    let machine = Machine { cores: 2, memory_bytes: 3 << 30, cpu: "A CPU".to_owned(), kernel: "6.1".to_owned() };
    Setting { machine, tools: tools(), runs: 3, in_memory }
}

fn page(in_memory: bool) -> String {
    let outcome = outcome();
    markdown(&setting(in_memory), &outcome, &verdicts(&outcome.results), &[], "")
}

#[test]
fn tables_have_medians_spreads_and_ratios() {
    let text = page(true);
    assert!(
        text.starts_with("2 cores of A CPU, 3.0 GiB of memory, Linux 6.1. Repositories and built trees in memory (tmpfs); medians of 3")
    );
    assert!(text.contains("|  | vml | restic | cp -a |\n|---|---:|---:|---:|\n| save base | 1.25 (1.00–1.50) | 5.00 |  |\n"), "{text}");
    assert!(text.contains("|  | restic | cp -a |\n|---|---:|---:|\n| save base | 0.25 |  |\n"), "{text}");
    assert!(text.contains("| base | 7 | 200 | 75.0 | 100.0 | 0.750 |\n"), "{text}");
    assert!(text.contains("| save base | 120 | 130 |\n") && text.contains("| save base | 2.50 | 9.00 |\n"), "{text}");
    assert!(text.contains("calls, MiB\n\n|  | vml | restic |\n|---|---:|---:|\n| save base | 64.0 | 0.0 |\n"), "{text}");
    assert!(text.contains("\n\nAll are equal.\n\n"));
    assert!(text.contains("- **vml** (vml 1): plain. None.\n"));
}

#[test]
fn every_row_of_a_table_has_its_columns() {
    let text = page(false);
    for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
        let columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert!(columns.iter().all(|count| *count == columns[0]), "{table}");
    }
}

#[test]
fn json_has_the_goals_and_the_raw_numbers() {
    let value = to_json(&setting(true), &outcome(), &verdicts(&outcome().results));
    assert_eq!(value["goals"][2]["met"], true);
    assert_eq!(value["goals"][3]["met"], Value::Null);
    assert_eq!(value["results"]["times"][0]["tool"], FLOOR);
    assert_eq!(value["states"][4]["bytes"], 200 << 20);
}

#[test]
fn images_have_their_own_rows_and_columns() {
    let mut outcome = outcome();
    outcome.kind = Kind::Images;
    outcome.states.truncate(4);
    outcome.results.add("vml", Step::Overlay, Measured { wall_s: 0.5, cpu_s: 0.5, peak_bytes: 1, ..Measured::default() });
    outcome.results.add_size("vml, trees", 0, 50 << 20);
    let text = markdown(&setting(true), &outcome, &[], &["vml, trees"], "\nMore.\n");
    assert!(text.contains("| build w3 as an overlay | 0.50 |  |  |\n"), "{text}");
    assert!(text.contains("| base | 7 | 200 | 75.0 | 100.0 | 50.0 | 0.750 |\n"), "{text}");
    assert!(!text.contains("v1") && text.contains("built images in memory") && text.contains("\nMore.\n"), "{text}");
}
