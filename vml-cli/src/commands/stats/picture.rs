//! Where the bytes are, as a picture: a bar for each kind, area and entry.

use crate::output::human;
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 34.0;

/// Bars under a common heading.
pub(super) struct Group {
    pub(super) title: &'static str,
    /// What each is of, and its bytes.
    pub(super) bars: Vec<(String, u64)>,
}

/// Draws the groups one below the other, all to one scale.
pub(super) fn svg(title: &str, groups: &[Group]) -> String {
    let rows: f64 = groups.iter().map(|group| HEAD + ROW * group.bars.len() as f64).sum();
    let height = 50.0 + rows;
    let most = groups.iter().flat_map(|group| &group.bars).map(|(_, bytes)| *bytes).max().unwrap_or(0).max(1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"20\" y=\"28\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let mut y = 50.0;
    // Writing to a string does not fail.
    for group in groups {
        _ = writeln!(out, "<text x=\"20\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", y + 16.0, escaped(group.title));
        y += HEAD - 6.0;
        for (name, bytes) in &group.bars {
            let width = (WIDTH - LEFT - RIGHT) * (*bytes as f64 / most as f64);
            _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 10.0, y + 13.0, escaped(name));
            _ = writeln!(out, "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"#2c6fbb\"/>", ROW - 6.0);
            _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT + width + 8.0, y + 13.0, escaped(&human::size(*bytes)));
            y += ROW;
        }
        y += 6.0;
    }
    out.push_str("</svg>\n");
    out
}

/// Names come from users and from other hosts.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in human::printable(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale_and_names_cannot_leave_their_place() {
        let bars = vec![("a<b>&\"".to_owned(), 1000), ("half".to_owned(), 500), ("nothing".to_owned(), 0)];
        let picture = svg("of here", &[Group { title: "areas", bars }]);
        let widths: Vec<f64> = picture
            .lines()
            .filter(|line| line.contains("#2c6fbb"))
            .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [WIDTH - LEFT - RIGHT, (WIDTH - LEFT - RIGHT) / 2.0, 0.0]);
        assert!(picture.contains("a&lt;b&gt;&amp;&quot;") && !picture.contains("<b>"));
        assert_eq!(svg("", &[]).matches("<rect").count(), 1);
    }
}
