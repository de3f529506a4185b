//! The ways of tokens across the plane.

use super::{Anchor, Drawing};
use crate::charts::PathChart;

/// Side of the chart.
const SIDE: f64 = 560.0;

/// Draws the ways of all tracked tokens in both models on one chart; `None` where none was tracked.
pub(in crate::html) fn path_chart(chart: &PathChart) -> Option<String> {
    if chart.tokens.is_empty() {
        return None;
    }
    let (corner, side) = chart.square();
    let place = |point: &[f64; 2]| {
        let share = [0, 1].map(|axis| (point[axis] - corner[axis]) / side);
        (share[0] * SIDE, SIDE - share[1] * SIDE)
    };
    let mut drawing = Drawing::new(SIDE, SIDE);
    for quarter in 0..=4 {
        let at = f64::from(quarter) * SIDE / 4.0;
        drawing.line((at, 0.0), (at, SIDE), "grid");
        drawing.line((0.0, at), (SIDE, at), "grid");
    }
    for (index, token) in chart.tokens.iter().enumerate() {
        for (model, path, dash, dot) in
            [("base", &token.base, "", "dot"), ("adapted", &token.adapted, " dashed", "ring")]
        {
            let points: Vec<(f64, f64)> = path.iter().map(place).collect();
            drawing.polyline(&points, &format!("line way t{index}{dash}"));
            for (layer, point) in points.iter().enumerate() {
                let title = format!("{} ({}), {model}, entering layer {layer}", token.name, index + 1);
                drawing.dot(*point, 2.8, &format!("{dot} q{index}"), &title);
            }
            if let (Some(end), "base") = (points.last(), model) {
                let shift = if end.0 > SIDE - 24.0 { -8.0 } else { 8.0 };
                let anchor = if shift < 0.0 { Anchor::End } else { Anchor::Start };
                drawing.text((end.0 + shift, (end.1 - 6.0).max(12.0)), anchor, "strong", &(index + 1).to_string());
            }
        }
    }
    Some(drawing.finish("paths of the tracked tokens through the residual stream, base and adapted"))
}
