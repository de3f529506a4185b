//! Rules that need base and adapted model side by side, and what those share that judge a weight's change. Rules that a
//! scan also tries stand with its families.

pub(crate) mod coverage;
pub(crate) mod sizes;
#[cfg(test)]
mod tests;
pub(crate) mod weights;

use lcr_documents::audit::{Audit, WeightChange};
use lcr_documents::number::plural;

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
