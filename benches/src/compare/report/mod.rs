//! The tables of the page, and the JSON; pure functions of what was measured.

use super::corpus::{Kind, STATES};
use super::machine::Machine;
use super::results::{COMPACTED, FLOOR, LIMIT, Results, Spread, Step};
use super::run::Outcome;
use super::verdict::{HEAD, Verdict};
use serde_json::{Value, json};

/// A tool as the page tells of it.
#[derive(Debug, Clone)]
pub struct ToolInfo {
    /// Its name.
    pub name: &'static str,
    /// What it prints about its version.
    pub version: String,
    /// How it was called.
    pub settings: &'static str,
    /// What it verifies and encrypts.
    pub guarantees: &'static str,
}

/// How everything was measured.
#[derive(Debug, Clone)]
pub struct Setting {
    /// On what.
    pub machine: Machine,
    /// With what.
    pub tools: Vec<ToolInfo>,
    /// How often.
    pub runs: u16,
    /// Whether repositories and what was built are in memory.
    pub in_memory: bool,
}

/// Bytes of a MiB.
pub const MIB: f64 = 1_048_576.0;

/// One line about the machine.
pub fn machine_line(machine: &Machine) -> String {
    format!(
        "{} cores of {}, {:.1} GiB of memory, Linux {}.",
        machine.cores,
        machine.cpu,
        machine.memory_bytes as f64 / (MIB * 1024.0),
        machine.kernel
    )
}

/// The whole block of a comparison: `columns` are further ones in the table of sizes, `more` further tables.
pub fn markdown(setting: &Setting, outcome: &Outcome, goals: &[Verdict], columns: &[&str], more: &str) -> String {
    let place =
        if setting.in_memory { "in memory (tmpfs)" } else { "on a file system that is not in memory: its writing is part of the times" };
    let built = if outcome.kind == Kind::Trees { "trees" } else { "images" };
    let mut text = format!(
        "{} Repositories and built {built} {place}; {}.{}\n\n",
        machine_line(&setting.machine),
        if setting.runs == 1 { "one run".to_owned() } else { format!("medians of {} runs, smallest to largest in brackets", setting.runs) },
        once(setting, outcome)
    );
    let names: Vec<&str> = setting.tools.iter().map(|tool| tool.name).collect();
    let results = &outcome.results;
    let compacted: &[&str] = if results.has(Step::Compact) { &[COMPACTED] } else { &[] };
    let with_floors = [&names[..], compacted, &[FLOOR, LIMIT]].concat();
    let timed: Vec<&str> = with_floors.iter().copied().filter(|name| results.has_tool(name)).collect();
    text.push_str(HEAD);
    text.extend(goals.iter().map(Verdict::row));
    text.push_str("\n### Wall time, seconds\n\n");
    text.push_str(&table(outcome, &timed, &|name, step| spread_cell(results, name, step)));
    text.push_str("\n### Wall time of vml, as a part of the others'\n\n");
    let others: Vec<&str> = timed.iter().copied().filter(|name| !["vml", COMPACTED].contains(name)).collect();
    text.push_str(&table(outcome, &others, &|name, step| {
        results.ratio([("vml", step), (name, step)]).map_or(String::new(), |ratio| format!("{:.2}", ratio.median))
    }));
    let own = [&names[..], compacted].concat();
    let field = |text: &mut String, title: &str, show: &dyn Fn(Spread) -> String, of: &dyn Fn(&super::measure::Measured) -> f64| {
        text.push_str(&format!("\n### {title}\n\n"));
        text.push_str(&table(outcome, &own, &|name, step| results.spread(name, step, of).map_or(String::new(), show)));
    };
    field(&mut text, "CPU time, seconds of user and system", &|spread| format!("{:.2}", spread.median), &|measured| measured.cpu_s);
    field(&mut text, "Peak resident memory, MiB", &|spread| format!("{:.0}", spread.max), &|measured| measured.peak_bytes as f64 / MIB);
    let mib = |spread: Spread| format!("{:.1}", spread.median);
    field(&mut text, "Read by read calls, MiB", &mib, &|measured| measured.read_bytes as f64 / MIB);
    field(&mut text, "Written by write calls, MiB", &mib, &|measured| measured.written_bytes as f64 / MIB);
    text.push_str("\n### Repository after each state, MiB\n\n");
    text.push_str(&sizes(outcome, &[&names, compacted, columns].concat()));
    text.push_str(more);
    if !outcome.compared.is_empty() {
        text.push_str(&format!("\n{}\n", outcome.compared.join(" ")));
    }
    text.push_str("\n### Versions and settings\n\n");
    for tool in &setting.tools {
        text.push_str(&format!("- **{}** ({}): {}. {}\n", tool.name, tool.version, tool.settings, tool.guarantees));
    }
    text
}

/// Which tools were measured in one run only.
fn once(setting: &Setting, outcome: &Outcome) -> String {
    let once = |name: &&str| setting.runs > 1 && outcome.results.runs(name, Step::Save(0)) == 1;
    let names: Vec<&str> = setting.tools.iter().map(|tool| tool.name).filter(once).collect();
    if names.is_empty() { String::new() } else { format!(" One run of {}.", names.join(", ")) }
}

/// A table with a row for each step that has something to show.
fn table(outcome: &Outcome, names: &[&str], cell: &dyn Fn(&str, Step) -> String) -> String {
    let mut text = head("", &names.iter().map(ToString::to_string).collect::<Vec<_>>());
    for step in Step::all(outcome.states.len()) {
        let cells: Vec<String> = names.iter().map(|name| cell(name, step)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            text.push_str(&format!("| {} | {} |\n", step.title(), cells.join(" | ")));
        }
    }
    text
}

fn spread_cell(results: &Results, name: &str, step: Step) -> String {
    // Listing takes milliseconds.
    let digits = if step == Step::List { 3 } else { 2 };
    let cell = |spread: Spread| match spread.min < spread.max {
        true => format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.min, spread.max),
        false => format!("{:.digits$}", spread.median),
    };
    results.spread(name, step, |measured| measured.wall_s).map_or(String::new(), cell)
}

/// The head of a table of numbers.
pub fn head(first: &str, columns: &[String]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()))
}

fn sizes(outcome: &Outcome, names: &[&str]) -> String {
    let results = &outcome.results;
    let mut columns = match outcome.kind {
        Kind::Trees => ["files", "MiB in them"].map(str::to_owned).to_vec(),
        Kind::Images => ["images", "MiB of data in it"].map(str::to_owned).to_vec(),
    };
    columns.extend(names.iter().map(ToString::to_string));
    columns.push("vml / restic".to_owned());
    let mut text = head("after", &columns);
    for (number, (state, contents)) in STATES.iter().zip(&outcome.states).enumerate() {
        let mut cells = vec![contents.files.to_string(), format!("{:.0}", contents.bytes as f64 / MIB)];
        cells.extend(names.iter().map(|name| results.size(name, number).map_or(String::new(), |bytes| format!("{:.1}", bytes / MIB))));
        let ratio = results.size("vml", number).zip(results.size("restic", number)).map(|(vml, restic)| vml / restic);
        cells.push(ratio.map_or(String::new(), |ratio| format!("{ratio:.3}")));
        text.push_str(&format!("| {state} | {} |\n", cells.join(" | ")));
    }
    text
}

/// Every number and fact.
pub fn to_json(setting: &Setting, outcome: &Outcome, goals: &[Verdict]) -> Value {
    let tools: Vec<Value> = setting
        .tools
        .iter()
        .map(|tool| json!({ "name": tool.name, "version": tool.version, "settings": tool.settings, "guarantees": tool.guarantees }))
        .collect();
    let goals: Vec<Value> = goals
        .iter()
        .map(|verdict| {
            json!({
                "what": verdict.what,
                "at_most": verdict.goal,
                "measured": verdict.measured,
                "range": verdict.range,
                "unit": verdict.unit,
                "met": verdict.measured.map(|measured| measured <= verdict.goal),
            })
        })
        .collect();
    let states: Vec<Value> = STATES
        .iter()
        .zip(&outcome.states)
        .map(|(state, contents)| json!({ "name": state, "files": contents.files, "bytes": contents.bytes }))
        .collect();
    json!({
        "machine": machine_json(&setting.machine),
        "runs": setting.runs,
        "tools": tools,
        "states": states,
        "goals": goals,
        "compared": outcome.compared,
        "results": outcome.results.to_json(),
    })
}

/// The machine's facts.
pub fn machine_json(machine: &Machine) -> Value {
    json!({ "cores": machine.cores, "memory_bytes": machine.memory_bytes, "cpu": machine.cpu, "kernel": machine.kernel })
}

#[cfg(test)]
mod tests;
