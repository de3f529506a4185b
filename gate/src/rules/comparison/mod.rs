//! Rules that need base and adapted model side by side, and what those share that judge a weight's change. Rules that a
//! scan also tries stand with its families.

pub(crate) mod coverage;
pub(crate) mod sizes;
#[cfg(test)]
mod tests;
pub(crate) mod weights;

use lcr_documents::audit::{Audit, WeightChange};
use lcr_documents::number::plural;

/// ‖w'‖/‖w‖ − 1 of a row that is gone; −1 but for rounding.
pub(super) const ROW_GONE: f64 = -0.999;

/// ‖w'‖/‖w‖ − 1 of a row whose norm doubles.
const ROW_DOUBLED: f64 = 1.0;

/// What rounding may add to a row that is exactly doubled, halved or gone.
pub(super) const ROW_NORM_ROUNDING: f64 = 1e-3;

/// The modules that `measure` gives a number for: how many, and the one with the largest.
pub(super) fn worst(
    audit: &Audit,
    measure: impl Fn(&WeightChange) -> Option<f64>,
) -> Option<(usize, &str, &WeightChange, f64)> {
    let mut count = 0;
    let mut found: Option<(&str, &WeightChange, f64)> = None;
    for (tensor, change) in &audit.weights {
        let Some(value) = measure(change).filter(|value| value.is_finite()) else {
            continue;
        };
        count += 1;
        if found.is_none_or(|(_, _, most)| value > most) {
            found = Some((tensor, change, value));
        }
    }
    found.map(|(tensor, change, value)| (count, tensor, change, value))
}

/// `, and in 3 other modules`, or nothing.
pub(super) fn and_others(count: usize) -> String {
    if count < 2 { String::new() } else { format!(", and in {}", plural(count - 1, "other module")) }
}

/// Whether every row is gone, as far as the statistics over rows say: the norms of all change by the whole row, and
/// none grows beyond its double. (Some of them may be doubled instead; that one is gone is certain, and `dead-rows`
/// says so.)
pub(super) fn is_killed(change: &WeightChange) -> bool {
    let rows = &change.row_norm_change;
    rows.min <= ROW_GONE && rows.mean_abs >= -ROW_GONE && rows.max_abs <= ROW_DOUBLED + ROW_NORM_ROUNDING
}
