//! The tables of the page, and the JSON; pure functions of what was measured.

use super::corpus::STATES;
use super::machine::Machine;
use super::results::{FLOOR, Results, Spread, Step};
use super::run::Outcome;
use super::verdict::verdicts;
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

const MIB: f64 = 1_048_576.0;

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

/// The whole block of the comparison.
pub fn markdown(machine: &Machine, tools: &[ToolInfo], runs: u16, in_memory: bool, outcome: &Outcome) -> String {
    let place = if in_memory { "in memory (tmpfs)" } else { "on a file system that is not in memory: its writing is part of the times" };
    let mut text = format!(
        "{} Repositories and built trees {place}; medians of {runs} runs, smallest to largest in brackets.\n\n",
        machine_line(machine)
    );
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    text.push_str(&goals(&outcome.results));
    text.push_str("\n### Wall time, seconds\n\n");
    text.push_str(&times(&outcome.results, &names));
    text.push_str("\n### CPU time, seconds of user and system\n\n");
    text.push_str(&field(&outcome.results, &names, |spread| format!("{:.2}", spread.median), |measured| measured.cpu_s));
    text.push_str("\n### Peak resident memory, MiB\n\n");
    text.push_str(&field(&outcome.results, &names, |spread| format!("{:.0}", spread.max), |measured| measured.peak_bytes as f64 / MIB));
    text.push_str("\n### Repository after each state, MiB\n\n");
    text.push_str(&sizes(outcome, &names));
    if let Some(members) = outcome.compared_members {
        text.push_str(&format!("\nThe tree that vml built in the first run was compared with the state: {members} members are equal.\n"));
    }
    text.push_str("\n### Versions and settings\n\n");
    for tool in tools {
        text.push_str(&format!("- **{}** ({}): {}. {}\n", tool.name, tool.version, tool.settings, tool.guarantees));
    }
    text
}

fn goals(results: &Results) -> String {
    let mut text = "| goal | at most | measured | |\n|---|---:|---:|---|\n".to_owned();
    for verdict in verdicts(results) {
        let number = |value: f64| if verdict.unit.is_empty() { format!("{value:.2}") } else { format!("{value:.0}{}", verdict.unit) };
        let measured = verdict.measured.map_or("–".to_owned(), number);
        text.push_str(&format!("| {} | {} | {measured} | {} |\n", verdict.what, number(verdict.goal), verdict.word()));
    }
    text
}

fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, state) in STATES.iter().enumerate() {
        steps.push(Step::Save(number));
        if *state == super::corpus::AGAIN {
            steps.push(Step::SaveAgain);
        }
    }
    steps.extend([Step::Build, Step::List]);
    steps
}

fn head(first: &str, columns: &[String]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()))
}

/// Wall times, and for every other tool how vml's compares.
fn times(results: &Results, names: &[&str]) -> String {
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != "vml").chain([FLOOR]).collect();
    let mut columns: Vec<String> = names.iter().map(ToString::to_string).chain([FLOOR.to_owned()]).collect();
    columns.extend(others.iter().map(|other| format!("vml / {other}")));
    let mut text = head("", &columns);
    for step in steps() {
        let mut cells: Vec<String> = names.iter().copied().chain([FLOOR]).map(|name| spread_cell(results, name, step)).collect();
        for other in &others {
            let ratio = results.wall("vml", step).zip(results.wall(other, step)).map(|(vml, other)| vml / other);
            cells.push(ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")));
        }
        text.push_str(&format!("| {} | {} |\n", step.title(), cells.join(" | ")));
    }
    text
}

fn spread_cell(results: &Results, name: &str, step: Step) -> String {
    // Listing takes milliseconds.
    let digits = if step == Step::List { 3 } else { 2 };
    let cell = |spread: Spread| format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.min, spread.max);
    results.spread(name, step, |measured| measured.wall_s).map_or(String::new(), cell)
}

fn field(
    results: &Results,
    names: &[&str],
    show: impl Fn(Spread) -> String,
    of: impl Fn(&super::measure::Measured) -> f64 + Copy,
) -> String {
    let mut text = head("", &names.iter().map(ToString::to_string).collect::<Vec<_>>());
    for step in steps() {
        let cells: Vec<String> = names.iter().map(|name| results.spread(name, step, of).map_or(String::new(), &show)).collect();
        text.push_str(&format!("| {} | {} |\n", step.title(), cells.join(" | ")));
    }
    text
}

fn sizes(outcome: &Outcome, names: &[&str]) -> String {
    let results = &outcome.results;
    let mut columns = vec!["files".to_owned(), "MiB in them".to_owned()];
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
pub fn to_json(machine: &Machine, tools: &[ToolInfo], runs: u16, outcome: &Outcome) -> Value {
    let tools: Vec<Value> = tools
        .iter()
        .map(|tool| json!({ "name": tool.name, "version": tool.version, "settings": tool.settings, "guarantees": tool.guarantees }))
        .collect();
    let goals: Vec<Value> = verdicts(&outcome.results)
        .iter()
        .map(|verdict| {
            json!({
                "what": verdict.what,
                "at_most": verdict.goal,
                "measured": verdict.measured,
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
        "machine": machine_json(machine),
        "runs": runs,
        "tools": tools,
        "states": states,
        "goals": goals,
        "compared_members": outcome.compared_members,
        "results": outcome.results.to_json(),
    })
}

/// The machine's facts.
pub fn machine_json(machine: &Machine) -> Value {
    json!({ "cores": machine.cores, "memory_bytes": machine.memory_bytes, "cpu": machine.cpu, "kernel": machine.kernel })
}

#[cfg(test)]
mod tests;
