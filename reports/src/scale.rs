//! The colour scale of the heat maps: twelve steps over the decades that the numbers span.
//!
//! Logarithmic, because changes span many powers of ten; in steps, so that both renderers and both themes agree on
//! which cell has which colour, and a page can name the colours in its style sheet. Lightness runs monotonically, so
//! the steps stay in order without colour vision.

/// Colours of the scale on a light ground, least first.
pub(crate) const LIGHT: [&str; STEPS] = [
    "#f6f5e2", "#e0eecd", "#beeac4", "#96e2c5", "#76d0c2", "#59bdbf", "#3ea7bb", "#2b8fb6", "#2a76ad", "#2f5d9e",
    "#33458b", "#332d76",
];

/// Colours of the scale on a dark ground, least first.
pub(crate) const DARK: [&str; STEPS] = [
    "#222232", "#2b2a4b", "#343266", "#3b3d80", "#385495", "#316ba8", "#2184b5", "#179fbc", "#31b7bd", "#58d0af",
    "#9ae293", "#e4eb77",
];

/// First step on which white text reads better than black, on the light ground's colours.
pub(crate) const LIGHT_TEXT_FROM: usize = 8;

/// First step on which black text reads better than white, on the dark ground's colours.
pub(crate) const DARK_TEXT_FROM: usize = 6;

/// Steps of the scale.
pub(crate) const STEPS: usize = 12;

/// A scale spans at most this many decades; what is smaller takes the first colour.
const MOST_DECADES: f64 = 6.0;

/// A scale spans at least this many: numbers that are almost alike must not run through all colours.
const LEAST_DECADES: f64 = 1.0;

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing was measured.
    Missing,
    /// Zero or below: apart from the scale, for "unchanged" is another answer than "changed by little".
    Zero,
    /// A step of the scale.
    Step(usize),
}

/// Which colour a number takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ColorScale {
    /// log₁₀ of the lower end.
    low: f64,
    /// log₁₀ of the upper end.
    high: f64,
}

impl ColorScale {
    /// The scale that spans the positive numbers among `values`; `None` where there is none.
    pub(crate) fn spanning(values: impl Iterator<Item = f64>) -> Option<Self> {
        let logs = values.filter(|value| value.is_finite() && *value > 0.0).map(f64::log10);
        let (low, high) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(log), high.max(log)));
        if low > high {
            return None;
        }
        Some(Self { low: low.clamp(high - MOST_DECADES, high - LEAST_DECADES), high })
    }

    /// The step of a positive number, 0 to 11.
    fn step(self, value: f64) -> usize {
        let share = (value.log10() - self.low) / (self.high - self.low);
        ((share * STEPS as f64) as usize).min(STEPS - 1)
    }

    /// How a cell looks; `scale` is `None` where no cell is above zero.
    pub(crate) fn tone(scale: Option<Self>, cell: Option<f64>) -> Tone {
        match (cell.filter(|value| value.is_finite()), scale) {
            (None, _) => Tone::Missing,
            (Some(value), Some(scale)) if value > 0.0 => Tone::Step(scale.step(value)),
            (Some(_), _) => Tone::Zero,
        }
    }

    /// Lower end.
    pub(crate) fn least(&self) -> f64 {
        10f64.powf(self.low)
    }

    /// Upper end.
    pub(crate) fn most(&self) -> f64 {
        10f64.powf(self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_take_the_end_colours() {
        let scale = ColorScale::spanning([1e-4, 1.0, 0.0, f64::NAN].into_iter()).unwrap();
        let tone = |value: f64| ColorScale::tone(Some(scale), Some(value));
        assert_eq!(tone(1e-4), Tone::Step(0));
        assert_eq!(tone(1.0), Tone::Step(STEPS - 1));
        assert_eq!(tone(2.0), Tone::Step(STEPS - 1));
        assert_eq!(tone(0.0), Tone::Zero);
        assert_eq!(tone(f64::NAN), Tone::Missing);
    }

    #[test]
    fn nothing_positive_has_no_scale_and_one_number_has() {
        assert_eq!(ColorScale::spanning([0.0, f64::NAN].into_iter()), None);
        let scale = ColorScale::spanning([0.5].into_iter()).unwrap();
        assert!(matches!(ColorScale::tone(Some(scale), Some(0.5)), Tone::Step(_)));
        assert_eq!(ColorScale::tone(None, Some(0.0)), Tone::Zero);
    }
}
