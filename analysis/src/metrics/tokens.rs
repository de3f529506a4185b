//! Next-token distributions of both models, position by position.

use lcr_documents::audit::{Entropies, KlSummary, Prediction, TokenChange, WorstToken};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::descriptor::{Entry, Metric, Number, Reads, Runs, Unit};
use crate::statistics::{jensen_shannon_term, mean, percentile};

/// Positions listed with their predictions.
const WORST: usize = 12;
/// Predictions listed of each.
const TOP: usize = 5;
/// Below this |ln p/q| the second-order series replaces the difference of large terms.
const SERIES_BELOW: f64 = 0.05;

/// `tokens`.
pub static METRIC: Metric = Metric {
    name: "tokens",
    runs: Runs::ByDefault,
    reads: Reads::Logits,
    entries: &[
        Entry {
            heading: "`kl.{mean,p95,max}`",
            definition: "
KL(P‖Q) = Σ P ln(P/Q) (Kullback and Leibler 1951): mean, 95th percentile and maximum over positions.
Summed as Σ P(δ + e^(−δ) − 1) with δ = ln P/Q, every term of which is at least zero, so that a divergence of 10⁻¹⁰ does
not drown in terms of order one.",
            trap: "
Trap: not symmetric. It punishes Q for forgetting what P expected, and hardly for new ideas of its own. Rare tokens the
base likes can own the mean.",
            numbers: &[
                Number::new("kl.mean", "Mean of KL(base‖adapted) over positions, nats.", Unit::Nats, "0 to ∞")
                    .more_change(0.0),
                Number::new("kl.p95", "95th percentile over positions.", Unit::Nats, "0 to ∞").more_change(0.0),
                Number::new("kl.max", "Largest of any position.", Unit::Nats, "0 to ∞").more_change(0.0),
            ],
            glossary: &[(
                "KL, flips",
                "How far the next-token distributions are apart, and how often the first choice differs. No chance \
                 level without a null run.",
            )],
            ..Entry::EMPTY
        },
        Entry {
            heading: "`js_mean`",
            definition: "
Mean Jensen–Shannon divergence (Lin 1991). Symmetric and bounded, so the steadier of the two for large changes.",
            numbers: &[Number::new(
                "js_mean",
                "Mean Jensen–Shannon divergence, \
                    nats.",
                Unit::Nats,
                "0 to \
                    ln 2",
            )
            .more_change(0.0)],
            ..Entry::EMPTY
        },
        Entry {
            heading: "`top1_flip_rate`",
            definition: "Share of positions whose most likely token differs.",
            trap: "
Trap: flips are cheap where the base was undecided, and a model may change a great deal without one. Read it with `kl`
and `entropy`.",
            numbers: &[Number::new(
                "top1_flip_rate",
                "Share of positions whose most likely next token differs.",
                Unit::Share,
                "0 to 1",
            )
            .more_change(0.0)],
            ..Entry::EMPTY
        },
        Entry {
            heading: "`entropy.{base,adapted}`",
            definition: "
Mean H(P) and mean H(Q). A lower value after adaptation is what any narrow training does; a collapse towards 0 is \
                loops to
come.",
            numbers: &[
                Number::new(
                    "entropy.base",
                    "Mean entropy of the base's next-token distributions, nats.",
                    Unit::Nats,
                    "0 to ln(vocabulary)",
                ),
                Number::new("entropy.adapted", "Of the adapted model's.", Unit::Nats, "0 to ln(vocabulary)"),
            ],
            ..Entry::EMPTY
        },
        Entry {
            heading: "`worst`",
            definition: "
The twelve positions with the largest KL, with their text and both models' five most likely tokens. The maximum over
many positions is large by construction: they are there to be read, not to be counted.",
            ..Entry::EMPTY
        },
    ],
    references: &[
        "Kullback, Leibler 1951. On information and sufficiency. Annals of Mathematical Statistics 22.",
        "Lin 1991. Divergence measures based on the Shannon entropy. IEEE Transactions on Information Theory 37.",
    ],
};

/// What two distributions over the vocabulary differ by.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Divergence {
    /// KL(base‖adapted), nats.
    pub kl: f64,
    /// Jensen–Shannon, nats.
    pub js: f64,
    /// Entropy of the base's, nats.
    pub base_entropy: f64,
    /// Entropy of the adapted model's, nats.
    pub adapted_entropy: f64,
    /// Token with the base's largest logit.
    pub base_top: usize,
    /// Token with the adapted model's largest logit.
    pub adapted_top: usize,
}

/// Index of the largest value; the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, index| if values[index] > values[best] { index } else { best })
}

/// ln Σ exp over the vocabulary.
fn log_sum_exp(logits: &[f32], largest: f32) -> f64 {
    let total: f64 = logits.iter().map(|logit| f64::from((logit - largest).exp())).sum();
    f64::from(largest) + total.ln()
}

/// A next-token distribution: logits, and their softmax not yet divided by its sum. Exponentials are the costly part,
/// so they are taken once, the base's for all variants.
#[derive(Debug)]
pub struct Distribution<'a> {
    logits: &'a [f32],
    /// Token with the largest logit.
    pub top: usize,
    exponentials: Vec<f32>,
    /// 1/Σ.
    scale: f64,
    /// ln Σ exp of the logits.
    log_total: f64,
}

impl<'a> Distribution<'a> {
    /// Of one row of logits.
    pub fn new(logits: &'a [f32]) -> Self {
        let top = argmax(logits);
        let largest = logits[top];
        let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let total: f64 = exponentials.iter().map(|value| f64::from(*value)).sum();
        Self { logits, top, exponentials, scale: 1.0 / total, log_total: f64::from(largest) + total.ln() }
    }

    /// Tokens that are more likely than this one.
    pub fn rank(&self, token: usize) -> usize {
        self.logits.iter().filter(|logit| **logit > self.logits[token]).count()
    }

    /// Adds each token's part of KL(self‖base), q·ln(q/p): large where a token that the base would hardly say is said.
    pub fn add_gain(&self, base: &Self, gained: &mut [f64]) {
        let logits = self.logits.iter().zip(base.logits);
        for ((gained, own), (logit, base_logit)) in gained.iter_mut().zip(&self.exponentials).zip(logits) {
            let ratio = (f64::from(*logit) - self.log_total) - (f64::from(*base_logit) - base.log_total);
            *gained += f64::from(*own) * self.scale * ratio;
        }
    }

    /// Of every row of logits, `[rows, vocab]`.
    pub fn of_rows(logits: &'a [f32], vocab_size: usize) -> Vec<Self> {
        logits.par_chunks_exact(vocab_size).map(Self::new).collect()
    }
}

/// Divergences of two distributions over the same tokens.
///
/// KL is summed as Σ p(δ + e^(−δ) − 1) with δ = ln p/q, which is term by term at least zero and second order in δ: the
/// textbook Σ p·δ loses a change of 10⁻⁴ among terms of order one.
pub fn divergence(base: &Distribution, adapted: &Distribution) -> Divergence {
    let (base_top, adapted_top) = (base.top, adapted.top);
    let mut found = Divergence { kl: 0.0, js: 0.0, base_entropy: 0.0, adapted_entropy: 0.0, base_top, adapted_top };
    let shares = base.exponentials.iter().zip(&adapted.exponentials);
    for ((x, y), (p, q)) in base.logits.iter().zip(adapted.logits).zip(shares) {
        let (log_p, log_q) = (f64::from(*x) - base.log_total, f64::from(*y) - adapted.log_total);
        let (p, q) = (f64::from(*p) * base.scale, f64::from(*q) * adapted.scale);
        let delta = log_p - log_q;
        if delta.abs() < SERIES_BELOW {
            // Probabilities agree to a few per cent: both series in δ, without the cancellation of the differences.
            let square = delta * delta;
            found.kl += p * square * (0.5 - delta * (1.0 / 6.0 - delta * (1.0 / 24.0 - delta / 120.0)));
            let shift = (delta / 2.0) * (1.0 - square / 12.0 + square * square / 120.0);
            let x = shift * shift;
            found.js += 0.25 * (p + q) * x * (1.0 + x / 6.0);
        } else {
            found.kl += p * delta - p + q;
            found.js += jensen_shannon_term(p, q);
        }
        found.base_entropy -= p * log_p;
        found.adapted_entropy -= q * log_q;
    }
    found
}

/// A position whose distributions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Index of the prompt.
    pub prompt: usize,
    /// Index of the token in the prompt.
    pub position: usize,
}

/// How token ids are shown to a reader.
pub trait Vocabulary: Sync {
    /// Text of one token.
    fn token(&self, id: u32) -> String;
    /// Text of a prompt up to and including a position.
    fn context(&self, place: Place) -> String;
}

/// A candidate for the list of worst positions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Candidate {
    place: Place,
    kl: f64,
    base_top: Vec<(usize, f64)>,
    adapted_top: Vec<(usize, f64)>,
}

/// Collects the divergences of one variant, chunk of rows by chunk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TokenDivergences {
    found: Vec<Divergence>,
    worst: Vec<Candidate>,
}

impl TokenDivergences {
    /// Adds rows of both models whose places are given, the adapted model's as logits `[rows, vocab]`; places that are
    /// `None` are left out.
    pub fn add(&mut self, base: &[Distribution], adapted: &[f32], vocab_size: usize, places: &[Option<Place>]) {
        let rows: Vec<(Place, Divergence, &[f32], &[f32])> = base
            .par_iter()
            .zip(adapted.par_chunks_exact(vocab_size))
            .zip(places)
            .filter_map(|((base, adapted), place)| {
                Some(((*place)?, divergence(base, &Distribution::new(adapted)), base.logits, adapted))
            })
            .collect();
        for (place, found, base, adapted) in rows {
            self.found.push(found);
            let bar = self.worst.last().map_or(0.0, |candidate| candidate.kl);
            if found.kl > 0.0 && (self.worst.len() < WORST || found.kl > bar) {
                self.worst.push(Candidate { place, kl: found.kl, base_top: top(base), adapted_top: top(adapted) });
                self.worst.sort_by(|left, right| right.kl.total_cmp(&left.kl));
                self.worst.truncate(WORST);
            }
        }
    }

    /// The same for rows that both models share.
    pub fn add_unchanged(&mut self, base: &[Distribution], places: &[Option<Place>]) {
        let found: Vec<Divergence> = base
            .par_iter()
            .zip(places)
            .filter(|(_, place)| place.is_some())
            .map(|(row, _)| divergence(row, row))
            .collect();
        self.found.extend(found);
    }

    /// Statistics over all positions.
    pub fn summary(&self, vocabulary: &dyn Vocabulary) -> TokenChange {
        let of = |value: fn(&Divergence) -> f64| self.found.iter().map(value).collect::<Vec<f64>>();
        let mut kl = of(|found| found.kl);
        kl.sort_by(f64::total_cmp);
        let flips = self.found.iter().filter(|found| found.base_top != found.adapted_top).count();
        let predictions = |top: &[(usize, f64)]| {
            let named = |&(token, probability): &(usize, f64)| Prediction {
                token: token as u32,
                text: vocabulary.token(token as u32),
                probability,
            };
            top.iter().map(named).collect()
        };
        TokenChange {
            positions: self.found.len(),
            kl: KlSummary { mean: mean(&kl), p95: percentile(&kl, 0.95), max: kl.last().copied().unwrap_or(0.0) },
            js_mean: mean(&of(|found| found.js)),
            top1_flip_rate: flips as f64 / self.found.len().max(1) as f64,
            entropy: Entropies {
                base: mean(&of(|found| found.base_entropy)),
                adapted: mean(&of(|found| found.adapted_entropy)),
            },
            worst: self
                .worst
                .iter()
                .map(|candidate| WorstToken {
                    prompt: candidate.place.prompt,
                    position: candidate.place.position,
                    kl: candidate.kl,
                    context: vocabulary.context(candidate.place),
                    base_top: predictions(&candidate.base_top),
                    adapted_top: predictions(&candidate.adapted_top),
                })
                .collect(),
        }
    }
}

/// The most likely tokens with their probabilities, most likely first.
fn top(logits: &[f32]) -> Vec<(usize, f64)> {
    let total = log_sum_exp(logits, logits[argmax(logits)]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let count = TOP.min(order.len());
    let likelier = |left: &usize, right: &usize| logits[*right].total_cmp(&logits[*left]).then(left.cmp(right));
    if count < order.len() {
        order.select_nth_unstable_by(count, likelier);
        order.truncate(count);
    }
    order.sort_by(likelier);
    order.into_iter().map(|token| (token, (f64::from(logits[token]) - total).exp())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook sums in f64.
    fn naive(base: &[f64], adapted: &[f64]) -> (f64, f64) {
        let softmax = |logits: &[f64]| {
            let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
            logits.iter().map(|logit| logit.exp() / total).collect::<Vec<f64>>()
        };
        let (p, q) = (softmax(base), softmax(adapted));
        let kl = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let half = |x: f64, m: f64| 0.5 * x * (x / m).ln();
        let js = p.iter().zip(&q).map(|(p, q)| half(*p, f64::midpoint(*p, *q)) + half(*q, f64::midpoint(*p, *q))).sum();
        (kl, js)
    }

    #[test]
    fn agrees_with_textbook_sums_for_large_and_small_changes() {
        for (size, tolerance) in [(2.0, 1e-5), (1e-2, 1e-4), (1e-4, 1e-3)] {
            let base: Vec<f32> = (0..50).map(|index| (index as f32 * 0.7).sin() * 3.0).collect();
            let adapted: Vec<f32> =
                base.iter().enumerate().map(|(index, logit)| logit + size * (index as f32 * 1.3).cos()).collect();
            let widen = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
            let (kl, js) = naive(&widen(&base), &widen(&adapted));
            let found = divergence(&Distribution::new(&base), &Distribution::new(&adapted));
            assert!((found.kl / kl - 1.0).abs() < tolerance, "KL {} against {kl}", found.kl);
            assert!((found.js / js - 1.0).abs() < tolerance, "JS {} against {js}", found.js);
        }
    }

    #[test]
    fn adding_a_constant_to_logits_changes_nothing() {
        let base = [1.0f32, 2.0, -1.0, 0.5];
        let shifted = base.map(|logit| logit + 4.0);
        let found = divergence(&Distribution::new(&base), &Distribution::new(&shifted));
        assert!(found.kl.abs() < 1e-12 && found.js.abs() < 1e-12);
        assert!((found.base_entropy - found.adapted_entropy).abs() < 1e-6);
    }

    /// Changes of five logits, KL, JS and the entropy after them.
    type Case = ([f32; 5], f64, f64, f64);

    const CASES: [Case; 2] = [
        (
            [0.031_25, -0.031_25, 0.015_625, 0.0, 0.0625],
            0.000_321_827_513_804_071_1,
            8.064_059_965_987_654e-5,
            1.264_124_842_752_623,
        ),
        ([2.0, -1.0, 0.5, 0.0, 3.0], 0.797_778_602_136_088_9, 0.180_248_826_671_430_6, 1.197_429_863_823_273_2),
    ];

    /// `scipy.special.rel_entr` of softmaxes, and `scipy.stats.entropy`: changes of a few per cent, which the series
    /// add up, and large ones, which they must not.
    #[test]
    fn divergences_are_those_of_scipy() {
        let base = [0.0_f32, 1.0, -1.0, 0.5, -2.5];
        for (change, kl, js, entropy) in CASES {
            let adapted: Vec<f32> = base.iter().zip(change).map(|(logit, change)| logit + change).collect();
            let found = divergence(&Distribution::new(&base), &Distribution::new(&adapted));
            assert!((found.kl / kl - 1.0).abs() < 1e-5, "KL {} {kl}", found.kl);
            assert!((found.js / js - 1.0).abs() < 1e-5, "JS {} {js}", found.js);
            assert!((found.base_entropy - 1.250_281_044_761_172_7).abs() < 1e-6, "{}", found.base_entropy);
            assert!((found.adapted_entropy - entropy).abs() < 1e-6, "{} {entropy}", found.adapted_entropy);
        }
    }

    struct Ids;

    impl Vocabulary for Ids {
        fn token(&self, id: u32) -> String {
            id.to_string()
        }

        fn context(&self, place: Place) -> String {
            format!("{}:{}", place.prompt, place.position)
        }
    }

    /// Forty positions, of which the changes grow and shrink in no order; each fifth has no place, and the first two
    /// rows come later.
    #[test]
    fn the_worst_positions_are_those_of_the_largest_divergence() {
        let change = |row: usize| (row * 17 % 41) as f32 / 20.0;
        let base: Vec<f32> = (0..40).flat_map(|_| [0.0, 1.0, 0.5]).collect();
        let adapted: Vec<f32> = (0..40).flat_map(|row| [change(row), 1.0, 0.5]).collect();
        let places: Vec<Option<Place>> =
            (0..40).map(|row| (row % 5 != 4).then_some(Place { prompt: row / 8, position: row % 8 })).collect();
        let mut found = TokenDivergences::default();
        for rows in [2..40, 0..2] {
            let values = rows.start * 3..rows.end * 3;
            let before = Distribution::of_rows(&base[values.clone()], 3);
            found.add(&before, &adapted[values], 3, &places[rows]);
        }
        let summary = found.summary(&Ids);
        let mut order: Vec<usize> = (0..40).filter(|row| row % 5 != 4).collect();
        order.sort_by(|left, right| change(*right).total_cmp(&change(*left)));
        let worst: Vec<usize> = summary.worst.iter().map(|worst| worst.prompt * 8 + worst.position).collect();
        assert_eq!((summary.positions, worst.as_slice()), (32, &order[..WORST]));
        assert_eq!(summary.kl.max, summary.worst[0].kl);
        let first = &summary.worst[0];
        assert_eq!(first.context, format!("{}:{}", first.prompt, first.position));
        let tokens = |top: &[Prediction]| top.iter().map(|known| known.token).collect::<Vec<_>>();
        assert_eq!((tokens(&first.base_top), tokens(&first.adapted_top)), (vec![1, 2, 0], vec![0, 1, 2]));
        // The first word overtakes the second where its logit reaches one: of equals the first is the top.
        let flips = order.iter().filter(|row| change(**row) >= 1.0).count();
        assert_eq!(summary.top1_flip_rate, flips as f64 / 32.0);
    }
}
