//! Latency over time as an SVG: one panel for each scenario, p50 and p99 of equal spans of time, on a
//! logarithmic scale. Draws only; measures nothing.

use std::fmt::Write as _;
use std::time::Duration;

use super::ledger::{Stage, Times};
use super::report::Report;

const WIDTH: f64 = 1_060.0;
const PANEL: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 30.0;
/// Spans of time at most: a line of more points than pixels shows nothing more.
const SPANS: usize = 200;

/// A line: stage, percentile, colour.
const LINES: [(Stage, usize, &str); 4] = [
    (Stage::Shown, 50, "#1f77b4"),
    (Stage::Shown, 99, "#aec7e8"),
    (Stage::Ticked, 50, "#d62728"),
    (Stage::Ticked, 99, "#ff9896"),
];

/// Draws what has latencies.
pub(super) fn svg(reports: &[Report]) -> String {
    let drawn: Vec<&Report> = reports.iter().filter(|report| !report.times.is_empty()).collect();
    let height = PANEL * drawn.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut y = 0.0;
    for report in drawn {
        panel(&mut out, report, y);
        y += PANEL;
    }
    out.push_str("</svg>\n");
    out
}

/// Where values of one panel lie.
struct Scale {
    y: f64,
    seconds: f64,
    /// Powers of ten of the lowest and highest latency in ms.
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds.max(0.001)
    }

    fn y(&self, ms: f64) -> f64 {
        let share = (ms.max(0.001).log10() - self.low) / (self.high - self.low).max(1.0);
        self.y + PANEL - BOTTOM - (PANEL - TOP - BOTTOM) * share
    }
}

fn panel(out: &mut String, report: &Report, y: f64) {
    let end = report.times.iter().map(|times| times.sent).max().unwrap_or_default();
    let lines: Vec<_> = LINES
        .iter()
        .map(|(stage, percent, colour)| (points(&report.times, *stage, *percent, end), *colour))
        .collect();
    let all = || lines.iter().flat_map(|(points, _)| points.iter().map(|(_, ms)| ms.max(0.001)));
    let low = all().fold(f64::INFINITY, f64::min).log10().floor();
    let high = all().fold(0.001, f64::max).log10().ceil();
    let scale = Scale { y, seconds: end.as_secs_f64(), low: low.min(high - 1.0), high };
    let mut text = |x: f64, y: f64, fill: &str, text: &str| {
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\">{text}</text>")
            .unwrap_or_default();
    };
    text(LEFT, y + 16.0, "black", &format!("{}: {}", report.scenario, report.what));
    let mut x = LEFT;
    for (stage, percent, colour) in LINES {
        text(x, y + 32.0, colour, &format!("sent → {} p{percent}", stage.name()));
        x += 120.0;
    }
    text(
        WIDTH - RIGHT - 70.0,
        y + PANEL - 10.0,
        "black",
        &format!("sent at {:.1} s", scale.seconds),
    );
    let mut power = scale.low;
    while power <= scale.high {
        let ms = 10_f64.powf(power);
        let at = scale.y(ms);
        text(8.0, at + 4.0, "black", &format!("{ms} ms"));
        power += 1.0;
    }
    grid(out, &scale);
    for (points, colour) in &lines {
        let path = points.iter().fold(String::new(), |mut path, (seconds, ms)| {
            write!(path, "{:.1},{:.1} ", scale.x(*seconds), scale.y(*ms)).unwrap_or_default();
            path
        });
        writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>",
            path.trim_end()
        )
        .unwrap_or_default();
    }
}

fn grid(out: &mut String, scale: &Scale) {
    let mut power = scale.low;
    while power <= scale.high {
        let at = scale.y(10_f64.powf(power));
        let right = WIDTH - RIGHT;
        writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
        )
        .unwrap_or_default();
        power += 1.0;
    }
}

/// A percentile of the latency of what was sent in each span: seconds and ms.
fn points(times: &[Times], stage: Stage, percent: usize, end: Duration) -> Vec<(f64, f64)> {
    let mut spans: Vec<Vec<f64>> = vec![Vec::new(); SPANS];
    let width = end.as_secs_f64().max(0.001) / SPANS as f64;
    for times in times {
        let Some(after) = times.after(stage) else { continue };
        let span = Duration::from_secs_f64(times.sent.as_secs_f64() / width).as_secs();
        let span = usize::try_from(span).unwrap_or(usize::MAX).min(SPANS - 1);
        if let Some(span) = spans.get_mut(span) {
            span.push(after.as_secs_f64() * 1000.0);
        }
    }
    let mut points = Vec::new();
    let mut middle = width / 2.0;
    for mut span in spans {
        span.sort_by(f64::total_cmp);
        if let Some(ms) = span.get(span.len().saturating_sub(1) * percent / 100) {
            points.push((middle, *ms));
        }
        middle += width;
    }
    points
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stage, Times, points};

    #[test]
    fn spans_hold_what_was_sent_in_them() {
        let at = |sent_ms: u64, took_ms: u64| Times {
            sent: Duration::from_millis(sent_ms),
            accepted: None,
            shown: Some(Duration::from_millis(sent_ms + took_ms)),
            ticked: None,
        };
        let times = [at(0, 2), at(0, 8), at(0, 4), at(1_000, 5)];
        let end = Duration::from_secs(1);
        let p50 = points(&times, Stage::Shown, 50, end);
        assert_eq!(p50.len(), 2);
        assert!((p50[0].1 - 4.0).abs() < 0.01 && (p50[1].1 - 5.0).abs() < 0.01, "{p50:?}");
        assert!(points(&times, Stage::Ticked, 50, end).is_empty());
    }
}
