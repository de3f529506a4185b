//! Tails of the fair coin, summed exactly.
//!
//! The logarithm of a tail's largest term comes from a product of k factors, the rest of the tail from the ratios of
//! neighbouring terms. No approximation of the gamma function enters, so there is none to be wrong for large counts.

use std::f64::consts::LN_2;

/// ln P(X ≤ `most`) for X ~ Bin(`trials`, ½), with 2·`most` ≤ `trials`. Time grows with `most`.
pub(super) fn ln_fair_tail(most: u64, trials: u64) -> f64 {
    // P(X = k) = 2⁻ⁿ ∏ (n − k + i)/i. The sum of a million logarithms is compensated (Neumaier), for the difference to
    // n·ln 2 is much smaller than either.
    let rest = trials.saturating_sub(most);
    let (mut sum, mut lost) = (-(trials as f64) * LN_2, 0.0);
    for index in 1..=most {
        let term = ((rest + index) as f64 / index as f64).ln();
        let next = sum + term;
        lost += if sum.abs() >= term.abs() { (sum - next) + term } else { (term - next) + sum };
        sum = next;
    }
    // P(X = i − 1) / P(X = i) = i/(n − i + 1): below the middle each term is smaller than the one before.
    let (mut relative, mut tail) = (1.0_f64, 1.0_f64);
    for index in (1..=most).rev() {
        relative *= index as f64 / (trials - index + 1) as f64;
        tail += relative;
        if relative < tail * f64::EPSILON * 1e-3 {
            break;
        }
    }
    sum + lost + tail.ln()
}
