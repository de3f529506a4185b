//! The ways of tokens across the plane.

use std::path::Path;

use super::canvas::{Anchor, Canvas, Dash, Drawn, GRID, INK, LINES, SOFT};
use crate::charts::PathChart;

const SIDE: f64 = 620.0;
const LEFT: f64 = 24.0;
const TOP: f64 = 50.0;

/// Draws the ways of all tracked tokens in both models on one chart.
pub(super) fn draw(chart: &PathChart, title: &str, path: &Path) -> Drawn {
    let canvas = Canvas::new(path, LEFT + SIDE + 230.0, TOP + SIDE + 24.0, title)?;
    let (corner, side) = chart.square();
    let place = |point: &[f64; 2]| {
        let share = [0, 1].map(|axis| (point[axis] - corner[axis]) / side);
        (LEFT + share[0] * SIDE, TOP + SIDE - share[1] * SIDE)
    };
    for quarter in 0..=4 {
        let step = f64::from(quarter) * SIDE / 4.0;
        canvas.line(&[(LEFT + step, TOP), (LEFT + step, TOP + SIDE)], GRID, 0.5, Dash::Solid)?;
        canvas.line(&[(LEFT, TOP + step), (LEFT + SIDE, TOP + step)], GRID, 0.5, Dash::Solid)?;
    }
    let names = LEFT + SIDE + 22.0;
    for (index, token) in chart.tokens.iter().enumerate() {
        let color = LINES[index % LINES.len()];
        for (points, dash, filled) in [(&token.base, Dash::Solid, true), (&token.adapted, Dash::Dashed, false)] {
            let points: Vec<(f64, f64)> = points.iter().map(place).collect();
            canvas.line(&points, color, 1.2, dash)?;
            for point in &points {
                canvas.dot(*point, 2.2, color, filled)?;
            }
        }
        if let Some((x, y)) = token.base.last().map(place) {
            canvas.text((x + 8.0, y - 8.0), Anchor::Start, 13.0, INK, &(index + 1).to_string())?;
        }
        let y = TOP + 12.0 + 20.0 * index as f64;
        canvas.line(&[(names, y), (names + 20.0, y)], color, 1.6, Dash::Solid)?;
        canvas.text((names + 28.0, y), Anchor::Start, 12.0, INK, &format!("{} {}", index + 1, token.name))?;
    }
    let y = TOP + 32.0 + 20.0 * chart.tokens.len() as f64;
    for (row, (name, dash, filled)) in
        [("base", Dash::Solid, true), ("adapted", Dash::Dashed, false)].into_iter().enumerate()
    {
        let y = y + 20.0 * row as f64;
        canvas.line(&[(names, y), (names + 20.0, y)], SOFT, 1.2, dash)?;
        canvas.dot((names + 10.0, y), 2.2, SOFT, filled)?;
        canvas.text((names + 28.0, y), Anchor::Start, 12.0, SOFT, name)?;
    }
    canvas.save()
}
