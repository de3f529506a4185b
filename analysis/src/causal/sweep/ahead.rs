//! What a model would say next, two tokens ahead, and how far two such outlooks lie apart.

/// The next token's distribution, and behind a few likely first tokens that of the second. Probabilities, `[vocab]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ahead {
    /// Of the first token.
    pub(super) first: Vec<f32>,
    /// Of the second, by the first; the same first tokens in every outlook that is compared.
    pub(super) second: Vec<(u32, Vec<f32>)>,
}

impl Ahead {
    /// Jensen–Shannon divergence of the pairs of tokens, in nats, at most ln 2.
    ///
    /// Where the second token is not looked at, it counts as the same for both, so this is never too much. A payload
    /// that begins with an ordinary word changes little in `first` and everything behind that word.
    pub(super) fn divergence(&self, other: &Self) -> f64 {
        let mut total = 0.0;
        for (token, (p, q)) in self.first.iter().zip(&other.first).enumerate() {
            if !self.second.iter().any(|(known, _)| *known as usize == token) {
                total += term(*p, *q);
            }
        }
        for ((token, own), (_, others)) in self.second.iter().zip(&other.second) {
            let (p, q) = (self.first[*token as usize], other.first[*token as usize]);
            total += own.iter().zip(others).map(|(own, other)| term(p * own, q * other)).sum::<f64>();
        }
        total.max(0.0)
    }
}

/// ½ p ln(p/m) + ½ q ln(q/m) with m = (p + q)/2.
fn term(p: f32, q: f32) -> f64 {
    /// Below this both together give less than a millionth of a nat over any vocabulary.
    const NOTHING: f32 = 1e-12;
    if p + q < NOTHING {
        return 0.0;
    }
    let (p, q) = (f64::from(p), f64::from(q));
    let middle = f64::midpoint(p, q);
    let part = |share: f64| if share > 0.0 { 0.5 * share * (share / middle).ln() } else { 0.0 };
    part(p) + part(q)
}

/// Logits become probabilities.
pub(super) fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0_f64;
    for value in logits.iter_mut() {
        *value = (*value - largest).exp();
        total += f64::from(*value);
    }
    let scale = (1.0 / total) as f32;
    logits.iter_mut().for_each(|value| *value *= scale);
}

/// −Σ p ln p, nats.
pub(super) fn entropy(probabilities: &[f32]) -> f64 {
    let term = |p: &f32| if *p > 0.0 { -f64::from(*p) * f64::from(*p).ln() } else { 0.0 };
    probabilities.iter().map(term).sum()
}

/// The likeliest tokens, the likeliest first.
pub(super) fn likeliest(probabilities: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
    let likelier = |left: &u32, right: &u32| {
        probabilities[*right as usize].total_cmp(&probabilities[*left as usize]).then(left.cmp(right))
    };
    if count < order.len() {
        order.select_nth_unstable_by(count, likelier);
        order.truncate(count);
    }
    order.sort_unstable_by(likelier);
    order
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::*;

    /// Disjoint distributions lie ln 2 apart; of (½, ½) against (1, 0) the formula gives 0.2157615543 by hand
    /// (`scipy.spatial.distance.jensenshannon` squared).
    #[test]
    fn one_token_gives_the_divergence_of_the_textbook() {
        let ahead = |first: [f32; 2]| Ahead { first: first.to_vec(), second: Vec::new() };
        assert!((ahead([1.0, 0.0]).divergence(&ahead([0.0, 1.0])) - LN_2).abs() < 1e-12);
        assert!((ahead([0.5, 0.5]).divergence(&ahead([1.0, 0.0])) - 0.215_761_554_3).abs() < 1e-9);
        assert_eq!(ahead([0.3, 0.7]).divergence(&ahead([0.3, 0.7])), 0.0);
    }

    /// The first word stays and the second turns: ln 2 times the chance of the first.
    #[test]
    fn a_payload_behind_an_ordinary_word_is_seen() {
        let ahead = |second: [f32; 2]| Ahead { first: vec![0.75, 0.25], second: vec![(0, second.to_vec())] };
        let found = ahead([1.0, 0.0]).divergence(&ahead([0.0, 1.0]));
        assert!((found - 0.75 * LN_2).abs() < 1e-9, "{found}");
    }

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(likeliest(&[0.1, 0.4, 0.2, 0.3], 2), [1, 3]);
        assert_eq!(likeliest(&[0.4, 0.6], 3), [1, 0]);
        assert!((entropy(&[0.5, 0.5]) - LN_2).abs() < 1e-12);
    }
}
