//! Heat maps.

use std::path::Path;

use lcr_documents::number::plain;

use super::canvas::{Anchor, Canvas, Drawn, GRID, GROUND, INK, NONE, SOFT, color};
use crate::charts::HeatMap;
use crate::scale::{LIGHT, LIGHT_TEXT_FROM, STEPS, Tone};

const NAMES: f64 = 160.0;
const TOP: f64 = 50.0;
const SPAN: f64 = 840.0;
const CELL: (f64, f64) = (4.0, 96.0);
const HEADING: f64 = 34.0;

/// Sheets wider or higher than this would be of no use and cost gigabytes; cells beyond it are left out, and the title
/// says so.
const MOST_CELLS: (usize, usize) = (400, 200);

/// Draws a heat map with its legend.
pub(super) fn draw(map: &HeatMap, title: &str, path: &Path) -> Drawn {
    let columns = map.columns.len().min(MOST_CELLS.0);
    let rows = map.row_count().min(MOST_CELLS.1);
    let width = (SPAN / columns as f64).clamp(CELL.0, CELL.1);
    let height = if rows > 28 { 13.0 } else { 20.0 };
    let headings = map.blocks.iter().filter(|block| !block.name.is_empty()).count() as f64;
    let sheet_width = (NAMES + width * columns as f64 + 24.0).max(680.0);
    let sheet_height = TOP + rows as f64 * height + headings * HEADING + 84.0;
    let cut = columns < map.columns.len() || rows < map.row_count();
    let title = if cut { format!("{title} (first {columns} columns, {rows} rows)") } else { title.to_owned() };
    let canvas = Canvas::new(path, sheet_width, sheet_height, &title)?;
    let printed = map.prints_numbers(width);
    let mut y = TOP;
    let mut left = rows;
    for block in &map.blocks {
        if !block.name.is_empty() {
            canvas.text((20.0, y + HEADING - 12.0), Anchor::Start, 13.0, INK, &block.name)?;
            y += HEADING;
        }
        for row in block.rows.iter().take(left) {
            canvas.text((NAMES - 8.0, y + height / 2.0), Anchor::End, 11.5, INK, &row.name)?;
            for (index, cell) in row.cells.iter().take(columns).enumerate() {
                let at = (NAMES + index as f64 * width, y);
                let tone = map.tone(*cell);
                cell_of(&canvas, tone, at, (width - 0.5, height - 0.5))?;
                if let (true, Some(number)) = (printed, cell) {
                    let middle = (at.0 + width / 2.0, at.1 + height / 2.0);
                    let color = if matches!(tone, Tone::Step(step) if step >= LIGHT_TEXT_FROM) { GROUND } else { INK };
                    canvas.text(middle, Anchor::Middle, 10.0, color, &plain(*number))?;
                }
            }
            y += height;
        }
        left -= block.rows.len().min(left);
    }
    column_names(&canvas, &map.columns[..columns], width, y)?;
    canvas.text((NAMES - 8.0, y + 12.0), Anchor::End, 11.0, SOFT, "layer")?;
    legend(&canvas, map, y + 40.0)?;
    canvas.save()
}

/// As many column names as fit without touching.
fn column_names(canvas: &Canvas<'_>, names: &[String], width: f64, y: f64) -> Drawn {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(1);
    let stride = ((longest as f64 * 7.0 + 6.0) / width).ceil().max(1.0) as usize;
    for (index, name) in names.iter().enumerate().step_by(stride) {
        canvas.text((NAMES + (index as f64 + 0.5) * width, y + 12.0), Anchor::Middle, 11.0, SOFT, name)?;
    }
    Ok(())
}

/// One cell: grey where nothing was measured, a white box for zero.
fn cell_of(canvas: &Canvas<'_>, tone: Tone, at: (f64, f64), size: (f64, f64)) -> Drawn {
    match tone {
        Tone::Missing => canvas.rect(at, size, NONE),
        Tone::Step(step) => canvas.rect(at, size, LIGHT.get(step).map_or(NONE, |hex| color(hex))),
        Tone::Zero => {
            canvas.rect(at, size, GRID)?;
            canvas.rect((at.0 + 0.5, at.1 + 0.5), (size.0 - 1.0, size.1 - 1.0), GROUND)
        }
    }
}

/// The scale's colours with their ends, and the two looks that stand outside the scale.
fn legend(canvas: &Canvas<'_>, map: &HeatMap, y: f64) -> Drawn {
    const SWATCH: f64 = 16.0;
    let mut x = NAMES;
    if let Some(scale) = map.scale {
        let least = format!("≤ {}", plain(scale.least()));
        canvas.text((x - 8.0, y + 7.0), Anchor::End, 11.0, SOFT, &least)?;
        for step in 0..STEPS {
            cell_of(canvas, Tone::Step(step), (x, y), (SWATCH, 13.0))?;
            x += SWATCH;
        }
        let most = format!("{}, logarithmic", plain(scale.most()));
        canvas.text((x + 8.0, y + 7.0), Anchor::Start, 11.0, SOFT, &most)?;
        x += 150.0;
    }
    for (tone, name, width) in [(Tone::Zero, "zero", 66.0), (Tone::Missing, map.missing, 0.0)] {
        cell_of(canvas, tone, (x, y), (SWATCH, 13.0))?;
        canvas.text((x + SWATCH + 7.0, y + 7.0), Anchor::Start, 11.0, SOFT, name)?;
        x += width;
    }
    Ok(())
}
