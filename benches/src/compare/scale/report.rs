//! Goals and tables; pure functions of what was measured.

use super::{Row, Size};
use crate::compare::results::Spread;
use crate::compare::verdict::Verdict;
use serde_json::Value;

const MIB: f64 = 1048576.0;

impl Size {
    fn row(&self, what: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what)
    }

    fn told(&self, what: &str, pointer: &str) -> Option<f64> {
        self.row(what)?.told.pointer(pointer)?.as_f64()
    }

    fn wall_ms(&self, what: &str) -> Option<f64> {
        Spread::of(self.row(what)?.runs.iter().map(|run| run.wall_s * 1000.0)).map(|spread| spread.median)
    }

    fn anon_mib(&self, what: &str) -> Option<f64> {
        self.row(what)?.runs.iter().map(|run| run.anon_bytes as f64 / MIB).reduce(f64::max)
    }

    fn resident_mib(&self, what: &str) -> Option<f64> {
        self.row(what)?.runs.iter().map(|run| run.resident_bytes as f64 / MIB).reduce(f64::max)
    }

    fn open_ms(&self) -> Option<f64> {
        let all = self.row("open")?.told.pointer("/open_s")?.as_array()?;
        Spread::of(all.iter().filter_map(Value::as_f64)).map(|spread| spread.median * 1000.0)
    }

    fn lap(&self, name: &str) -> Option<&Value> {
        self.row("collect")?.told.pointer("/laps")?.as_array()?.iter().find(|lap| lap["name"] == name)
    }

    fn lap_s(&self, name: &str) -> Option<f64> {
        self.lap(name)?["s"].as_f64()
    }

    fn title(&self) -> String {
        let chunks = match self.chunks {
            chunks if chunks % 1_000_000 == 0 => format!("{} million", chunks / 1_000_000),
            chunks => chunks.to_string(),
        };
        if self.sealed { format!("{chunks}, encrypted") } else { chunks }
    }
}

/// Every goal, at the largest size that is not encrypted.
pub fn verdicts(sizes: &[Size]) -> Vec<Verdict> {
    let Some(largest) = sizes.iter().filter(|size| !size.sealed).max_by_key(|size| size.chunks) else { return Vec::new() };
    let verdict = |what: &str, goal: f64, measured: Option<f64>, unit: &'static str| {
        Verdict::new(format!("{what}, {} chunks", largest.title()), goal, measured, unit)
    };
    let mut verdicts = vec![
        verdict("open", 10.0, largest.open_ms(), " ms"),
        verdict("open: memory, mapped pages included", 64.0, largest.resident_mib("open"), " MiB"),
        verdict("look-ups: memory of its own", 64.0, largest.anon_mib("lookups"), " MiB"),
        verdict("mark, plan and sweep: memory of its own", 256.0, largest.anon_mib("collect"), " MiB"),
        verdict("check: memory, mapped pages included", 256.0, largest.resident_mib("check"), " MiB"),
    ];
    if let Some(sealed) = sizes.iter().filter(|size| size.sealed).max_by_key(|size| size.chunks) {
        let what = format!("look-ups: memory of its own, {} chunks", sealed.title());
        verdicts.push(Verdict::new(what, 64.0, sealed.anon_mib("lookups"), " MiB"));
    }
    verdicts
}

type Cell<'a> = &'a dyn Fn(&Size) -> Option<f64>;

/// The block of the page.
pub fn markdown(machine_line: &str, sizes: &[Size]) -> String {
    let mut text = format!("{machine_line}\n\n| goal | at most | measured | |\n|---|---:|---:|---|\n");
    for verdict in verdicts(sizes) {
        let measured = verdict.measured.map_or("–".to_owned(), |measured| verdict.number(measured));
        text.push_str(&format!("| {} | {} | {measured} | {} |\n", verdict.what, verdict.number(verdict.goal), verdict.word()));
    }
    let titles: Vec<String> = sizes.iter().map(Size::title).collect();
    text.push_str(&format!("\n| chunks | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(sizes.len())));
    let mut line = |what: &str, digits: usize, of: Cell<'_>| {
        let cells: Vec<String> = sizes.iter().map(|size| of(size).map_or("–".to_owned(), |value| format!("{value:.digits$}"))).collect();
        text.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    };
    line("index, MiB", 0, &|size| Some(size.told("fill", "/index_bytes")? / MIB));
    line("index, bytes a chunk", 2, &|size| Some(size.told("fill", "/index_bytes")? / size.chunks as f64));
    line("segments", 0, &|size| size.told("fill", "/segments"));
    line("packs", 0, &|size| size.told("fill", "/packs"));
    line("data they stand for, GiB", 0, &|size| Some(size.chunks as f64 * f64::from(super::make::CHUNK_LEN) / MIB / 1024.0));
    line("open, ms", 2, &|size| size.open_ms());
    line("– own memory, MiB", 1, &|size| size.anon_mib("open"));
    line("– with mapped pages, MiB", 1, &|size| size.resident_mib("open"));
    line("look-ups that hit, thousand a second, pages touched first", 0, &|size| Some(size.told("lookups", "/hits_first")? / 1e3));
    line("– the same once more", 0, &|size| Some(size.told("lookups", "/hits_again")? / 1e3));
    line("look-ups that miss, pages touched first", 0, &|size| Some(size.told("lookups", "/misses_first")? / 1e3));
    line("– the same once more", 0, &|size| Some(size.told("lookups", "/misses_again")? / 1e3));
    line("– own memory, MiB", 1, &|size| size.anon_mib("lookups"));
    line("– with mapped pages, MiB", 0, &|size| size.resident_mib("lookups"));
    for what in ["log", "show", "save, nothing new", "save, 8 MiB new", "check", "gc --dry-run"] {
        line(
            &format!("`vml {what}`, ms").replace(", nothing new`", "`, nothing new").replace(", 8 MiB new`", "`, 8 MiB new"),
            1,
            &|size| size.wall_ms(what),
        );
        line("– own memory, MiB", 1, &|size| size.anon_mib(what));
        line("– with mapped pages, MiB", 0, &|size| size.resident_mib(what));
    }
    line("verify all segments, s", 2, &|size| size.told("merge", "/verify_s"));
    line("merge all into one, s", 2, &|size| size.told("merge", "/merge_s"));
    line("– own memory, MiB", 1, &|size| size.anon_mib("merge"));
    line("– with mapped pages, MiB", 0, &|size| size.resident_mib("merge"));
    line("collect: begin, s", 2, &|size| size.lap_s("begin"));
    line("– mark 95 % of the chunks, s", 2, &|size| size.lap_s("mark"));
    line("– plan, s", 2, &|size| size.lap_s("plan"));
    line("– sweep: list, delete, write the index anew, s", 2, &|size| size.lap_s("sweep"));
    line("– marks, MiB", 1, &|size| Some(size.told("collect", "/marks_bytes")? / MIB));
    line("– own memory, MiB", 1, &|size| size.anon_mib("collect"));
    line("– with mapped pages, MiB", 0, &|size| size.resident_mib("collect"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scale::watch::Watched;
    use serde_json::json;

    #[test]
    fn goals_are_judged_at_the_largest_size() {
        let ran = |anon_mib: u64, mapped_mib: u64| Watched {
            wall_s: 0.5,
            anon_bytes: anon_mib << 20,
            resident_bytes: (anon_mib + mapped_mib) << 20,
            ..Watched::default()
        };
        let size = |chunks, sealed, open_s: f64| Size {
            chunks,
            sealed,
            rows: vec![
                Row { what: "open", runs: vec![ran(3, 7)], told: json!({ "open_s": [open_s, 9.0, open_s / 2.0] }) },
                Row { what: "lookups", runs: vec![ran(70, 4000)], told: json!({ "hits_first": 1.5e6 }) },
                Row { what: "collect", runs: vec![ran(200, 4000)], told: json!({ "laps": [{ "name": "mark", "s": 12.5 }] }) },
            ],
        };
        let sizes = [size(1_000_000, false, 1.0), size(100_000_000, false, 0.009), size(1_000_000, true, 0.1)];
        let words: Vec<String> = verdicts(&sizes).iter().map(Verdict::word).collect();
        let above = "**not met**, 9 % above";
        assert_eq!(words, ["met", "met", above, "met", "not measured", above]);
        let text = markdown("2 cores.", &sizes);
        assert!(text.contains("| chunks | 1 million | 100 million | 1 million, encrypted |"), "{text}");
        assert!(
            text.contains("| – mark 95 % of the chunks, s | 12.50 | 12.50 | 12.50 |") && text.contains("| open, ms | 1000.00 | 9.00 |"),
            "{text}"
        );
    }
}
