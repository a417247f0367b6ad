//! `vml tune` on two disks of the corpus, as a table.

use super::extents::warm;
use super::report::{MIB, head};
use super::tools::Vml;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The states whose images are tried, one after the other in one repository.
pub const TUNED: [&str; 2] = ["base", "w1"];

/// All lines that `vml tune --json` prints: the trials, and the one that it recommends.
///
/// # Errors
/// When it fails.
pub fn run(vml: &Vml, images: &[PathBuf], work: &Path) -> Result<Vec<Value>> {
    let mut command = vml.command(work);
    command.args(["tune", "--json", "--work"]).arg(work).stdin(Stdio::null()).stderr(Stdio::inherit());
    for image in images {
        warm(image)?;
        command.arg("--disk").arg(image);
    }
    eprintln!("trying settings");
    let output = command.output().context("cannot start vml tune")?;
    if !output.status.success() {
        bail!("vml tune failed: {}", output.status);
    }
    let lines: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
    lines.context("vml tune printed what is no JSON")
}

/// The table. The first trial is the default, that of which the last line tells is recommended.
///
/// # Errors
/// When a line lacks what it should tell.
pub fn markdown(lines: &[Value]) -> Result<String> {
    let [trials @ .., last] = lines else { bail!("vml tune printed nothing") };
    let [default, ..] = trials else { bail!("vml tune made no trial") };
    let columns = ["frame", "level", "stored MiB", "of the default's", "index MiB", "chunks", "MB/s", "of the default's", "peak MiB"]
        .map(str::to_owned);
    let input = number(default, "input_bytes")? / MIB;
    let mut text = format!("{input:.0} MiB of data on the disks of {}.\n\n{}", TUNED.join(" and "), head("chunker", &columns));
    for trial in trials {
        let of_default = |key| Ok::<_, anyhow::Error>(number(trial, key)? / number(default, key)?);
        text.push_str(&format!(
            "| {} | {} | {} | {:.1} | {:.3} | {:.1} | {} | {:.0} | {:.2} | {:.0} |\n",
            word(trial, "chunker")?,
            word(trial, "frame")?,
            number(trial, "level")?,
            number(trial, "stored_bytes")? / MIB,
            of_default("stored_bytes")?,
            number(trial, "index_bytes")? / MIB,
            number(trial, "chunks")?,
            number(trial, "bytes_per_second")? / 1e6,
            of_default("bytes_per_second")?,
            number(trial, "peak_bytes")? / MIB,
        ));
    }
    let best = &last["recommended"];
    let options = format!("--chunker {} --frame {} --level {}", word(best, "chunker")?, word(best, "frame")?, number(best, "level")?);
    Ok(text + &format!("\nIt recommends `vml init {options}`.\n"))
}

fn number(line: &Value, key: &str) -> Result<f64> {
    line[key].as_f64().with_context(|| format!("a trial of vml tune has no number {key}"))
}

fn word<'a>(line: &'a Value, key: &str) -> Result<&'a str> {
    line[key].as_str().with_context(|| format!("a trial of vml tune has no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial(frame: &str, stored_mib: u64, speed: u64) -> Value {
        json!({
            "chunker": "fastcdc:2K/8K/64K", "frame": frame, "level": 3, "stored_bytes": stored_mib << 20, "index_bytes": 1 << 20,
            "chunks": 77, "input_bytes": 500 << 20, "bytes_per_second": speed, "elapsed_ms": 9, "peak_bytes": 64 << 20,
        })
    }

    #[test]
    fn trials_are_set_beside_the_default() {
        let lines = [trial("1M", 200, 100_000_000), trial("4M", 190, 80_000_000), json!({ "recommended": trial("4M", 190, 80_000_000) })];
        let text = markdown(&lines).unwrap();
        assert!(text.starts_with("500 MiB of data on the disks of base and w1.\n\n| chunker |"), "{text}");
        assert!(text.contains("| fastcdc:2K/8K/64K | 4M | 3 | 190.0 | 0.950 | 1.0 | 77 | 80 | 0.80 | 64 |\n"), "{text}");
        assert!(text.ends_with("`vml init --chunker fastcdc:2K/8K/64K --frame 4M --level 3`.\n"), "{text}");
        assert!(markdown(&[]).is_err() && markdown(&lines[2..]).is_err() && markdown(&lines[..2]).is_err());
    }
}
