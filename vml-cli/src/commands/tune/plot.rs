//! The trials as a picture: size against speed, so that the best lie at the lower right.

use std::fmt::Write as _;
use vml_core::tune::{Trial, TrialResult, chunker_name, short};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// Draws the trials.
pub(super) fn svg(trials: &[Trial], results: &[TrialResult], best: usize) -> String {
    let speeds: Vec<f64> = results.iter().map(|result| result.speed() / 1e6).collect();
    let sizes: Vec<f64> = results.iter().map(|result| result.stored_bytes as f64 / 1e6).collect();
    let (x, y) = (Axis::over(&speeds, LEFT, WIDTH - RIGHT), Axis::over(&sizes, HEIGHT - BOTTOM, TOP));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a string does not fail.
    for (value, at) in x.ticks() {
        _ = writeln!(out, "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>", HEIGHT - BOTTOM);
        _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>", HEIGHT - BOTTOM + 18.0);
    }
    for (value, at) in y.ticks() {
        _ = writeln!(out, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>", WIDTH - RIGHT);
        _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 8.0, at + 4.0);
    }
    _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">saved, MB/s</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 15.0
    );
    _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.1}\" text-anchor=\"end\">stored, MB</text>", TOP - 15.0);
    for (i, trial) in trials.iter().enumerate() {
        let (at_x, at_y) = (x.place(speeds[i]), y.place(sizes[i]));
        let (colour, radius) = match i {
            _ if i == best => ("#c0392b", 7),
            0 => ("#2c6fbb", 6),
            _ => ("#777", 4),
        };
        _ = writeln!(out, "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>");
        let name = format!("{} {} level {}", chunker_name(&trial.chunker), short(trial.frame_len), trial.level);
        _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" font-size=\"10\">{name}</text>", at_x + 9.0, at_y + 4.0);
    }
    out.push_str("</svg>\n");
    out
}

/// From values to places on the picture.
struct Axis {
    low: f64,
    step: f64,
    steps: u32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: &[f64], from: f64, to: f64) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let span = (high - low).max(high.abs() * 0.01).max(1e-6);
        // A round step that divides the span into four to ten parts.
        let power = 10_f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| span / step <= 6.0).unwrap_or(power * 10.0);
        let low = (low / step).floor() * step;
        let steps = ((high - low) / step).ceil().clamp(1.0, 20.0);
        Self { low, step, steps: steps as u32, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.step * f64::from(self.steps)) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = (String, f64)> + '_ {
        (0..=self.steps).map(|i| {
            let value = self.low + self.step * f64::from(i);
            let digits = if self.step < 1.0 { 2 } else { 0 };
            (format!("{value:.digits$}"), self.place(value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_core::tune::trials;

    #[test]
    fn every_trial_is_a_point_inside_the_frame() {
        let trials = trials(&vml_core::tune::default_chunkers(), &[1 << 20], &[1, 9], false);
        let results: Vec<TrialResult> = (1..=trials.len() as u64)
            .map(|i| TrialResult {
                stored_bytes: i * 1_000_000,
                index_bytes: 1,
                chunks_count: 1,
                input_bytes: 1 << 30,
                elapsed_ms: 100 * i,
                peak_bytes: 1,
            })
            .collect();
        let picture = svg(&trials, &results, 2);
        assert_eq!(picture.matches("<circle").count(), trials.len());
        assert_eq!(picture.matches("#c0392b").count(), 2, "the recommended one and its name");
        for part in picture.split("cx=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{x}");
        }
    }
}
