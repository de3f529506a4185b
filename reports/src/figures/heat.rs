//! Heat maps.

use std::path::Path;

use super::canvas::{Anchor, Canvas, Drawn, INK, NONE, SOFT, color};
use crate::charts::HeatMap;
use crate::number::plain;
use crate::scale::{LIGHT, STEPS};

const NAMES: f64 = 160.0;
const TOP: f64 = 50.0;
const SPAN: f64 = 840.0;
const CELL: (f64, f64) = (4.0, 96.0);
const HEADING: f64 = 34.0;

/// Sheets wider or higher than this would be of no use and cost gigabytes; cells beyond it are left out, and the title says so.
const MOST_CELLS: (usize, usize) = (400, 200);

/// Draws a heat map with its legend.
pub(super) fn draw(map: &HeatMap, title: &str, path: &Path) -> Drawn {
    let columns = map.columns.len().min(MOST_CELLS.0);
    let rows = map.row_count().min(MOST_CELLS.1);
    let width = (SPAN / columns as f64).clamp(CELL.0, CELL.1);
    let height = if rows > 28 { 13.0 } else { 20.0 };
    let headings = map.blocks.iter().filter(|block| !block.name.is_empty()).count() as f64;
    let sheet_width = (NAMES + width * columns as f64 + 24.0).max(640.0);
    let sheet_height = TOP + rows as f64 * height + headings * HEADING + 84.0;
    let cut = columns < map.columns.len() || rows < map.row_count();
    let title = if cut {
        format!("{title} (first {columns} columns, {rows} rows)")
    } else {
        title.to_owned()
    };
    let canvas = Canvas::new(path, sheet_width, sheet_height, &title)?;
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
                let step = cell.and_then(|value| map.scale.map_or(Some(0), |scale| scale.step(value)));
                let fill = step.and_then(|step| LIGHT.get(step)).map_or(NONE, |hex| color(hex));
                canvas.rect((NAMES + index as f64 * width, y), (width - 0.5, height - 0.5), fill)?;
            }
            y += height;
        }
        left -= block.rows.len().min(left);
    }
    column_names(&canvas, &map.columns[..columns], width, y)?;
    canvas.text((NAMES - 8.0, y + 12.0), Anchor::End, 11.0, SOFT, map.column_title)?;
    legend(&canvas, map, y + 40.0)?;
    canvas.save()
}

/// As many column names as fit without touching.
fn column_names(canvas: &Canvas<'_>, names: &[String], width: f64, y: f64) -> Drawn {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(1);
    let stride = ((longest as f64 * 7.0 + 6.0) / width).ceil().max(1.0) as usize;
    for (index, name) in names.iter().enumerate().step_by(stride) {
        canvas.text(
            (NAMES + (index as f64 + 0.5) * width, y + 12.0),
            Anchor::Middle,
            11.0,
            SOFT,
            name,
        )?;
    }
    Ok(())
}

/// The scale's colours with their ends.
fn legend(canvas: &Canvas<'_>, map: &HeatMap, y: f64) -> Drawn {
    const SWATCH: f64 = 16.0;
    let Some(scale) = map.scale else {
        return canvas.text((NAMES, y + 7.0), Anchor::Start, 11.0, SOFT, "every number here is zero");
    };
    canvas.text(
        (NAMES - 8.0, y + 7.0),
        Anchor::End,
        11.0,
        SOFT,
        &format!("≤ {}", plain(scale.least())),
    )?;
    for (step, hex) in LIGHT.iter().enumerate() {
        canvas.rect((NAMES + step as f64 * SWATCH, y), (SWATCH, 13.0), color(hex))?;
    }
    let end = NAMES + STEPS as f64 * SWATCH + 8.0;
    canvas.text(
        (end, y + 7.0),
        Anchor::Start,
        11.0,
        SOFT,
        &format!("{}, logarithmic", plain(scale.most())),
    )
}
