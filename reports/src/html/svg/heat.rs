//! Heat maps.

use lcr_documents::number::plain;

use super::{Anchor, Drawing};
use crate::charts::HeatMap;
use crate::scale::{STEPS, Tone};

/// Width of the row names.
const NAMES: f64 = 132.0;

/// Width that the cells of a map share, as far as they stay between the two sizes below.
const SPAN: f64 = 925.0;

/// Narrowest and widest cell.
const CELL: (f64, f64) = (7.0, 132.0);

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
    let total_width = (NAMES + width * map.columns.len() as f64 + 12.0).max(NAMES + 490.0);
    let mut drawing = Drawing::new(total_width, cells_end + 72.0);
    let printed = map.prints_numbers(width);
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
                let class = class(map.tone(*cell));
                let value = cell.map_or_else(|| map.missing.to_owned(), plain);
                let place = if block.name.is_empty() { String::new() } else { format!("{}, ", block.name) };
                let layer = if column.starts_with(|first: char| first.is_ascii_digit()) { "layer " } else { "" };
                let title = format!("{place}{}, {layer}{column}: {value}", row.name);
                drawing.rect(at, (width - 1.0, height - 1.0), &class, &title);
                if let (true, Some(number)) = (printed, cell) {
                    let middle = (at.0 + (width - 1.0) / 2.0, at.1 + height / 2.0 + 3.5);
                    drawing.text(middle, Anchor::Middle, &format!("on o{class}"), &plain(*number));
                }
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
        drawing.text((NAMES + (index as f64 + 0.5) * width, y + 15.0), Anchor::Middle, "tick", name);
    }
    drawing.text((NAMES - 8.0, y + 15.0), Anchor::End, "tick", "layer");
}

/// The style sheet's class for a cell.
fn class(tone: Tone) -> String {
    match tone {
        Tone::Missing => "hn".to_owned(),
        Tone::Zero => "hz".to_owned(),
        Tone::Step(step) => format!("h{step}"),
    }
}

/// The scale's colours with their ends, and the two looks that stand outside the scale.
fn legend(drawing: &mut Drawing, map: &HeatMap, y: f64) {
    const SWATCH: f64 = 15.0;
    let mut x = NAMES;
    if let Some(scale) = map.scale {
        let least = format!("≤ {}", plain(scale.least()));
        drawing.text((x - 8.0, y + 10.0), Anchor::End, "tick", &least);
        for step in 0..STEPS {
            let class = class(Tone::Step(step));
            drawing.rect((x, y), (SWATCH, 12.0), &class, "colour scale, logarithmic");
            x += SWATCH;
        }
        let most = format!("{}, logarithmic", plain(scale.most()));
        drawing.text((x + 6.0, y + 10.0), Anchor::Start, "tick", &most);
        x += 140.0;
    }
    for (tone, name, width) in [(Tone::Zero, "zero", 60.0), (Tone::Missing, map.missing, 0.0)] {
        drawing.rect((x + 0.5, y + 0.5), (SWATCH, 11.0), &class(tone), name);
        drawing.text((x + SWATCH + 6.0, y + 10.0), Anchor::Start, "tick", name);
        x += width;
    }
}
