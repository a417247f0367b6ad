//! Goals, table and JSON; pure functions of what was measured.

use super::{CHANGED, FILE_LEN, FILES, IDLE_S, Run};
use crate::compare::report::MIB;
use crate::compare::results::Spread;
use crate::compare::verdict::Verdict;
use serde_json::{Value, json};

/// Every goal; ratios are of medians.
pub fn verdicts(runs: &[Run]) -> Vec<Verdict> {
    let median = |of: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(of)).map(|spread| spread.median);
    let ratio = |what: &str, goal: f64, of: &dyn Fn(&Run) -> f64, beside: &dyn Fn(&Run) -> f64| {
        Verdict::new(what, goal, median(of).zip(median(beside)).map(|(of, beside)| of / beside), "")
    };
    vec![
        ratio("second save of a running machine's disks: bytes read / changed", 1.2, &|run| run.second_read as f64, &|_| CHANGED as f64),
        ratio("second save of a running machine's disks: time / of the first", 0.15, &|run| run.second_s, &|run| run.first_s),
        ratio(
            &format!("second save with memory, {IDLE_S} s after the first: stored bytes / of the first"),
            0.2,
            &|run| run.memory_second as f64,
            &|run| run.memory_first as f64,
        ),
        ratio(
            "save over SSH, 1 % of the files changed: bytes received besides the listing / of these files",
            1.3,
            &|run| run.wire.saturating_sub(run.listing) as f64,
            &|_| (FILES.div_ceil(100) * FILE_LEN) as f64,
        ),
        ratio(
            "save over SSH, 1 % of the files changed: time / of a tar of the same directories over ssh",
            0.2,
            &|run| run.files_s,
            &|run| run.tar_s,
        ),
        ratio("`vml switch --no-save`: time / of QEMU's own save and restore", 1.3, &|run| run.switch_s, &|run| run.plain_s),
    ]
}

/// The block of the page.
pub fn markdown(machine_line: &str, runs: &[Run]) -> String {
    let mut text = format!(
        "{machine_line} Two machines under QEMU without KVM, 512 MiB of memory each; a system disk of 2 GiB and a disk of 6 GiB, both overlays on images in memory; \
         {} MiB of random bytes are written between the first save and the second. Over SSH the usual directories are saved, with {FILES} files of {} KiB in /srv, of which one in a hundred is written anew. Medians of {} runs, smallest to largest in brackets.\n\n\
         | goal | at most | measured | |\n|---|---:|---:|---|\n",
        CHANGED >> 20,
        FILE_LEN >> 10,
        runs.len()
    );
    text.extend(verdicts(runs).iter().map(Verdict::row));
    text.push_str("\n| step | seconds | MiB |\n|---|---:|---:|\n");
    let row = |name: &str, seconds: Option<&dyn Fn(&Run) -> f64>, mib: Option<&dyn Fn(&Run) -> u64>| {
        let spread = |spread: Option<Spread>, digits: usize| {
            spread.map_or("–".to_owned(), |s| format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max))
        };
        let seconds = seconds.and_then(|of| Spread::of(runs.iter().map(of)));
        let mib = mib.and_then(|of| Spread::of(runs.iter().map(|run| of(run) as f64 / MIB)));
        format!("| {name} | {} | {} |\n", spread(seconds, 2), spread(mib, 1))
    };
    text.push_str(&row("first save of the disks, read", Some(&|run| run.first_s), Some(&|run| run.first_read)));
    text.push_str(&row("second save, read", Some(&|run| run.second_s), Some(&|run| run.second_read)));
    text.push_str(&row("first save with memory, stored", None, Some(&|run| run.memory_first)));
    text.push_str(&row("second, stored", None, Some(&|run| run.memory_second)));
    text.push_str(&row("save over SSH when nothing changed, received", None, Some(&|run| run.listing)));
    text.push_str(&row("save over SSH, 1 % of the files changed, received", Some(&|run| run.files_s), Some(&|run| run.wire)));
    text.push_str(&row("tar of the same directories over ssh", Some(&|run| run.tar_s), None));
    text.push_str(&row("`vml switch --no-save`", Some(&|run| run.switch_s), None));
    text.push_str(&row("QEMU's own save and restore", Some(&|run| run.plain_s), None));
    text
}

/// Every number.
pub fn to_json(runs: &[Run]) -> Value {
    let one = |run: &Run| {
        json!({
            "first_s": run.first_s, "first_read": run.first_read, "second_s": run.second_s, "second_read": run.second_read,
            "second_new": run.second_new, "memory_first": run.memory_first, "memory_second": run.memory_second,
            "listing": run.listing, "wire": run.wire, "files_s": run.files_s, "tar_s": run.tar_s,
            "switch_s": run.switch_s, "plain_s": run.plain_s,
        })
    };
    json!({ "changed_bytes": CHANGED, "runs": runs.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_medians() {
        let run = |second_s: f64, plain_s: f64| Run {
            first_s: 10.0,
            second_s,
            second_read: 110 << 20,
            memory_first: 100,
            memory_second: 15,
            listing: 1000,
            wire: 1000 + 20 * FILE_LEN,
            files_s: 1.0,
            tar_s: 10.0,
            switch_s: 2.0,
            plain_s,
            ..Run::default()
        };
        let runs = [run(1.0, 2.0), run(9.0, 1.0), run(1.2, 1.0)];
        let words: Vec<String> = verdicts(&runs).iter().map(Verdict::word).collect();
        assert_eq!(words, ["met", "met", "met", "met", "met", "**not met**, 54 % above"]);
        let text = markdown("2 cores.", &runs);
        assert!(text.contains("| second save, read | 1.20 (1.00–9.00) | 110.0 (110.0–110.0) |"), "{text}");
        assert_eq!(to_json(&runs)["runs"].as_array().unwrap().len(), 3);
    }
}
