//! Vertical axes: linear from zero, or logarithmic with a lane for zero below.
//!
//! "Unchanged" is a common and important answer (every layer below the first adapted one), and has no logarithm. It gets a
//! lane of its own at the foot of the axis, labelled 0, instead of a small number that would be made up.

use crate::number;

/// A vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Axis {
    /// Evenly from the first number to the second.
    Linear(f64, f64),
    /// Evenly in log₁₀, from the first power of ten to the second; `zero` where a lane for zero lies below.
    Logarithmic {
        /// Lowest power of ten.
        low: i32,
        /// Highest power of ten.
        high: i32,
        /// Whether some number is zero or below.
        zero: bool,
    },
}

/// Height of the lane for zero, as a share of the axis.
const LANE: f64 = 0.1;

impl Axis {
    /// The axis that spans the finite ones of `values`; `None` where there is none.
    pub(crate) fn spanning(values: impl Iterator<Item = f64>, logarithmic: bool) -> Option<Self> {
        let mut least = f64::INFINITY;
        let mut most = f64::NEG_INFINITY;
        let mut least_positive = f64::INFINITY;
        for value in values.filter(|value| value.is_finite()) {
            least = least.min(value);
            most = most.max(value);
            if value > 0.0 {
                least_positive = least_positive.min(value);
            }
        }
        if least > most {
            return None;
        }
        if logarithmic && most > 0.0 {
            let low = least_positive.log10().floor() as i32;
            let high = (most.log10().ceil() as i32).max(low + 1);
            return Some(Self::Logarithmic {
                low,
                high,
                zero: least <= 0.0,
            });
        }
        let bottom = least.min(0.0);
        let top = nice_above(most - bottom) + bottom;
        Some(Self::Linear(bottom, top))
    }

    /// Where a number lies: 0 at the foot, 1 at the head.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = match *self {
            Self::Linear(bottom, top) => (value - bottom) / (top - bottom),
            Self::Logarithmic { low, high, zero } => {
                let foot = if zero { LANE } else { 0.0 };
                if value > 0.0 {
                    foot + (1.0 - foot) * (value.log10() - f64::from(low)) / f64::from(high - low)
                } else {
                    0.0
                }
            }
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// At most about six marks, each with its place and its label.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        match *self {
            Self::Linear(bottom, top) => (0..=4)
                .map(|index| {
                    let share = f64::from(index) / 4.0;
                    (share, number::plain(bottom + share * (top - bottom)))
                })
                .collect(),
            Self::Logarithmic { low, high, zero } => {
                let stride = ((high - low) / 6 + 1) as usize;
                let lane = zero.then(|| (0.0, "0".to_owned()));
                let powers = (low..=high).step_by(stride);
                lane.into_iter()
                    .chain(powers.map(|power| (self.place(10f64.powi(power)), power_of_ten(power))))
                    .collect()
            }
        }
    }
}

/// `0.01`, `1`, `100`, or `1e-7` further out.
fn power_of_ten(power: i32) -> String {
    match power {
        -2 => "0.01".to_owned(),
        -1 => "0.1".to_owned(),
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        2 => "100".to_owned(),
        _ => format!("1e{power}"),
    }
}

/// The least of 1, 2, 4, 5, 8, 10 times a power of ten that is not below `value`; 1 for zero.
fn nice_above(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let nice = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .into_iter()
        .find(|step| step * power >= value * (1.0 - 1e-12));
    let above = nice.unwrap_or(10.0) * power;
    // Subnormal numbers: the power underflows to zero, and any positive top will do.
    if above > 0.0 && above.is_finite() { above } else { 1.0 }
}

/// At most about eight whole numbers from `first` to `last`.
pub(crate) fn whole_ticks(first: f64, last: f64) -> Vec<f64> {
    let span = last - first;
    let stride = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 50.0, 100.0]
        .into_iter()
        .find(|step| span / step <= 9.0);
    let stride = stride.unwrap_or(span / 8.0).max(1.0);
    let mut ticks = Vec::new();
    let mut tick = (first / stride).ceil() * stride;
    while tick <= last && ticks.len() < 12 {
        ticks.push(tick);
        tick += stride;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_lane_of_its_own() {
        let axis = Axis::spanning([0.0, 1e-6, 1e-2].into_iter(), true).unwrap();
        assert_eq!(
            axis,
            Axis::Logarithmic {
                low: -6,
                high: -2,
                zero: true
            }
        );
        assert_eq!(axis.place(0.0), 0.0);
        assert!(axis.place(1e-6) > 0.05);
        assert!((axis.place(1e-2) - 1.0).abs() < 1e-12);
        assert_eq!(axis.ticks().first().map(|tick| tick.1.as_str()), Some("0"));
    }

    #[test]
    fn all_zero_is_linear() {
        assert_eq!(
            Axis::spanning([0.0, 0.0].into_iter(), true),
            Some(Axis::Linear(0.0, 1.0))
        );
        assert_eq!(Axis::spanning([f64::NAN].into_iter(), true), None);
    }

    #[test]
    fn linear_axes_end_on_round_numbers() {
        assert_eq!(
            Axis::spanning([0.0, 0.37].into_iter(), false),
            Some(Axis::Linear(0.0, 0.4))
        );
    }
}
