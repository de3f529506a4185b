//! Line charts.

use lcr_documents::number::plain;

use super::{Anchor, Drawing};
use crate::charts::{LineChart, Look, whole_ticks};

/// The whole chart.
const SIZE: (f64, f64) = (400.0, 250.0);

/// The plotting area: left, top, right, bottom.
const AREA: (f64, f64, f64, f64) = (50.0, 10.0, 390.0, 212.0);

/// Lines with more points than this carry no dots.
const MOST_DOTS: usize = 48;

/// Draws a line chart without title and legend, which the page sets in text.
pub(in crate::html) fn line_chart(chart: &LineChart) -> String {
    let (left, top, right, bottom) = AREA;
    let (first, last) = chart.extent();
    let across = |x: f64| left + 6.0 + (x - first) / (last - first) * (right - left - 12.0);
    let up = |y: f64| bottom - chart.axis.place(y) * (bottom - top);
    let mut drawing = Drawing::new(SIZE.0, SIZE.1);
    for (share, label) in chart.axis.ticks() {
        let y = bottom - share * (bottom - top);
        drawing.line((left, y), (right, y), "grid");
        drawing.text((left - 6.0, y + 4.0), Anchor::End, "tick", &label);
    }
    for x in whole_ticks(first, last) {
        drawing.text((across(x), bottom + 16.0), Anchor::Middle, "tick", &format!("{x:.0}"));
    }
    drawing.text((f64::midpoint(left, right), SIZE.1 - 4.0), Anchor::Middle, "tick", chart.across);
    for line in &chart.lines {
        let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (across(*x), up(*y))).collect();
        drawing.polyline(&points, &format!("line {}", class(line.look)));
        if line.points.len() <= MOST_DOTS {
            for (point, (x, y)) in points.iter().zip(&line.points) {
                let title = format!("{}, {} {x:.0}: {}", line.name, chart.across, plain(*y));
                drawing.dot(*point, 2.6, &format!("dot d{}", class(line.look)), &title);
            }
        }
    }
    drawing.finish(&chart.title)
}

/// The style sheet's class for a line; its dots take the same with a `d` before it.
pub(in crate::html) fn class(look: Look) -> String {
    match look {
        Look::Series(index) => format!("l{}", index % 3),
        Look::Token(index) => format!("t{}", index % 8),
        Look::Mean => "lm".to_owned(),
    }
}
