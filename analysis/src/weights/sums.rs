//! Sums over entries and rows of W and ΔW that one pass collects, and the figures that follow from them.

use lcr_documents::audit::{MergeSurvival, RowNormChange, RowRotation};
use lcr_formats::checkpoint::Weight;

use crate::statistics::mean;

/// Heaviest rows of ΔW.
const HEAVY_ROWS: usize = 8;

/// Sums over entries and rows that one pass over W collects.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Entries of W.
    entries: usize,
    /// ‖w_i‖² of every row.
    pub(super) base: Vec<f64>,
    /// ‖Δ_i‖².
    pub(super) change: Vec<f64>,
    /// ⟨w_i, Δ_i⟩.
    pub(super) cross: Vec<f64>,
    /// Σδ, Σδ², Σδ³, Σδ⁴ over the entries of ΔW.
    powers: [f64; 4],
    /// With μ = bf16(w + δ) − bf16(w): Σμδ, Σμ², and how many are not zero.
    merged_cross: f64,
    merged: f64,
    merged_entries: usize,
    /// Largest |δ|.
    largest: f64,
}

impl Sums {
    /// Of a weight `[outputs, inputs]` of which nothing was seen yet.
    pub(super) fn new(shape: [usize; 2]) -> Self {
        let row = || vec![0.0; shape[0]];
        Self { entries: shape[0] * shape[1], base: row(), change: row(), cross: row(), ..Self::default() }
    }

    /// The largest change of one entry of a vector, over the root mean square over its entries of the rows of `weight`
    /// that they belong to, ‖W‖_F/√entries: of a bias, what the module gives for an input of unit root mean square; of
    /// a norm's weights, themselves.
    pub(super) fn entry_change(&self, weight: &Weight) -> Option<f64> {
        const BLOCK: usize = 1 << 14;
        let mut values = vec![0.0; BLOCK.min(weight.len())];
        let mut energy = 0.0;
        for start in (0..weight.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(weight.len());
            let block = &mut values[..end - start];
            weight.widen(start..end, block);
            energy += block.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
        let typical = (energy / self.entries.max(1) as f64).sqrt();
        (typical > 0.0).then(|| self.largest / typical)
    }

    /// Pearson kurtosis of ΔW's entries; `None` where they are all equal.
    pub(super) fn kurtosis(&self) -> Option<f64> {
        let [first, second, third, fourth] = self.powers.map(|power| power / self.entries.max(1) as f64);
        let variance = second - first * first;
        (variance > 0.0).then(|| {
            let central = fourth - 4.0 * first * third + 6.0 * first * first * second - 3.0 * first.powi(4);
            central / (variance * variance)
        })
    }

    /// bf16(W') − bf16(W) against ΔW.
    pub(super) fn merge_survival(&self) -> MergeSurvival {
        let change: f64 = self.change.iter().sum();
        MergeSurvival {
            cosine: (self.merged > 0.0 && change > 0.0)
                .then(|| self.merged_cross / (self.merged.sqrt() * change.sqrt())),
            changed_share: self.merged_entries as f64 / self.entries.max(1) as f64,
        }
    }

    /// Adds rows of `width` entries from `first_row` on, all of their columns or some.
    pub(super) fn add(&mut self, first_row: usize, width: usize, base: &[f64], change: &[f64]) {
        for (at, (w_row, d_row)) in base.chunks_exact(width).zip(change.chunks_exact(width)).enumerate() {
            let (mut own, mut moved, mut cross) = (0.0, 0.0, 0.0);
            let (mut first, mut third, mut fourth) = (0.0, 0.0, 0.0);
            for (w, d) in w_row.iter().zip(d_row) {
                let square = d * d;
                own += w * w;
                moved += square;
                cross += w * d;
                first += d;
                third += square * d;
                fourth += square * square;
                self.largest = self.largest.max(d.abs());
                let merged = bf16(w + d) - bf16(*w);
                if merged != 0.0 {
                    self.merged_entries += 1;
                    self.merged += merged * merged;
                    self.merged_cross += merged * d;
                }
            }
            let row = first_row + at;
            self.base[row] += own;
            self.change[row] += moved;
            self.cross[row] += cross;
            self.powers.iter_mut().zip([first, moved, third, fourth]).for_each(|(sum, part)| *sum += part);
        }
    }
}

/// A value rounded to bf16, ties to even.
fn bf16(value: f64) -> f64 {
    const DROPPED: u32 = f64::MANTISSA_DIGITS - 8;
    // Between these a bf16 is an f64 with fewer digits; beyond, it is subnormal or may be infinite.
    if !(1e-37..1e38).contains(&value.abs()) {
        return half::bf16::from_f64(value).to_f64();
    }
    let bits = value.to_bits();
    let half = (1_u64 << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1);
    f64::from_bits((bits + half) & !((1 << DROPPED) - 1))
}

/// 1 − cos(W, W') from ‖W‖², ‖Δ‖² and ⟨W, Δ⟩, without the cancellation: with W' = W + Δ,
/// 1 − cos = (‖W‖²‖Δ‖² − ⟨W,Δ⟩²)/(‖W‖‖W'‖(‖W‖‖W'‖ + ⟨W,W'⟩)).
pub(super) fn one_minus_cosine(base: f64, change: f64, cross: f64) -> f64 {
    let adapted = base + 2.0 * cross + change;
    if base <= 0.0 || adapted <= 0.0 {
        return if change > 0.0 { 1.0 } else { 0.0 };
    }
    let norms = (base * adapted).sqrt();
    let inner = base + cross;
    if inner <= 0.0 {
        return 1.0 - inner / norms;
    }
    (base * change - cross * cross).max(0.0) / (norms * (norms + inner))
}

pub(super) fn row_rotation(sums: &Sums) -> RowRotation {
    // cos θ = 1 − x, so the angle is 2·asin(√(x/2)) = 2·atan2(√x, √(2 − x)).
    let angles: Vec<f64> = (0..sums.base.len())
        .map(|row| {
            let distance = one_minus_cosine(sums.base[row], sums.change[row], sums.cross[row]);
            2.0 * distance.sqrt().atan2((2.0 - distance).max(0.0).sqrt()).to_degrees()
        })
        .collect();
    RowRotation { mean: mean(&angles), max: angles.iter().copied().fold(0.0, f64::max) }
}

pub(super) fn row_norm_change(sums: &Sums) -> RowNormChange {
    let changes: Vec<f64> = (0..sums.base.len())
        .filter(|row| sums.base[*row] > 0.0)
        .map(|row| {
            // √(1 + x) − 1 = x/(√(1 + x) + 1) keeps the digits of a small x.
            let x = ((2.0 * sums.cross[row] + sums.change[row]) / sums.base[row]).max(-1.0);
            x / ((1.0 + x).sqrt() + 1.0)
        })
        .collect();
    let sizes: Vec<f64> = changes.iter().map(|change| change.abs()).collect();
    RowNormChange {
        mean_abs: mean(&sizes),
        max_abs: sizes.iter().copied().fold(0.0, f64::max),
        min: changes.iter().copied().reduce(f64::min).unwrap_or(0.0),
    }
}

pub(super) fn heaviest_share(rows: &[f64], total: f64) -> f64 {
    let mut rows = rows.to_vec();
    rows.sort_by(|left, right| right.total_cmp(left));
    rows.iter().take(HEAVY_ROWS).sum::<f64>() / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_takes_the_nearest_and_of_two_the_even_one() {
        const STEP: u64 = 1 << 45;
        let mut state = 1_u64;
        for step in 0..100_000_i32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = 1.0 + (state >> 12) as f64 / (1_u64 << 52) as f64;
            let value = digits * 2.0_f64.powi(step % 240 - 120) * if state & 1 == 0 { 1.0 } else { -1.0 };
            let rounded = bf16(value);
            assert_eq!(rounded.to_bits() % STEP, 0, "{value:e} became {rounded:e}, which bf16 does not have");
            for other in [rounded.to_bits() - STEP, rounded.to_bits() + STEP].map(f64::from_bits) {
                assert!(
                    (rounded - value).abs() <= (other - value).abs(),
                    "{value:e}: {other:e} is nearer than {rounded:e}"
                );
            }
            // Nine binary digits of which the last is a one stand between two values.
            let tie = f64::from(257 + 2 * (step % 127)) * 2.0_f64.powi(step % 100 - 50);
            assert_eq!(bf16(tie).to_bits() / STEP % 2, 0, "{tie:e}");
        }
        for value in [0.0, -0.0, 1.0, -3.5, f64::INFINITY, 2.0_f64.powi(-130)] {
            assert_eq!(bf16(value).to_bits(), value.to_bits());
        }
        assert!(bf16(f64::NAN).is_nan());
    }

    fn sums(base: &[f64], change: &[f64]) -> Sums {
        let mut sums = Sums::new([1, base.len()]);
        sums.add(0, base.len(), base, change);
        sums
    }

    /// A bf16 has eight digits, so 1 + 2⁻⁸ stands in the middle between 1 and 1 + 2⁻⁷. What is a little above goes up;
    /// in f32 it is no more than the middle, and goes down to the even one.
    #[test]
    fn survival_is_decided_by_digits_that_f32_does_not_have() {
        let above = 2.0_f64.powi(-8) + 2.0_f64.powi(-30);
        let found = sums(&[1.0, 1.0, 1.0], &[above, 2.0_f64.powi(-8), 0.0]).merge_survival();
        assert!((found.changed_share - 1.0 / 3.0).abs() < 1e-15, "{found:?}");
        // μ = (2⁻⁷, 0, 0) against δ = (2⁻⁸ + 2⁻³⁰, 2⁻⁸, 0).
        let cosine = above / above.hypot(2.0_f64.powi(-8));
        assert!((found.cosine.unwrap() - cosine).abs() < 1e-15, "{found:?}");
    }

    /// One large entry that bf16 keeps whole, and 8192 small ones whose μ² f32 could not add to it: with δ = 5·2⁻¹⁶ and
    /// μ = 2⁻¹³ the cosine is (1 + 5·2⁻¹⁶)/√((1 + 2⁻¹³)(1 + 25·2⁻¹⁹)), by hand in fractions.
    #[test]
    fn small_entries_of_a_merge_are_not_lost_beside_a_large_one() {
        let (mut base, mut change) = (vec![2.0_f64.powi(-6); 8193], vec![5.0 * 2.0_f64.powi(-16); 8193]);
        (base[0], change[0]) = (0.0, 1.0);
        let found = sums(&base, &change).merge_survival();
        assert_eq!(found.changed_share, 1.0);
        assert!((found.cosine.unwrap() - 0.999_991_418_351_143_2).abs() < 1e-14, "{found:?}");
    }

    /// Less than half a step of bf16 is rounded away, to the last entry.
    #[test]
    fn a_merge_that_keeps_nothing_has_no_cosine() {
        let found = sums(&[1.0, -2.0], &[2.0_f64.powi(-10), 2.0_f64.powi(-9)]).merge_survival();
        assert_eq!((found.cosine, found.changed_share), (None, 0.0));
        assert_eq!(sums(&[1.0], &[0.0]).merge_survival().cosine, None);
    }

    /// Rows doubled, gone, turned by a right angle, turned round, and one that was zero: angles 0, 90 (a zero row has
    /// no direction and counts as at right angles), 90, 180 and 90; lengths +1, −1, 0 and 0, and none of the last.
    #[test]
    fn rows_turn_and_grow_as_drawn_on_paper() {
        let mut sums = Sums::new([5, 2]);
        let base = [3.0, 4.0, 3.0, 4.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let change = [3.0, 4.0, -3.0, -4.0, -1.0, 1.0, -2.0, 0.0, 1.0, 0.0];
        sums.add(0, 2, &base, &change);
        let turned = row_rotation(&sums);
        assert!((turned.mean - 90.0).abs() < 1e-9 && (turned.max - 180.0).abs() < 1e-9, "{turned:?}");
        let grown = row_norm_change(&sums);
        assert_eq!((grown.mean_abs, grown.max_abs, grown.min), (0.5, 1.0, -1.0));
    }

    /// `scipy.stats.kurtosis(…, fisher=False)` of entries whose mean and third moment are not zero.
    #[test]
    fn kurtosis_is_about_the_mean() {
        assert!((sums(&[0.0; 4], &[0.0, 0.0, 0.0, 1.0]).kurtosis().unwrap() - 7.0 / 3.0).abs() < 1e-12);
        assert_eq!(sums(&[0.0; 2], &[1.0; 2]).kurtosis(), None);
    }

    /// A bias beside the weight whose outputs it joins: its largest entry over ‖W‖/√outputs, whatever the number of
    /// inputs.
    #[test]
    fn an_entry_is_held_against_the_rows_that_it_joins() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/qwen3_lora_qv/base");
        let decoder = lcr_model::decoder::Decoder::open(&golden, candle_core::Device::Cpu).unwrap();
        let (weight, _) = decoder.linear_weight("model.layers.0.mlp.down_proj").unwrap();
        let norm = weight.to_f32().iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let outputs = weight.shape()[0];
        let mut change = vec![0.5; outputs];
        change[1] = -3.0;
        let found = sums(&vec![0.0; outputs], &change).entry_change(weight).unwrap();
        let expected = 3.0 * (outputs as f64).sqrt() / norm;
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }
}
