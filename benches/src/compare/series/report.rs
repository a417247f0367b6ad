//! Goals, tables and JSON; pure functions of what was measured.

use super::{SAVES, Series};
use crate::compare::measure::Measured;
use crate::compare::report::MIB;
use crate::compare::results::Spread;
use crate::compare::verdict::{HEAD, Verdict};
use serde_json::{Value, json};

fn walls(rows: &[Measured]) -> Option<Spread> {
    Spread::of(rows.iter().map(|row| row.wall_s))
}

/// The ratio of medians; the range is of pairs.
fn ratio(one: &[Measured], other: &[Measured]) -> Option<Spread> {
    let within = Spread::of(one.iter().zip(other).map(|(one, other)| one.wall_s / other.wall_s))?;
    Some(Spread { median: walls(one)?.median / walls(other)?.median, ..within })
}

/// Every goal.
pub fn verdicts(series: &Series) -> Vec<Verdict> {
    let what = format!("build the latest of {} saves: time / of the same state saved once", SAVES + 1);
    let mut verdicts = vec![Verdict::ratio(&what, 1.3, ratio(&series.build, &series.build_alone))];
    if let Some((_, _, builds, _)) = &series.compacted {
        verdicts.push(Verdict::ratio(format!("after `vml compact`, {what}"), 1.3, ratio(builds, &series.build_alone)));
    }
    let tens = |rows: &[Measured]| walls(rows).map(|spread| spread.median);
    let saves = &series.saves[1..];
    let (first, last) = (tens(&saves[..saves.len().min(10)]), tens(&saves[saves.len().saturating_sub(10)..]));
    let growth = first.zip(last).map(|(first, last)| last / first);
    verdicts.push(Verdict::new("save with 1 % changed: time of the last ten / of the first ten", 1.2, growth, ""));
    let peak = series.saves.iter().chain(&series.build).map(|row| row.peak_bytes).max();
    verdicts.push(Verdict::new("peak memory of these vml commands", 256.0, peak.map(|bytes| bytes as f64 / MIB), " MiB"));
    verdicts
}

/// The block of the page.
pub fn markdown(machine_line: &str, series: &Series) -> String {
    let mut text = format!(
        "{machine_line} A copy of w3 is saved, then edited and saved {SAVES} times; the last time {}. Repositories and built trees in memory (tmpfs); medians of {} builds, smallest to largest in brackets.\n\n{HEAD}",
        series.edited,
        series.build.len()
    );
    text.extend(verdicts(series).iter().map(Verdict::row));
    let show = |spread: Option<Spread>| {
        spread.map_or(String::new(), |spread| format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max))
    };
    text.push_str("\n| what | seconds | MiB |\n|---|---:|---:|\n");
    let mut row = |what: &str, spread: Option<Spread>, bytes: Option<u64>| {
        let bytes = bytes.map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / MIB));
        text.push_str(&format!("| {what} | {} | {bytes} |\n", show(spread)));
    };
    row("first save, and the repository after it", walls(&series.saves[..1]), Some(series.bytes[0]));
    row("each of the others, and the repository after the last", walls(&series.saves[1..]), Some(series.bytes[1]));
    row("build the latest", walls(&series.build), None);
    row("the same state saved once: build, and that repository", walls(&series.build_alone), Some(series.alone_bytes));
    if let Some((took, bytes, builds, _)) = &series.compacted {
        row("`vml compact`, and the repository after it", walls(&[*took]), Some(*bytes));
        row("build the latest after it", walls(builds), None);
    }
    text.push_str(
        "\n| a build after so many saves | frames | MiB read | MiB decoded | decoded for each byte built |\n|---:|---:|---:|---:|---:|\n",
    );
    let mut row = |what: &str, counted: &super::Counted| {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let (read, decoded) = (mib(counted.stored_bytes), mib(counted.decoded_bytes));
        text.push_str(&format!("| {what} | {} | {read:.1} | {decoded:.1} | {:.2} |\n", counted.frames, counted.per_byte()));
    };
    series.counted.iter().for_each(|(saves, counted)| row(&saves.to_string(), counted));
    row("saved once", &series.counted_alone);
    if let Some((_, _, _, counted)) = &series.compacted {
        row("compacted", counted);
    }
    text.push_str(&format!("\n{}\n", series.compared));
    text
}

/// Every number.
pub fn to_json(series: &Series) -> Value {
    let rows = |rows: &[Measured]| rows.iter().map(Measured::to_json).collect::<Vec<_>>();
    let counted: Vec<Value> =
        series.counted.iter().map(|(saves, counted)| json!({ "saves": saves, "counted": counted.to_json() })).collect();
    let compacted = series.compacted.as_ref().map(|(took, bytes, builds, counted)| {
        json!({ "compact": took.to_json(), "bytes": bytes, "build": rows(builds), "counted": counted.to_json() })
    });
    json!({
        "saves": rows(&series.saves), "bytes": series.bytes, "alone_bytes": series.alone_bytes, "build": rows(&series.build),
        "build_alone": rows(&series.build_alone), "counted": counted, "counted_alone": series.counted_alone.to_json(), "compacted": compacted,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Counted, Edited};
    use super::*;

    fn series() -> Series {
        let took = |wall_s| Measured { wall_s, peak_bytes: 90 << 20, ..Measured::default() };
        let counted = Counted { frames: 10, stored_bytes: 4 << 20, decoded_bytes: 30 << 20, built_bytes: 10 << 20 };
        Series {
            saves: std::iter::once(3.0).chain((0..SAVES).map(|number| if number < 90 { 0.4 } else { 0.5 })).map(took).collect(),
            edited: Edited { files: 100, bytes: 1000, edited_files: 3, edited_bytes: 10 },
            bytes: [200 << 20, 300 << 20],
            alone_bytes: 210 << 20,
            build: [3.0, 4.0, 2.0].map(took).to_vec(),
            build_alone: [2.0; 3].map(took).to_vec(),
            counted: vec![(0, counted), (100, counted)],
            counted_alone: counted,
            compacted: None,
            compared: "Equal.".to_owned(),
        }
    }

    #[test]
    fn goals_and_tables_are_of_medians() {
        let words: Vec<String> = verdicts(&series()).iter().map(|verdict| verdict.shown() + " " + &verdict.word()).collect();
        assert_eq!(words, ["1.50 (1.00–2.00) **not met**, 15 % above", "1.25 **not met**, 4 % above", "90 MiB met"]);
        let text = markdown("2 cores.", &series());
        assert!(text.contains("| first save, and the repository after it | 3.00 (3.00–3.00) | 200.0 |\n"), "{text}");
        assert!(text.contains("| 100 | 10 | 4.0 | 30.0 | 3.00 |\n") && !text.contains("compact"), "{text}");
        let compacted = (series().saves[0], 100 << 20, series().build_alone, series().counted_alone);
        let series = Series { compacted: Some(compacted), ..series() };
        let text = markdown("2 cores.", &series);
        assert!(text.contains("| `vml compact`, and the repository after it | 3.00 (3.00–3.00) | 100.0 |\n"), "{text}");
        assert_eq!(verdicts(&series)[1].word(), "met");
        assert_eq!(to_json(&series)["counted"][1]["counted"]["decoded_per_built"], 3.0);
    }
}
