//! How far a measured accuracy can be trusted, and whether two of them differ.
//!
//! A few hundred test problems leave an accuracy uncertain by several points, more than most training runs move it, so
//! no accuracy is reported without its interval. Two models answer the *same* problems, so they are compared pair by
//! pair: the problems that both solve, or neither, say nothing about which is better. Counts enter, closed forms or
//! exact sums answer; nothing here is drawn at random, and nothing is assumed normal but the score statistics that
//! Wilson's and Tango's intervals invert.

mod binomial;
mod normal;

use serde::{Deserialize, Serialize};

/// Why a statistic cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// A level of confidence that no interval has.
    #[error("a confidence level of {found} is not possible: give a number above 0 and below 1, such as 0.95")]
    Confidence {
        /// What was asked for.
        found: f64,
    },
    /// Two lists of outcomes that are not of the same problems.
    #[error(
        "{first} outcomes cannot be paired with {second}: both models must have answered the same problems in the same \
         order"
    )]
    Unpaired {
        /// Length of the first list.
        first: usize,
        /// Length of the second list.
        second: usize,
    },
}

/// How often an interval shall cover the truth: 0.95 unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    level: f64,
    quantile: f64,
}

impl Confidence {
    /// A level within (0, 1).
    pub fn new(level: f64) -> Result<Self, StatisticsError> {
        if level > 0.0 && level < 1.0 {
            Ok(Self { level, quantile: normal::two_sided_quantile(level) })
        } else {
            Err(StatisticsError::Confidence { found: level })
        }
    }

    /// The level.
    pub fn level(self) -> f64 {
        self.level
    }

    /// z with P(|N(0, 1)| < z) = level: 1.96 for 0.95.
    pub fn quantile(self) -> f64 {
        self.quantile
    }
}

impl Default for Confidence {
    fn default() -> Self {
        let level = 0.95;
        Self { level, quantile: normal::two_sided_quantile(level) }
    }
}

/// The middle value, or the mean of the middle two; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied()?;
    let lower = values.get((values.len() - 1) / 2).copied()?;
    Some(f64::midpoint(lower, upper))
}

/// A confidence interval, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's score interval of `successes` in `trials` (Wilson 1927): the shares p with |k/n − p| ≤ z √(p(1 − p)/n),
/// that is (k + z²/2 ± z √(k(n − k)/n + z²/4)) / (n + z²). It stays within [0, 1] and keeps a width at 0 and n
/// successes, where the textbook interval k/n ± z·stderr shrinks to a point. `None` without trials, or with more
/// successes than trials.
pub fn wilson(successes: u64, trials: u64, confidence: Confidence) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (k, n) = (successes as f64, trials as f64);
    let z = confidence.quantile;
    let centre = k + z * z / 2.0;
    let reach = z * (k * ((trials - successes) as f64) / n + z * z / 4.0).sqrt();
    let denominator = n + z * z;
    // The formula's ends are exactly 0 and 1 there; rounding is not let to say otherwise.
    let low = if successes == 0 { 0.0 } else { ((centre - reach) / denominator).max(0.0) };
    let high = if successes == trials { 1.0 } else { ((centre + reach) / denominator).min(1.0) };
    Some(Interval { low, high })
}

/// Two models on the same problems, counted by which of them was right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedOutcomes {
    /// Problems that both solved.
    pub both: u64,
    /// Problems that only the first solved.
    pub first_only: u64,
    /// Problems that only the second solved.
    pub second_only: u64,
    /// Problems that neither solved.
    pub neither: u64,
}

impl PairedOutcomes {
    /// Counts two lists of outcomes, entry i of both being about problem i.
    pub fn count(first: &[bool], second: &[bool]) -> Result<Self, StatisticsError> {
        if first.len() != second.len() {
            return Err(StatisticsError::Unpaired { first: first.len(), second: second.len() });
        }
        let mut counts = Self::default();
        for pair in first.iter().zip(second) {
            match pair {
                (true, true) => counts.both += 1,
                (true, false) => counts.first_only += 1,
                (false, true) => counts.second_only += 1,
                (false, false) => counts.neither += 1,
            }
        }
        Ok(counts)
    }

    /// Problems.
    pub fn total(&self) -> u64 {
        self.both + self.first_only + self.second_only + self.neither
    }

    /// Accuracy of the second model less that of the first; `None` without problems.
    pub fn difference(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| (self.second_only as f64 - self.first_only as f64) / total as f64)
    }

    /// Natural logarithm of [`Self::p_value`], which still tells sizes apart where the p-value itself is 0 in an f64.
    pub fn ln_p_value(&self) -> f64 {
        let discordant = self.first_only + self.second_only;
        let fewer = self.first_only.min(self.second_only);
        if 2 * fewer == discordant {
            return 0.0;
        }
        (std::f64::consts::LN_2 + binomial::ln_fair_tail(fewer, discordant)).min(0.0)
    }

    /// McNemar's test in its exact form, a sign test: the two-sided probability, were both models equally good, that
    /// the problems on which they disagree fall at least as unevenly as they do: min(1, 2·P(X ≤ min(b, c))), X ~ Bin(b
    /// + c, ½). 1 where they never disagree.
    pub fn p_value(&self) -> f64 {
        self.ln_p_value().exp()
    }

    /// Tango's score interval (Tango 1998) of [`Self::difference`]: the differences δ that the score test does not
    /// refuse,
    /// |b − c − nδ| ≤ z √(n(2q̂ + δ(1 − δ))), with b problems won by the second model, c lost, and q̂ the most likely share of
    /// lost problems under δ. It agrees with McNemar's (asymptotic) test about whether 0 is inside, and needs no
    /// correction where a cell is empty. `None` without problems.
    pub fn difference_interval(&self, confidence: Confidence) -> Option<Interval> {
        let difference = self.difference()?;
        let z = confidence.quantile;
        let low = boundary(-1.0, difference, |delta| self.score(delta, z) > 0.0);
        let high = boundary(1.0, difference, |delta| self.score(delta, -z) < 0.0);
        Some(Interval { low, high })
    }

    /// b − c − nδ − z √(n(2q̂ + δ(1 − δ))): positive where δ is refused as too small (z > 0), negative where it is
    /// refused as too large (z < 0).
    fn score(&self, delta: f64, z: f64) -> f64 {
        let (n, b, c) = (self.total() as f64, self.second_only as f64, self.first_only as f64);
        // q̂ is the larger root of 2n·q² + B·q − cδ(1 − δ) = 0, B = (2n − b + c)δ − b − c.
        let linear = (2.0 * n - b + c) * delta - b - c;
        let constant = -c * delta * (1.0 - delta);
        let root = (linear * linear - 8.0 * n * constant).max(0.0).sqrt();
        // Of two equal forms, the one that does not subtract nearly equal numbers.
        let lost = if linear <= 0.0 { (root - linear) / (4.0 * n) } else { -2.0 * constant / (linear + root) };
        let variance = n * (2.0 * lost + delta * (1.0 - delta));
        b - c - n * delta - z * variance.max(0.0).sqrt()
    }
}

/// Where the differences that are refused end, between one that may be (`outer`) and one that is not (`inner`). A
/// hundred halvings reach neighbouring numbers.
fn boundary(mut outer: f64, mut inner: f64, refused: impl Fn(f64) -> bool) -> f64 {
    if !refused(outer) {
        return outer;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(outer, inner);
        if refused(middle) {
            outer = middle;
        } else {
            inner = middle;
        }
    }
    inner
}

/// A result over several seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Seeds.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation (divisor n − 1): how far one more seed may fall from the mean. `None` for one seed.
    pub standard_deviation: Option<f64>,
    /// Standard deviation of the mean itself, the former over √n.
    pub standard_error: Option<f64>,
}

/// Mean and spread of one result per seed; `None` without any, or with one that is not finite.
pub fn spread(values: &[f64]) -> Option<Spread> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    // In two passes: the mean of squares less the square of the mean would cancel for results as close as those of
    // seeds.
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    Some(Spread {
        count: values.len(),
        mean,
        standard_deviation,
        standard_error: standard_deviation.map(|deviation| deviation / count.sqrt()),
    })
}

#[cfg(test)]
mod tests;
