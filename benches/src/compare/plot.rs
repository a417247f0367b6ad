//! Draws what was measured: panels of bars as SVG, made of the JSON, so that they can be drawn again without measuring.
//!
//! ```text
//! JSON ─► panels (a step, a state, …) of bars (a tool, …) with their spread ─► SVG, each panel to its own scale
//! ```

use super::report::MIB;
use super::results::{COMPACTED, FLOOR, LIMIT, Spread};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Bars that belong together, to one scale.
#[derive(Debug, PartialEq)]
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

#[derive(Debug, PartialEq)]
struct Bar {
    name: String,
    spread: Spread,
}

/// The plots that these numbers allow, by the names of their files.
pub fn plots(numbers: &Value) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    for (key, name, title) in [("compare", "trees", "trees"), ("disks", "disks", "disks")] {
        if let Some(results) = numbers.get(key).and_then(|block| block.get("results")) {
            let (time, size) = match name {
                "trees" => ("time-trees.svg", "size-trees.svg"),
                _ => ("time-disks.svg", "size-disks.svg"),
            };
            plots.push((time, draw(&format!("Seconds, {title}: the median, and the smallest and the largest"), &times(results), 2)));
            plots.push((size, draw(&format!("MiB of the repository after each state, {title}"), &sizes(results), 1)));
        }
    }
    if let Some(series) = numbers.get("series") {
        plots.push(("series.svg", draw("A hundred saves with 1 % changed", &of_series(series), 2)));
    }
    plots
}

/// Writes the plots into a directory, which is made.
///
/// # Errors
/// When a file cannot be written.
pub fn write(numbers: &Value, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in plots(numbers) {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn walls<'a>(rows: impl Iterator<Item = &'a Value>) -> Option<Spread> {
    Spread::of(rows.filter_map(|row| row.get("wall_s")?.as_f64()))
}

/// Adds a bar to the panel of this title, which is made if need be.
fn add(panels: &mut Vec<Panel>, title: String, name: String, spread: Option<Spread>) {
    let Some(spread) = spread else { return };
    match panels.iter_mut().find(|panel| panel.title == title) {
        Some(panel) => panel.bars.push(Bar { name, spread }),
        None => panels.push(Panel { title, bars: vec![Bar { name, spread }] }),
    }
}

/// A panel for each step that tools are compared at.
fn times(results: &Value) -> Vec<Panel> {
    let mut panels = Vec::new();
    list(results, "times").for_each(|row| add(&mut panels, text(row, "step"), text(row, "tool"), walls(list(row, "runs"))));
    panels.retain(|panel| panel.bars.len() > 1);
    panels.sort_by_key(|panel| order(&panel.title));
    panels.iter_mut().for_each(|panel| panel.bars.sort_by_key(|bar| rank(&bar.name)));
    panels
}

/// A panel for each state.
fn sizes(results: &Value) -> Vec<Panel> {
    let mut panels = Vec::new();
    for row in list(results, "sizes") {
        let mib = Spread::of(list(row, "bytes").filter_map(|bytes| Some(bytes.as_f64()? / MIB)));
        add(&mut panels, format!("after {}", text(row, "after")), text(row, "tool"), mib);
    }
    panels.sort_by_key(|panel| order(panel.title.trim_start_matches("after ")));
    panels.iter_mut().for_each(|panel| panel.bars.sort_by_key(|bar| rank(&bar.name)));
    panels
}

fn of_series(series: &Value) -> Vec<Panel> {
    let mut panels = Vec::new();
    let decoded = |counted: &Value| Spread::of(counted.get("decoded_per_built").and_then(Value::as_f64).into_iter());
    for row in list(series, "counted") {
        let saves = row.get("saves").map(ToString::to_string).unwrap_or_default();
        add(&mut panels, "decoded bytes for each byte built".to_owned(), format!("after {saves} saves"), decoded(&row["counted"]));
    }
    let title = "decoded bytes for each byte built".to_owned();
    add(&mut panels, title.clone(), "saved once".to_owned(), decoded(&series["counted_alone"]));
    add(&mut panels, title, "compacted".to_owned(), decoded(&series["compacted"]["counted"]));
    let title = "build the latest, seconds".to_owned();
    add(&mut panels, title.clone(), "after 100 saves".to_owned(), walls(list(series, "build")));
    add(&mut panels, title.clone(), "saved once".to_owned(), walls(list(series, "build_alone")));
    add(&mut panels, title, "compacted".to_owned(), walls(list(&series["compacted"], "build")));
    panels
}

/// Where a step or state stands among the others.
fn order(title: &str) -> usize {
    let states = super::corpus::STATES;
    let steps = super::results::Step::all(states.len()).into_iter().map(super::results::Step::title);
    states.into_iter().map(str::to_owned).chain(steps).position(|known| known == title).unwrap_or(usize::MAX)
}

/// Where a tool stands: as in the tables, floors last.
fn rank(tool: &str) -> usize {
    let known = super::tools::NAMES.iter().chain(&[COMPACTED, FLOOR, LIMIT]).position(|known| *known == tool);
    known.unwrap_or(usize::MAX)
}

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 440.0;
const LABEL_WIDTH: f64 = 120.0;
const BAR_WIDTH: f64 = 240.0;
const ROW: f64 = 18.0;
const HEAD: f64 = 34.0;
const TOP: f64 = 40.0;

fn draw(title: &str, panels: &[Panel], digits: usize) -> String {
    let rows: Vec<&[Panel]> = panels.chunks(COLUMNS).collect();
    let height = |row: &[Panel]| HEAD + row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0) as f64 * ROW;
    let (width, whole) = (PANEL_WIDTH * COLUMNS as f64, TOP + rows.iter().map(|row| height(row)).sum::<f64>() + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{whole}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let mut y = TOP;
    for row in rows {
        for (column, panel) in row.iter().enumerate() {
            draw_panel(&mut svg, panel, column as f64 * PANEL_WIDTH + 12.0, y, digits);
        }
        y += height(row);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, x: f64, y: f64, digits: usize) {
    let most = panel.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value / most * BAR_WIDTH;
    // Writing to a string does not fail.
    _ = writeln!(svg, "<text x=\"{x}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>", y + 18.0, escaped(&panel.title));
    for (number, bar) in panel.bars.iter().enumerate() {
        let Bar { name, spread: Spread { min, median, max } } = bar;
        let (top, left) = (y + 26.0 + number as f64 * ROW, x + LABEL_WIDTH);
        let colour = if name.starts_with("vml") { "#1b6ca8" } else { "#a7b0ba" };
        let middle = top + ROW / 2.0;
        let digits = if *median < 0.1 { digits + 1 } else { digits };
        _ = writeln!(svg, "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>", left - 6.0, middle + 3.0, escaped(name));
        _ = writeln!(
            svg,
            "<rect x=\"{left:.0}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>",
            top + 2.0,
            scale(*median).max(1.0),
            ROW - 5.0
        );
        if min < max {
            let (from, to) = (left + scale(*min), left + scale(*max));
            _ = writeln!(svg, "<path d=\"M{from:.1} {middle:.0}H{to:.1}\" stroke=\"#222\"/>");
        }
        let end = left + scale(*max).max(1.0) + 5.0;
        _ = writeln!(svg, "<text x=\"{end:.0}\" y=\"{:.0}\" font-size=\"11\">{median:.digits$}</text>", middle + 3.0);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn panels_are_those_of_the_tables_with_bars_to_scale() {
        let runs = |walls: &[f64]| walls.iter().map(|wall| json!({ "wall_s": wall })).collect::<Vec<_>>();
        let row = |tool: &str, step: &str, walls: &[f64]| json!({ "tool": tool, "step": step, "runs": runs(walls) });
        let times = [
            row(FLOOR, "build w3", &[0.5]),
            row("restic", "build w3", &[4.0, 2.0, 3.0]),
            row("vml", "build w3", &[1.0]),
            row("vml", "save base", &[0.01]),
            row("restic", "save base", &[1.0]),
            row("vml", "compact", &[9.0]),
        ];
        let sizes = [json!({ "tool": "vml", "after": "w1", "bytes": [1 << 20, 1 << 20] })];
        let numbers = json!({ "compare": { "results": { "times": times, "sizes": sizes } } });
        let drawn = plots(&numbers);
        assert_eq!(drawn.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["time-trees.svg", "size-trees.svg"]);
        let panels = super::times(&numbers["compare"]["results"]);
        assert_eq!(panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>(), ["save base", "build w3"]);
        assert_eq!(panels[1].bars.iter().map(|bar| bar.name.as_str()).collect::<Vec<_>>(), ["vml", "restic", FLOOR]);
        let svg = &drawn[0].1;
        // restic's median is 3 of the 4 seconds that are the full width, and its line goes from 2 to 4.
        assert!(svg.contains("width=\"180.0\"") && svg.contains("d=\"M692.0") && svg.contains("H812.0"), "{svg}");
        assert!(svg.ends_with("</svg>\n") && svg.contains(">0.010</text>") && !svg.contains("compact"), "{svg}");
        assert!(drawn[1].1.contains("after w1") && drawn[1].1.contains(">1.0</text>"));
        assert!(plots(&json!({})).is_empty());
    }

    #[test]
    fn a_series_is_drawn_with_what_it_has() {
        let counted = |value: f64| json!({ "decoded_per_built": value });
        let series =
            json!({ "counted": [{ "saves": 0, "counted": counted(1.0) }], "counted_alone": counted(1.1), "compacted": null, "build": [] });
        let dir = tempfile::tempdir().unwrap();
        write(&json!({ "series": series }), &dir.path().join("plots")).unwrap();
        let svg = fs::read_to_string(dir.path().join("plots/series.svg")).unwrap();
        assert!(svg.contains("after 0 saves") && svg.contains(">1.10</text>") && !svg.contains("seconds"), "{svg}");
    }
}
