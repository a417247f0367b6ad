use super::*;
use crate::compare::corpus::Contents;
use crate::compare::measure::Measured;

fn outcome() -> Outcome {
    let mut results = Results::default();
    for (wall_s, peak) in [(1.0, 90_u64), (1.5, 120), (1.25, 80)] {
        results.add("vml", Step::Save(0), Measured { wall_s, cpu_s: 2.0 * wall_s, peak_bytes: peak << 20 });
        results.add("restic", Step::Save(0), Measured { wall_s: 5.0, cpu_s: 9.0, peak_bytes: 130 << 20 });
    }
    results.add(FLOOR, Step::Build, Measured { wall_s: 1.0, cpu_s: 1.0, peak_bytes: 0 });
    results.add_size("vml", 0, 75 << 20);
    results.add_size("restic", 0, 100 << 20);
    Outcome { results, states: vec![Contents { files: 7, bytes: 200 << 20 }; STATES.len()], compared_members: Some(42) }
}

fn tools() -> Vec<ToolInfo> {
    ["vml", "restic"].map(|name| ToolInfo { name, version: format!("{name} 1"), settings: "plain", guarantees: "None." }).to_vec()
}

fn machine() -> Machine {
    Machine { cores: 2, memory_bytes: 3 << 30, cpu: "A CPU".to_owned(), kernel: "6.1".to_owned() }
}

#[test]
fn tables_have_medians_spreads_and_ratios() {
    let text = markdown(&machine(), &tools(), 3, true, &outcome());
    assert!(
        text.starts_with("2 cores of A CPU, 3.0 GiB of memory, Linux 6.1. Repositories and built trees in memory (tmpfs); medians of 3")
    );
    assert!(text.contains("| save base | 1.25 (1.00–1.50) | 5.00 (5.00–5.00) |  | 0.25 |  |\n"), "{text}");
    assert!(text.contains("| base | 7 | 200 | 75.0 | 100.0 | 0.750 |\n"), "{text}");
    assert!(text.contains("| save base | 120 | 130 |\n") && text.contains("| save base | 2.50 | 9.00 |\n"), "{text}");
    assert!(text.contains("42 members are equal"));
    assert!(text.contains("- **vml** (vml 1): plain. None.\n"));
}

#[test]
fn every_row_of_a_table_has_its_columns() {
    let text = markdown(&machine(), &tools(), 3, false, &outcome());
    for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
        let columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert!(columns.iter().all(|count| *count == columns[0]), "{table}");
    }
}

#[test]
fn json_has_the_goals_and_the_raw_numbers() {
    let value = to_json(&machine(), &tools(), 3, &outcome());
    assert_eq!(value["goals"][0]["met"], true);
    assert_eq!(value["goals"][1]["met"], Value::Null);
    assert_eq!(value["results"]["times"][0]["tool"], FLOOR);
    assert_eq!(value["states"][4]["bytes"], 200 << 20);
}
