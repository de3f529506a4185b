//! Line charts, up to three in a row.

use std::path::Path;

use plotters::style::RGBColor;

use super::canvas::{Anchor, Canvas, Dash, Drawn, GRID, INK, LINES, SOFT};
use crate::charts::{LineChart, Look, whole_ticks};

/// Size of one chart with its title, names and legend.
const CHART: (f64, f64) = (420.0, 320.0);

const ACROSS: usize = 3;
const TOP: f64 = 48.0;

/// Draws the charts on one sheet.
pub(super) fn draw(charts: &[LineChart], title: &str, path: &Path) -> Drawn {
    let across = charts.len().clamp(1, ACROSS);
    let down = charts.len().div_ceil(ACROSS);
    // A single chart gets the room of one and a half.
    let size = if charts.len() == 1 { (CHART.0 * 1.5, CHART.1 * 1.35) } else { CHART };
    let canvas = Canvas::new(path, size.0 * across as f64, TOP + size.1 * down as f64 + 8.0, title)?;
    for (index, chart) in charts.iter().enumerate() {
        let corner = ((index % ACROSS) as f64 * size.0, TOP + (index / ACROSS) as f64 * size.1);
        one(&canvas, chart, corner, size)?;
    }
    canvas.save()
}

fn one(canvas: &Canvas<'_>, chart: &LineChart, corner: (f64, f64), size: (f64, f64)) -> Drawn {
    let (left, right) = (corner.0 + 62.0, corner.0 + size.0 - 18.0);
    let (top, bottom) = (corner.1 + 34.0, corner.1 + size.1 - 78.0);
    let (first, last) = chart.extent();
    let place = |point: &(f64, f64)| {
        let x = left + 6.0 + (point.0 - first) / (last - first) * (right - left - 12.0);
        (x, bottom - chart.axis.place(point.1) * (bottom - top))
    };
    canvas.text((left, corner.1 + 14.0), Anchor::Start, 13.0, INK, &chart.title)?;
    for (share, label) in chart.axis.ticks() {
        let y = bottom - share * (bottom - top);
        canvas.line(&[(left, y), (right, y)], GRID, 0.5, Dash::Solid)?;
        canvas.text((left - 6.0, y), Anchor::End, 11.0, SOFT, &label)?;
    }
    for x in whole_ticks(first, last) {
        canvas.text((place(&(x, 0.0)).0, bottom + 13.0), Anchor::Middle, 11.0, SOFT, &format!("{x:.0}"))?;
    }
    canvas.text((f64::midpoint(left, right), bottom + 30.0), Anchor::Middle, 11.0, SOFT, chart.across)?;
    let mut key = left;
    let mut row = bottom + 50.0;
    for line in &chart.lines {
        let (color, width, dash) = look(line.look);
        let points: Vec<(f64, f64)> = line.points.iter().map(place).collect();
        canvas.line(&points, color, width, dash)?;
        if points.len() <= 48 {
            for point in &points {
                canvas.dot(*point, 1.8, color, true)?;
            }
        }
        let length = 34.0 + 6.4 * line.name.chars().count() as f64;
        if key + length > right + 12.0 && key > left {
            (key, row) = (left, row + 15.0);
        }
        canvas.line(&[(key, row), (key + 20.0, row)], color, width, dash)?;
        canvas.text((key + 25.0, row), Anchor::Start, 11.0, SOFT, &line.name)?;
        key += length;
    }
    Ok(())
}

/// Colour, width and dash of a line.
fn look(look: Look) -> (RGBColor, f64, Dash) {
    match look {
        Look::Series(index) => {
            let dash = [Dash::Solid, Dash::Dashed, Dash::Dotted][index % 3];
            (LINES[index % LINES.len()], 1.5, dash)
        }
        Look::Token(index) => (LINES[index % LINES.len()], 1.0, Dash::Solid),
        Look::Mean => (INK, 2.0, Dash::Solid),
    }
}
