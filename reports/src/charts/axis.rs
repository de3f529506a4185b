//! Vertical axes: linear from zero, or logarithmic with a lane for zero below.
//!
//! "Unchanged" is a common and important answer (every layer below the first adapted one), and has no logarithm. It
//! gets a lane of its own at the foot of the axis, labelled 0, instead of a small number that would be made up.

use lcr_documents::number;

/// A vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Axis {
    /// Evenly from the first number to the second.
    Linear(f64, f64),
    /// Evenly in log₁₀.
    Logarithmic {
        /// log₁₀ of the lower end.
        low: f64,
        /// log₁₀ of the upper end.
        high: f64,
        /// Whether some number is zero or below, so that a lane for zero lies below the lower end.
        zero: bool,
    },
}

/// Height of the lane for zero, as a share of the axis.
const LANE: f64 = 0.1;

/// An axis of at most so many decades starts, ends and is marked at 1, 2 and 5 times a power of ten; a longer one at
/// powers of ten only. Rounding a short one to whole decades would leave most of it empty.
const SHORT: f64 = 2.0;

/// Where a short axis may start, end and be marked, within a decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

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
            let (low, high) = logarithmic_ends(least_positive.log10(), most.log10());
            return Some(Self::Logarithmic { low, high, zero: least <= 0.0 });
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
                if value > 0.0 { foot + (1.0 - foot) * (value.log10() - low) / (high - low) } else { 0.0 }
            }
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// At most about eight marks, each with its place and its label.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        match *self {
            Self::Linear(bottom, top) => (0..=4)
                .map(|index| {
                    let share = f64::from(index) / 4.0;
                    (share, number::plain(bottom + share * (top - bottom)))
                })
                .collect(),
            Self::Logarithmic { low, high, zero } => {
                let lane = zero.then(|| (0.0, "0".to_owned()));
                let marks = marks(low, high).into_iter().map(|value| (self.place(value), label(value)));
                lane.into_iter().chain(marks).collect()
            }
        }
    }
}

/// The ends of a logarithmic axis that holds what lies between the two logarithms.
fn logarithmic_ends(least: f64, most: f64) -> (f64, f64) {
    // What lies on a mark must not be pushed past it by rounding.
    const ROUNDING: f64 = 1e-9;
    let logs = || STEPS.into_iter().map(f64::log10).chain([1.0]);
    let below = |log: f64| {
        let decade = (log + ROUNDING).floor();
        let step = logs().filter(|step| decade + step <= log + ROUNDING).fold(0.0, f64::max);
        decade + step
    };
    let above = |log: f64| {
        let decade = (log + ROUNDING).floor();
        decade + logs().find(|step| decade + step >= log - ROUNDING).unwrap_or(1.0)
    };
    let (low, high) = (below(least), above(most));
    if high - low > SHORT + ROUNDING {
        return ((least + ROUNDING).floor(), (most - ROUNDING).ceil());
    }
    // Values that are all alike still need an axis around them.
    let air = if high - low < 0.5 { 2f64.log10() } else { 0.0 };
    (low - air, high + air)
}

/// The marks of a logarithmic axis.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let within = |value: &f64| value.log10() >= low - 1e-6 && value.log10() <= high + 1e-6;
    let decades = low.floor() as i32..=high.ceil() as i32;
    if high - low <= SHORT + 1e-6 {
        let steps = decades.flat_map(|power| STEPS.map(|step| step * 10f64.powi(power)));
        return steps.filter(within).collect();
    }
    // From the head downwards: how large the largest are is what a reader looks for.
    let stride = ((high - low) / 6.0) as usize + 1;
    decades.rev().map(|power| 10f64.powi(power)).filter(within).step_by(stride).collect()
}

/// `0.01`, `1`, `200`, or `1e-7` further out.
fn label(value: f64) -> String {
    if (0.999e-2..1000.0).contains(&value) {
        let rounded = format!("{value:.2}");
        return rounded.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.0e}")
}

/// The least of 1, 2, 4, 5, 8, 10 times a power of ten that is not below `value`; 1 for zero.
fn nice_above(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let nice = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().find(|step| step * power >= value * (1.0 - 1e-12));
    let above = nice.unwrap_or(10.0) * power;
    // Subnormal numbers: the power underflows to zero, and any positive top will do.
    if above > 0.0 && above.is_finite() { above } else { 1.0 }
}

/// At most about eight whole numbers from `first` to `last`.
pub(crate) fn whole_ticks(first: f64, last: f64) -> Vec<f64> {
    let span = last - first;
    let stride = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 50.0, 100.0].into_iter().find(|step| span / step <= 9.0);
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
        assert_eq!(axis, Axis::Logarithmic { low: -6.0, high: -2.0, zero: true });
        assert_eq!(axis.place(0.0), 0.0);
        assert!(axis.place(1e-6) > 0.05);
        assert!((axis.place(1e-2) - 1.0).abs() < 1e-12);
        assert_eq!(axis.ticks().first().map(|tick| tick.1.as_str()), Some("0"));
    }

    #[test]
    fn a_short_axis_ends_close_to_its_values() {
        let labels = |values: &[f64]| -> Vec<String> {
            let axis = Axis::spanning(values.iter().copied(), true).unwrap();
            axis.ticks().into_iter().map(|tick| tick.1).collect()
        };
        assert_eq!(labels(&[0.19, 1.79]), ["0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(&[0.3, 0.3]), ["0.1", "0.2", "0.5", "1"]);
        assert_eq!(labels(&[0.02, 0.02]), ["0.01", "0.02"]);
        assert_eq!(labels(&[2e-4, 7e-4]), ["2e-4", "5e-4", "1e-3"]);
    }

    #[test]
    fn a_long_axis_is_marked_at_its_head() {
        let axis = Axis::spanning([1e-7, 0.5].into_iter(), true).unwrap();
        let labels: Vec<String> = axis.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["1", "0.01", "1e-4", "1e-6"]);
        for value in [1e-7, 0.5] {
            assert!((0.0..=1.0).contains(&axis.place(value)));
        }
        assert!(Axis::spanning([f64::MIN_POSITIVE, f64::MAX].into_iter(), true).unwrap().ticks().len() <= 8);
    }

    #[test]
    fn all_zero_is_linear() {
        assert_eq!(Axis::spanning([0.0, 0.0].into_iter(), true), Some(Axis::Linear(0.0, 1.0)));
        assert_eq!(Axis::spanning([f64::NAN].into_iter(), true), None);
    }

    #[test]
    fn linear_axes_end_on_round_numbers() {
        assert_eq!(Axis::spanning([0.0, 0.37].into_iter(), false), Some(Axis::Linear(0.0, 0.4)));
    }
}
