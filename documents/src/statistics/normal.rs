//! Quantiles of the normal distribution, from the series of its distribution function.

/// z with P(|N(0, 1)| < z) = `level`, for a level within (0, 1). Bisection: the distribution function is monotone, and
/// a quantile is needed once per run.
pub(super) fn two_sided_quantile(level: f64) -> f64 {
    // P(|N| < 9) is 1 in an f64.
    let (mut low, mut high) = (0.0, 9.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if within(middle) < level {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(|N(0, 1)| < z) = 2φ(z)·(z + z³/3 + z⁵/(3·5) + z⁷/(3·5·7) + …). All terms are positive, so nothing cancels.
fn within(z: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * 1e-18 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    2.0 * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}
