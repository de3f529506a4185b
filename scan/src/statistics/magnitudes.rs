//! DoRA's magnitudes, the norms that the rows of W + s·BA are set to: which rows are gone, and which are turned round.
//!
//! They are held against a high percentile: where most rows are gone, so is the median.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The percentile that stands for a row that does its work.
const TYPICAL: f64 = 0.9;
/// How far the largest may lie above that percentile before it is taken in its place: where nine tenths of all rows are
/// gone, the percentile is that of rows that are.
const FARTHEST: f64 = 100.0;
/// Share of the typical magnitude up to which a row is gone, whatever the others are.
const GONE: f64 = 2e-3;
/// The same where many rows are so.
const NEARLY_GONE: f64 = 1e-2;
/// How many are many.
const MANY: f64 = 0.05;
/// Magnitude under which a whole weight is gone; the rows of initial weights have norms near 1.
const NOTHING: f64 = 1e-4;

/// Magnitudes of one module, in sizes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Magnitudes {
    /// Smallest, as a share of the typical one.
    pub least: f64,
    /// What is typical: the 90th percentile of the absolute values, or a hundredth of the largest where that is more.
    pub typical: f64,
    /// Largest absolute value.
    pub largest: f64,
    /// Share of rows that are gone: at most 0.002 of the typical magnitude, or 0.01 where more than a twentieth of all
    /// is.
    pub gone: f64,
    /// Share of rows with a negative magnitude that is no rounding about zero: they are turned round.
    pub turned: f64,
}

impl Magnitudes {
    pub(super) fn of(values: &[f32]) -> Self {
        let absolute = sorted(values);
        let largest = absolute.last().copied().unwrap_or(0.0);
        let percentile = absolute.get((absolute.len() as f64 * TYPICAL) as usize).copied().unwrap_or(largest);
        let typical = percentile.max(largest / FARTHEST);
        let share = |count: usize| count as f64 / values.len().max(1) as f64;
        let up_to = |limit: f64| share(absolute.partition_point(|value| *value <= limit * typical));
        let gone = match up_to(NEARLY_GONE) {
            _ if typical <= NOTHING => 1.0,
            nearly if nearly > MANY => nearly,
            _ => up_to(GONE),
        };
        let turned = values.iter().filter(|value| f64::from(**value) < -NEARLY_GONE * typical).count();
        let least = absolute.first().copied().unwrap_or(0.0);
        let least = if typical > 0.0 { least / typical } else { 0.0 };
        Self { least, typical, largest, gone, turned: share(turned) }
    }
}

/// Smallest, median and largest absolute value.
pub(super) fn spread(values: &[f32]) -> [f64; 3] {
    let absolute = sorted(values);
    let at = |index: usize| absolute.get(index).copied().unwrap_or(0.0);
    [at(0), at(absolute.len() / 2), at(absolute.len().saturating_sub(1))]
}

fn sorted(values: &[f32]) -> Vec<f64> {
    let mut absolute: Vec<f64> = values.iter().map(|value| f64::from(value.abs())).collect();
    absolute.sort_unstable_by(f64::total_cmp);
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred magnitudes about 1, of which `share` per cent are `value`.
    fn of(share: usize, value: f32) -> Magnitudes {
        let values: Vec<f32> = (0..100).map(|row| if row < share { value } else { 0.8 + 0.004 * row as f32 }).collect();
        Magnitudes::of(&values)
    }

    #[test]
    fn a_row_is_gone_whatever_share_of_the_others_is() {
        for share in [1, 10, 40, 60, 89, 95, 99, 100] {
            let expected = share as f64 / 100.0;
            for value in [0.0, 1e-9, -1e-9] {
                let found = of(share, value).gone;
                assert!((found - expected).abs() < 1e-12, "{share} of {value}: {found}");
            }
        }
        assert_eq!(of(1, 0.0011).gone, 0.01);
        assert_eq!(of(60, 0.009).gone, 0.6);
        // A single row of a hundredth is unusual, and no more than that.
        assert_eq!((of(1, 0.009).gone, of(0, 0.0).gone), (0.0, 0.0));
        assert!(of(1, 0.009).least < 0.01 && of(0, 0.0).least > 0.5);
    }

    #[test]
    fn rows_are_turned_by_the_sign_and_not_by_rounding() {
        assert_eq!((of(20, -1.0).turned, of(1, -0.3).turned), (0.2, 0.01));
        assert_eq!((of(20, -1e-4).turned, of(20, 1.0).turned), (0.0, 0.0));
        assert_eq!(of(20, -1.0).gone, 0.0);
    }
}
