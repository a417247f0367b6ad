//! What the script that counts relies on: the program, and a baseline for each of its kernels.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

fn told(argument: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_instructions")).arg(argument).output().unwrap();
    assert!(output.status.success(), "{argument}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_kernel_runs_and_has_a_baseline() {
    let baseline = include_str!("../baseline.toml");
    let counts = baseline.split("[counts]\n").nth(1).unwrap();
    let known: Vec<&str> = counts.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    let list = told("--list");
    assert_eq!(list.lines().collect::<Vec<_>>(), known);
    assert!(told("find_hit").trim().parse::<usize>().unwrap() > 0 && !told("--machine").trim().is_empty());
    assert!(!Command::new(env!("CARGO_BIN_EXE_instructions")).arg("nothing").output().unwrap().status.success());
}
