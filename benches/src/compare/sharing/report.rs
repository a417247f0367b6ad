//! Goals, table and JSON; pure functions of what was measured.

use super::{CLIENTS, CROWD_PULLS, DELAY, Run, Sizes};
use crate::compare::report::MIB;
use crate::compare::results::Spread;
use crate::compare::verdict::Verdict;
use serde_json::{Value, json};

/// Every goal; ratios are of medians.
pub fn verdicts(sizes: &Sizes, runs: &[Run]) -> Vec<Verdict> {
    let median = |of: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(of)).map(|spread| spread.median);
    let verdict = |what: &str, goal: f64, measured: Option<f64>, unit: &'static str| Verdict::new(what, goal, measured, unit);
    let ratio = |one: f64, other: f64| Some(one / other);
    // Speed is at least so much of another when time is at most one part in so much of the other's.
    let slower = |far: &dyn Fn(&Run) -> f64, local: &dyn Fn(&Run) -> f64| median(far).zip(median(local)).map(|(far, local)| far / local);
    let round_trip = 2 * DELAY.as_millis();
    vec![
        verdict(
            "share file of w2, --small: bytes / of a tar of what changed through zstd -19 --long",
            0.9,
            ratio(sizes.share_small as f64, sizes.tar as f64),
            "",
        ),
        verdict(
            "share file of w2 --since w1: bytes / of the whole disk as a compressed image",
            0.05,
            ratio(sizes.since as f64, sizes.image as f64),
            "",
        ),
        verdict(
            "push of w2 to a service that has w1: bytes sent / stored by the save",
            1.05,
            median(&|run| run.sent as f64).map(|sent| sent / sizes.saved as f64),
            "",
        ),
        verdict("a second push: KiB sent", 64.0, median(&|run| run.sent_again as f64 / 1024.0), " KiB"),
        verdict(
            &format!("push with a round trip of {round_trip} ms: time / of the same without"),
            1.25,
            slower(&|run| run.push_far_s, &|run| run.push_near_s),
            "",
        ),
        verdict(
            &format!("push with a round trip of {round_trip} ms: time / of a push to a directory"),
            1.25,
            slower(&|run| run.push_far_s, &|run| run.push_local_s),
            "",
        ),
        verdict(
            &format!("pull with a round trip of {round_trip} ms: time / of the same without"),
            1.25,
            slower(&|run| run.pull_far_s, &|run| run.pull_near_s),
            "",
        ),
        verdict(
            &format!("pull with a round trip of {round_trip} ms: time / of a pull from a directory"),
            1.25,
            slower(&|run| run.pull_far_s, &|run| run.pull_local_s),
            "",
        ),
        verdict(
            &format!("{CLIENTS} clients pull at once: peak memory of the service"),
            300.0,
            median(&|run| run.crowd_peak as f64 / MIB),
            " MiB",
        ),
    ]
}

/// The block of the page.
pub fn markdown(machine_line: &str, sizes: &Sizes, runs: &[Run]) -> String {
    let mut text = format!(
        "{machine_line} A base and two states upon it, w1 and w2. Repositories are in memory, services on loopback; a round trip is made longer by a proxy that delivers each byte {} ms after it was sent, \
         in both directions. The crowd pulls {CROWD_PULLS}, the directory /usr/bin of the base. Medians of {} runs, smallest to largest in brackets; sizes are the same in each.\n\n\
         | goal | at most | measured | |\n|---|---:|---:|---|\n",
        DELAY.as_millis(),
        runs.len()
    );
    text.extend(verdicts(sizes, runs).iter().map(Verdict::row));
    text.push_str("\n| what | seconds | MiB |\n|---|---:|---:|\n");
    for (name, bytes) in [
        ("share file of w2", sizes.share),
        ("the same with --small", sizes.share_small),
        ("tar of what changed, zstd -19 --long", sizes.tar),
        ("share file of w2 --since w1", sizes.since),
        ("the whole disk as a compressed image", sizes.image),
        ("stored by the save of w2", sizes.saved),
    ] {
        text.push_str(&format!("| {name} | | {:.1} |\n", bytes as f64 / MIB));
    }
    let row = |name: &str, seconds: Option<&dyn Fn(&Run) -> f64>, bytes: Option<&dyn Fn(&Run) -> u64>| {
        let spread = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |s| format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max))
        };
        let seconds = seconds.and_then(|of| Spread::of(runs.iter().map(of)));
        let bytes = bytes.and_then(|of| Spread::of(runs.iter().map(|run| of(run) as f64 / MIB)));
        format!("| {name} | {} | {} |\n", spread(seconds, 2), spread(bytes, 2))
    };
    text.push_str(&row("push of w2 after w1, sent", None, Some(&|run| run.sent)));
    text.push_str(&row("push once more, sent", None, Some(&|run| run.sent_again)));
    text.push_str(&row("push of base, w1, w2 to a directory", Some(&|run| run.push_local_s), None));
    text.push_str(&row("the same to a service on loopback", Some(&|run| run.push_near_s), None));
    text.push_str(&row("the same to a service far away", Some(&|run| run.push_far_s), None));
    text.push_str(&row("pull of base, w1, w2 from a directory", Some(&|run| run.pull_local_s), None));
    text.push_str(&row("the same from a service on loopback", Some(&|run| run.pull_near_s), None));
    text.push_str(&row("the same from a service far away", Some(&|run| run.pull_far_s), None));
    text.push_str(&row(&format!("{CLIENTS} clients pull, in all"), Some(&|run| run.crowd_s), Some(&|run| run.crowd_bytes)));
    text.push_str(&row("peak memory of the service", None, Some(&|run| run.crowd_peak)));
    text
}

/// Every number.
pub fn to_json(sizes: &Sizes, runs: &[Run]) -> Value {
    let one = |run: &Run| {
        json!({
            "sent": run.sent, "sent_again": run.sent_again, "push_local_s": run.push_local_s, "push_near_s": run.push_near_s, "push_far_s": run.push_far_s,
            "pull_local_s": run.pull_local_s, "pull_near_s": run.pull_near_s, "pull_far_s": run.pull_far_s, "crowd_peak": run.crowd_peak, "crowd_bytes": run.crowd_bytes,
            "crowd_s": run.crowd_s,
        })
    };
    json!({
        "share": sizes.share, "share_small": sizes.share_small, "tar": sizes.tar, "since": sizes.since, "image": sizes.image, "saved": sizes.saved,
        "runs": runs.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_medians() {
        let sizes = Sizes { share: 90, share_small: 80, tar: 100, since: 3, image: 100, saved: 1000 };
        let run = |far: f64| Run {
            sent: 1040,
            sent_again: 3000,
            push_local_s: 1.0,
            push_near_s: 1.0,
            push_far_s: far,
            pull_local_s: 1.0,
            pull_near_s: 1.0,
            pull_far_s: 1.1,
            crowd_peak: 400 << 20,
            crowd_bytes: 1,
            crowd_s: 2.0,
        };
        let runs = [run(1.0), run(3.0), run(1.2)];
        let words: Vec<String> = verdicts(&sizes, &runs).iter().map(Verdict::word).collect();
        assert_eq!(words, ["met", "met", "met", "met", "met", "met", "met", "met", "**not met**, 33 % above"]);
        let text = markdown("2 cores.", &sizes, &runs);
        assert!(text.contains("| the same to a service far away | 1.20 (1.00–3.00) |"), "{text}");
        assert_eq!(to_json(&sizes, &runs)["runs"].as_array().unwrap().len(), 3);
    }
}
