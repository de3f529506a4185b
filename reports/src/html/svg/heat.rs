//! Heat maps.

use super::{Anchor, Drawing};
use crate::charts::HeatMap;
use crate::number::plain;
use crate::scale::STEPS;

/// Width of the row names.
const NAMES: f64 = 132.0;

/// Width that the cells of a map share, as far as they stay between the two sizes below.
const SPAN: f64 = 925.0;

/// Narrowest and widest cell.
const CELL: (f64, f64) = (7.0, 96.0);

/// Height of a block's name.
const HEADING: f64 = 30.0;

/// Draws a heat map with its legend; `None` where there is no cell.
pub(in crate::html) fn heat_map(map: &HeatMap, label: &str) -> Option<String> {
    if map.is_empty() {
        return None;
    }
    let width = (SPAN / map.columns.len() as f64).clamp(CELL.0, CELL.1);
    let height = if map.row_count() > 28 { 13.0 } else { 19.0 };
    let headings = map.blocks.iter().filter(|block| !block.name.is_empty()).count();
    let cells_end = map.row_count() as f64 * height + headings as f64 * HEADING;
    let total_width = (NAMES + width * map.columns.len() as f64 + 12.0).max(NAMES + 330.0);
    let mut drawing = Drawing::new(total_width, cells_end + 72.0);
    let mut y = 0.0;
    for block in &map.blocks {
        if !block.name.is_empty() {
            drawing.text((0.0, y + HEADING - 7.0), Anchor::Start, "strong", &block.name);
            y += HEADING;
        }
        for row in &block.rows {
            drawing.text((NAMES - 8.0, y + height / 2.0 + 4.0), Anchor::End, "name", &row.name);
            for (index, (cell, column)) in row.cells.iter().zip(&map.columns).enumerate() {
                let at = (NAMES + index as f64 * width, y);
                let step = cell.and_then(|value| map.scale.map_or(Some(0), |scale| scale.step(value)));
                let class = step.map_or_else(|| "hn".to_owned(), |step| format!("h{step}"));
                let value = cell.map_or_else(|| "not measured".to_owned(), plain);
                let place = if block.name.is_empty() {
                    String::new()
                } else {
                    format!("{}, ", block.name)
                };
                let title = format!("{place}{}, {} {column}: {value}", row.name, map.column_title);
                drawing.rect(at, (width - 1.0, height - 1.0), &class, &title);
            }
            y += height;
        }
    }
    column_names(&mut drawing, map, width, y);
    legend(&mut drawing, map, y + 44.0);
    Some(drawing.finish(label))
}

/// As many column names as fit without touching.
fn column_names(drawing: &mut Drawing, map: &HeatMap, width: f64, y: f64) {
    let longest = map.columns.iter().map(|name| name.chars().count()).max().unwrap_or(1);
    let stride = ((longest as f64 * 7.0 + 6.0) / width).ceil().max(1.0) as usize;
    for (index, name) in map.columns.iter().enumerate().step_by(stride) {
        drawing.text(
            (NAMES + (index as f64 + 0.5) * width, y + 15.0),
            Anchor::Middle,
            "tick",
            name,
        );
    }
    drawing.text((NAMES - 8.0, y + 15.0), Anchor::End, "tick", map.column_title);
}

/// The scale's colours with their ends.
fn legend(drawing: &mut Drawing, map: &HeatMap, y: f64) {
    const SWATCH: f64 = 15.0;
    let Some(scale) = map.scale else {
        drawing.text((NAMES, y + 10.0), Anchor::Start, "tick", "every number here is zero");
        return;
    };
    let least = format!("≤ {}", plain(scale.least()));
    drawing.text((NAMES - 8.0, y + 10.0), Anchor::End, "tick", &least);
    for step in 0..STEPS {
        let at = (NAMES + step as f64 * SWATCH, y);
        drawing.rect(at, (SWATCH, 12.0), &format!("h{step}"), "colour scale, logarithmic");
    }
    let end = NAMES + STEPS as f64 * SWATCH + 6.0;
    drawing.text(
        (end, y + 10.0),
        Anchor::Start,
        "tick",
        &format!("{}, logarithmic", plain(scale.most())),
    );
}
