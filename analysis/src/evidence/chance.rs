//! How likely chance alone is to give a number: against a few random adapters, over many questions, over other prompts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::statistics::{mean, percentile};

/// Fewer prompts than this say nothing about other prompts.
pub const FEWEST_PROMPTS: usize = 8;
/// Resamples of an interval.
const RESAMPLES: usize = 1000;

/// The chance that one more draw of the kind of `null` is at least `measured`: a prediction by Student's t (1908) on
/// logarithms, for sizes that are positive and spread by a factor.
///
/// With five random adapters ranks alone could not say less than 1/6. That logarithms of such sizes are near normal is
/// an assumption, which no population was held against yet. `None` for fewer than three draws or one that is not
/// positive.
pub fn beyond_sizes(measured: f64, null: &[f64]) -> Option<f64> {
    let is_size = |value: &f64| *value > 0.0 && value.is_finite();
    if !null.iter().all(is_size) || !measured.is_finite() {
        return None;
    }
    let logs: Vec<f64> = null.iter().map(|value| value.ln()).collect();
    if measured <= 0.0 { Some(1.0) } else { beyond(measured.ln(), &logs) }
}

/// The same for shares of 1: what is left to 1 is a size, while five shares near their bound predict nothing.
pub fn beyond_shares(measured: f64, null: &[f64]) -> Option<f64> {
    let over_the_rest = |share: f64| 1.0 / (1.0 - share).max(f64::EPSILON);
    beyond_sizes(over_the_rest(measured), &null.iter().copied().map(over_the_rest).collect::<Vec<_>>())
}

/// The same on the numbers as they are.
pub fn beyond(measured: f64, null: &[f64]) -> Option<f64> {
    let count = null.len();
    if count < 3 {
        return None;
    }
    let centre = mean(null);
    let variance = null.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (count - 1) as f64;
    let spread = (variance * (1.0 + 1.0 / count as f64)).sqrt();
    if spread <= 0.0 {
        return Some(if measured > centre { 0.0 } else { 1.0 });
    }
    Some(student_tail((measured - centre) / spread, (count - 1) as f64))
}

/// P(T ≥ t) of Student's distribution with `freedom` degrees, by the regularised incomplete beta function.
pub fn student_tail(t: f64, freedom: f64) -> f64 {
    let half = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t >= 0.0 { half } else { 1.0 - half }
}

/// What a denominator is raised to that would be zero.
const TINY: f64 = 1e-300;

/// I_x(a, b) by its continued fraction (Abramowitz and Stegun 1964, 26.5.8), summed by Lentz's method.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    let (mut fraction, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 0..200 {
        let m = f64::from(step / 2);
        let term = match step {
            0 => 1.0,
            _ if step % 2 == 0 => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            _ => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        };
        d = 1.0 / keep_from_zero(1.0 + term * d);
        c = keep_from_zero(1.0 + term / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (front * (fraction - 1.0)).clamp(0.0, 1.0)
}

fn keep_from_zero(value: f64) -> f64 {
    if value.abs() < TINY { TINY } else { value }
}

/// ln Γ(x) for x > 0 by Lanczos' approximation (1964), g = 7.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS[1..].iter().zip(1..).fold(TERMS[0], |sum, (term, place)| sum + term / (x + f64::from(place)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Holm's correction (1979): p values as they are once all of them count as tried, in their order.
pub fn holm(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..values.len()).filter(|place| values[*place].is_some()).collect();
    order.sort_by(|left, right| values[*left].unwrap_or(1.0).total_cmp(&values[*right].unwrap_or(1.0)));
    let tried = order.len();
    let mut adjusted = vec![None; values.len()];
    let mut largest = 0.0_f64;
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max(values[place].unwrap_or(1.0) * (tried - rank) as f64).min(1.0);
        adjusted[place] = Some(largest);
    }
    adjusted
}

/// 95 % interval of a statistic over prompts, by resampling prompts and never tokens (Efron 1979, percentiles).
///
/// `None` under [`FEWEST_PROMPTS`] prompts, or where the statistic is not finite on a resample.
pub fn interval_over_prompts(prompts: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Option<[f64; 2]> {
    if prompts < FEWEST_PROMPTS {
        return None;
    }
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let sample: Vec<usize> = (0..prompts).map(|_| draw.random_range(0..prompts)).collect();
        let value = statistic(&sample);
        if !value.is_finite() {
            return None;
        }
        values.push(value);
    }
    values.sort_by(f64::total_cmp);
    Some([percentile(&values, 0.025), percentile(&values, 0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `scipy.stats.t.sf`.
    #[test]
    fn students_tail_is_that_of_the_tables() {
        for (t, freedom, expected) in
            [(0.0, 4.0, 0.5), (2.0, 4.0, 0.058_058_261_758_407_78), (12.0, 4.0, 1.382_142_742_514_865e-4)]
        {
            let found = student_tail(t, freedom);
            assert!((found / expected - 1.0).abs() < 1e-6, "{t}, {freedom}: {found}");
        }
        assert!((student_tail(-2.0, 4.0) + student_tail(2.0, 4.0) - 1.0).abs() < 1e-12);
    }

    /// By hand: three tries of 0.01, 0.04 and 0.03 become 0.03, 0.06 and 0.06.
    #[test]
    fn holm_counts_every_try() {
        let found = holm(&[Some(0.01), None, Some(0.04), Some(0.03)]);
        let expected = [Some(0.03), None, Some(0.06), Some(0.06)];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.is_some(), expected.is_some());
            assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn few_prompts_have_no_interval() {
        assert_eq!(interval_over_prompts(7, 0, |_| 1.0), None);
        assert_eq!(interval_over_prompts(8, 0, |_| 1.0), Some([1.0, 1.0]));
    }
}
