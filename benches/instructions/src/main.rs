//! Runs one of the hot parts once, on bytes that are the same every time, so that its instructions can be counted.
//!
//! ```text
//! instructions --list       the names of all kernels, one a line
//! instructions --machine    what of the processor decides which code the libraries take
//! instructions KERNEL       prepares ─► counting on ─► the kernel ─► counting off; prints a number that says what it did
//! ```
//! `scripts/test-instructions.sh` starts it under callgrind and compares the counts with `baseline.toml`; `docs/testing.md` says more.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod kernels;
mod valgrind;

use kernels::KERNELS;
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let told = match args.next().as_deref() {
        Some("--list") => Ok(KERNELS.map(|(name, _)| name).join("\n")),
        Some("--machine") => Ok(machine()),
        Some(name) => run(name),
        None => Err("give the name of a kernel, --list or --machine".into()),
    };
    match told {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str) -> Result<String, Box<dyn Error>> {
    let (_, kernel) = KERNELS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("there is no kernel {name:?}"))?;
    let prepared = kernel()?;
    valgrind::start_counting();
    let done = prepared();
    valgrind::stop_counting();
    Ok(done?.to_string())
}

/// Under valgrind this is the processor that it plays, not the one below it.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("aes", is_x86_feature_detected!("aes")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    format!("{} {}", std::env::consts::ARCH, features.join("+"))
}
