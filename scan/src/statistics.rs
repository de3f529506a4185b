//! What a low-rank change is, measured from its factors without the base, and how its modules compare with each other.
//!
//! Everything is a function of the product BA, so rewriting A → MA, B → BM⁻¹ moves nothing but the last digits.

use std::collections::BTreeMap;

use lcr_model::adapter::{Adapter, LowRank};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows counted as the heaviest.
const HEAVY_ROWS: usize = 8;
/// Rows whose entries the kurtosis is estimated from, beside the heaviest.
const SAMPLED_ROWS: usize = 120;
/// Modules of a kind under which a robust z means nothing: the median deviation of a handful of points is noise.
const SMALLEST_FAMILY: usize = 16;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const DEVIATION_OF_MEDIAN: f64 = 1.4826;
/// From the mean absolute deviation to it, where the median deviation is zero.
const DEVIATION_OF_MEAN: f64 = 1.2533;
/// Modules that write into the stream, by the last part of their path.
const WRITERS: [&str; 3] = ["o_proj", "down_proj", "c_proj"];
/// Modules that read from it.
const READERS: [&str; 9] =
    ["q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "gate_proj", "up_proj", "gate_up_proj", "c_fc"];
/// Modules of a kind whose directions are compared; real models have a hundred layers at most.
const LARGEST_CHORUS: usize = 256;
/// Points that the slope of a trend is taken from.
const LARGEST_TREND: usize = 256;
/// Modules that must agree on a direction before it is one.
const SMALLEST_CHORUS: usize = 4;

/// One low-rank change, from its factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleStatistics {
    /// Outputs and inputs of the weight that it changes.
    pub shape: [usize; 2],
    /// Inner dimension of BA.
    pub rank: usize,
    /// The factor before BA.
    pub scale: f64,
    /// ‖s·BA‖_F.
    pub norm: f64,
    /// Largest singular value of s·BA.
    pub spectral_norm: f64,
    /// Σσ²/σ₁²; `None` of a change that is zero, like the others.
    pub stable_rank: Option<f64>,
    /// σ₁²/Σσ².
    pub top1_share: Option<f64>,
    /// Pearson kurtosis of the entries, from the eight heaviest rows and 120 others spread evenly.
    pub kurtosis: Option<f64>,
    /// Share of ‖BA‖² in its eight heaviest rows.
    pub row_top8_share: Option<f64>,
    /// Hoyer sparsity (√n − ‖v‖₁/‖v‖₂)/(√n − 1) of the row norms v: 0 where all are equal, 1 where one row is all.
    pub row_hoyer: Option<f64>,
    /// DoRA's magnitudes: smallest, median and largest absolute value.
    pub magnitude: Option<[f64; 3]>,
    /// Robust z of ln ‖s·BA‖ among its kind, depth trend removed; `None` under 16 modules of the kind.
    pub norm_z: Option<f64>,
    /// The smallest of the robust z of ln kurtosis, ln `row_top8_share` and `row_hoyer` among its kind: high only where all
    /// three rise together, as they do where a change is concentrated on a few outputs.
    pub concentration_z: Option<f64>,
}

/// What all modules say together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightStatistics {
    /// By the module's path.
    pub modules: BTreeMap<String, ModuleStatistics>,
    /// Mean |cos| over pairs of modules of what the writers write first; `None` under four of one width.
    pub coherence_write: Option<Coherence>,
    /// The same of what the readers read first.
    pub coherence_read: Option<Coherence>,
}

/// How far modules agree on one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coherence {
    /// Mean |cos| over pairs of modules of the leading singular vectors.
    pub mean: f64,
    /// √(2/πd), what unrelated directions give.
    pub chance: f64,
    /// Modules.
    pub modules: usize,
}

/// One module's statistics and the directions it writes and reads first.
struct Measured {
    path: String,
    statistics: ModuleStatistics,
    left: Vec<f32>,
    right: Vec<f32>,
}

/// Statistics gathered from an adapter that is read in parts.
#[derive(Default)]
pub(crate) struct Gathering {
    measured: Vec<Measured>,
    /// Modules of which directions are kept, by kind.
    directions: BTreeMap<String, usize>,
}

impl Gathering {
    /// Measures every low-rank change of a part.
    pub(crate) fn add(&mut self, adapter: &Adapter) {
        let modules: Vec<(&String, &LowRank)> = adapter.modules.iter().collect();
        let measured: Vec<Measured> = modules.into_par_iter().map(|(path, module)| measure(path, module)).collect();
        for mut module in measured {
            let kept = self.directions.entry(family(&module.path).0.to_owned()).or_default();
            *kept += 1;
            if *kept > LARGEST_CHORUS {
                (module.left, module.right) = (Vec::new(), Vec::new());
            }
            self.measured.push(module);
        }
    }

    /// Holds modules against each other.
    pub(crate) fn finish(mut self) -> WeightStatistics {
        compare_families(&mut self.measured);
        let coherence_write = coherence(&self.measured, &WRITERS, |module| &module.left);
        let coherence_read = coherence(&self.measured, &READERS, |module| &module.right);
        let modules = self.measured.into_iter().map(|module| (module.path, module.statistics)).collect();
        WeightStatistics { modules, coherence_write, coherence_read }
    }
}

fn measure(path: &str, module: &LowRank) -> Measured {
    let factors = Factors::of(module);
    let scale = module.scale.abs();
    let (norm, first, direction) = factors.leading();
    let rows = Rows::of(module, &factors);
    let positive = norm > 0.0 && norm.is_finite() && first > 0.0;
    let statistics = ModuleStatistics {
        shape: [module.outputs, module.inputs],
        rank: module.rank,
        scale: module.scale,
        norm: scale * norm,
        spectral_norm: scale * first,
        stable_rank: positive.then(|| (norm / first).powi(2)),
        top1_share: positive.then(|| (first / norm).powi(2)),
        kurtosis: rows.kurtosis(module),
        row_top8_share: rows.heavy_share(),
        row_hoyer: rows.hoyer(),
        magnitude: module.magnitude.as_deref().map(magnitudes),
        norm_z: None,
        concentration_z: None,
    };
    let kind = family(path).0;
    let wanted = |kinds: &[&str]| positive && kinds.contains(&kind);
    Measured {
        path: path.to_owned(),
        statistics,
        left: if wanted(&WRITERS) { written(module, &direction) } else { Vec::new() },
        right: if wanted(&READERS) { read(module, &factors, &direction) } else { Vec::new() },
    }
}

/// The inner products of a change's factors. Norm, largest singular value and leading directions of BA follow from these two small
/// matrices; the small singular values, which they would lose, nobody asks for here.
struct Factors {
    rank: usize,
    /// AAᵀ, row-major.
    down: Vec<f64>,
    /// BᵀB, row-major.
    up: Vec<f64>,
}

impl Factors {
    fn of(module: &LowRank) -> Self {
        let (rank, inputs) = (module.rank.max(1), module.inputs.max(1));
        let mut down = vec![0.0; rank * rank];
        let lines: Vec<&[f32]> = module.down.chunks_exact(inputs).collect();
        for (row, left) in lines.iter().enumerate() {
            for (column, right) in lines.iter().enumerate().take(row + 1) {
                let value = dot(left, right);
                down[row * rank + column] = value;
                down[column * rank + row] = value;
            }
        }
        let mut up = vec![0.0; rank * rank];
        let mut wide = vec![0.0; rank];
        for line in module.up.chunks_exact(rank) {
            wide.iter_mut().zip(line).for_each(|(wide, value)| *wide = f64::from(*value));
            for (own, sums) in wide.iter().zip(up.chunks_exact_mut(rank)) {
                sums.iter_mut().zip(&wide).for_each(|(sum, other)| *sum += own * other);
            }
        }
        Self { rank, down, up }
    }

    fn times(&self, matrix: &[f64], vector: &[f64]) -> Vec<f64> {
        matrix.chunks_exact(self.rank).map(|line| line.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
    }

    /// ‖BA‖_F, its largest singular value, and w with Bw along its leading left singular vector.
    ///
    /// ‖BA‖_F² = tr(AAᵀ BᵀB), and (BA)(BA)ᵀ(Bw) = B(AAᵀ BᵀB w): power iteration in the small space.
    fn leading(&self) -> (f64, f64, Vec<f64>) {
        const STEPS: usize = 300;
        let norm = self.down.iter().zip(&self.up).map(|(left, right)| left * right).sum::<f64>().max(0.0).sqrt();
        // A start that is no eigenvector of anything by design.
        let mut direction: Vec<f64> =
            (0..self.rank).map(|index| 1.0 + (index as f64 * 0.754_877_666).fract()).collect();
        let mut square = 0.0;
        for _ in 0..STEPS {
            let seen = self.times(&self.up, &direction);
            let length = direction.iter().zip(&seen).map(|(a, b)| a * b).sum::<f64>();
            let next = self.times(&self.down, &seen);
            let energy = seen.iter().zip(&next).map(|(a, b)| a * b).sum::<f64>();
            let found = if length > 0.0 { energy / length } else { 0.0 };
            let largest = next.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            if !(largest > 0.0 && largest.is_finite()) {
                break;
            }
            direction = next.into_iter().map(|value| value / largest).collect();
            let settled = (found - square).abs() <= 1e-13 * found;
            square = found;
            if settled {
                break;
            }
        }
        (norm, square.max(0.0).sqrt().min(norm), direction)
    }
}

/// The leading left singular vector of BA: Bw, of unit length.
fn written(module: &LowRank, direction: &[f64]) -> Vec<f32> {
    let lines = module.up.chunks_exact(module.rank.max(1));
    unit(lines.map(|line| line.iter().zip(direction).map(|(b, w)| f64::from(*b) * w).sum()).collect())
}

/// The leading right singular vector of BA: Aᵀ(BᵀB w), of unit length.
fn read(module: &LowRank, factors: &Factors, direction: &[f64]) -> Vec<f32> {
    let seen = factors.times(&factors.up, direction);
    let mut sums = vec![0.0; module.inputs];
    for (line, weight) in module.down.chunks_exact(module.inputs.max(1)).zip(&seen) {
        sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * f64::from(*value));
    }
    unit(sums)
}

fn unit(values: Vec<f64>) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 { values.into_iter().map(|value| (value / length) as f32).collect() } else { Vec::new() }
}

/// Smallest, median and largest absolute value.
fn magnitudes(values: &[f32]) -> [f64; 3] {
    let mut absolute: Vec<f64> = values.iter().map(|value| f64::from(value.abs())).collect();
    absolute.sort_by(f64::total_cmp);
    let at = |index: usize| absolute.get(index).copied().unwrap_or(0.0);
    [at(0), at(absolute.len() / 2), at(absolute.len().saturating_sub(1))]
}

/// ‖row‖² of BA (without the scale), and which rows are heaviest.
struct Rows {
    squares: Vec<f64>,
    total: f64,
    /// Indices of the heaviest rows, heaviest first.
    heavy: Vec<usize>,
}

impl Rows {
    fn of(module: &LowRank, factors: &Factors) -> Self {
        // ‖bᵢA‖² = bᵢ(AAᵀ)bᵢᵀ.
        let (rank, gram) = (factors.rank, &factors.down);
        let square = |up: &[f32]| {
            let products = gram.chunks_exact(rank).zip(up).map(|(line, own)| {
                f64::from(*own) * line.iter().zip(up).map(|(value, other)| value * f64::from(*other)).sum::<f64>()
            });
            products.sum::<f64>().max(0.0)
        };
        let squares: Vec<f64> = module.up.chunks_exact(rank).map(square).collect();
        let total = squares.iter().sum();
        let mut order: Vec<usize> = (0..squares.len()).collect();
        order.sort_by(|left, right| squares[*right].total_cmp(&squares[*left]).then(left.cmp(right)));
        order.truncate(HEAVY_ROWS);
        Self { squares, total, heavy: order }
    }

    fn is_zero(&self) -> bool {
        !(self.total > 0.0 && self.total.is_finite())
    }

    fn heavy_share(&self) -> Option<f64> {
        (!self.is_zero()).then(|| self.heavy.iter().map(|row| self.squares[*row]).sum::<f64>() / self.total)
    }

    fn hoyer(&self) -> Option<f64> {
        let root = (self.squares.len() as f64).sqrt();
        if self.is_zero() || root <= 1.0 {
            return None;
        }
        let absolute: f64 = self.squares.iter().map(|square| square.sqrt()).sum();
        Some((root - absolute / self.total.sqrt()) / (root - 1.0))
    }

    /// n Σx⁴/(Σx²)² about zero: the mean of the entries of a low-rank change is nothing beside their spread.
    fn kurtosis(&self, module: &LowRank) -> Option<f64> {
        if self.is_zero() {
            return None;
        }
        let others: Vec<usize> = (0..self.squares.len()).filter(|row| !self.heavy.contains(row)).collect();
        let step = others.len().div_ceil(SAMPLED_ROWS).max(1);
        let sample: Vec<usize> = others.iter().copied().skip(step / 2).step_by(step).collect();
        let fourth = |rows: &[usize]| rows.iter().map(|row| fourth_powers(module, *row)).sum::<f64>();
        let of_others = match sample.len() {
            0 => 0.0,
            taken => fourth(&sample) * others.len() as f64 / taken as f64,
        };
        let entries = self.squares.len() as f64 * module.inputs as f64;
        Some(entries * (fourth(&self.heavy) + of_others) / self.total.powi(2)).filter(|value| value.is_finite())
    }
}

/// In several sums at once, so that one addition need not wait for the one before.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (left_blocks, left_rest) = left.as_chunks::<LANES>();
    let (right_blocks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_blocks.iter().zip(right_blocks) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += f64::from(*left) * f64::from(*right);
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Σ x⁴ over one row of BA.
fn fourth_powers(module: &LowRank, row: usize) -> f64 {
    let mut entries = vec![0.0_f32; module.inputs];
    let up = module.up.get(row * module.rank..(row + 1) * module.rank).unwrap_or(&[]);
    for (factor, down) in up.iter().zip(module.down.chunks_exact(module.inputs.max(1))) {
        entries.iter_mut().zip(down).for_each(|(entry, value)| *entry += factor * value);
    }
    entries.iter().map(|entry| f64::from(*entry).powi(2).powi(2)).sum()
}

/// Last part of a module's path, and its layer.
fn family(path: &str) -> (&str, Option<usize>) {
    let kind = path.rsplit('.').next().unwrap_or(path);
    (kind, path.split('.').find_map(|part| part.parse().ok()))
}

/// Gives every module its z among its kind.
fn compare_families(measured: &mut [Measured]) {
    let mut families: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for (index, module) in measured.iter().enumerate() {
        if let (kind, Some(layer)) = family(&module.path) {
            families.entry(kind.to_owned()).or_default().push((index, layer as f64));
        }
    }
    for members in families.values().filter(|members| members.len() >= SMALLEST_FAMILY) {
        let scores = |feature: &dyn Fn(&ModuleStatistics) -> Option<f64>| -> BTreeMap<usize, f64> {
            let points: Vec<(usize, f64, f64)> = members
                .iter()
                .filter_map(|(index, layer)| {
                    let value = feature(&measured[*index].statistics).filter(|value| value.is_finite())?;
                    Some((*index, *layer, value))
                })
                .collect();
            robust_z(&points)
        };
        let norms = scores(&|module| (module.norm > 0.0).then(|| module.norm.ln()));
        let kurtosis = scores(&|module| module.kurtosis.map(f64::ln));
        let share = scores(&|module| module.row_top8_share.map(f64::ln));
        let hoyer = scores(&|module| module.row_hoyer);
        for (index, _) in members {
            let all = [&kurtosis, &share, &hoyer].map(|scores| scores.get(index).copied());
            let statistics = &mut measured[*index].statistics;
            statistics.norm_z = norms.get(index).copied();
            statistics.concentration_z =
                all.into_iter().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(f64::INFINITY, f64::min));
        }
    }
}

/// Robust z by index: residuals of a Theil–Sen line over the layers, in units of their median absolute deviation.
fn robust_z(points: &[(usize, f64, f64)]) -> BTreeMap<usize, f64> {
    if points.len() < SMALLEST_FAMILY {
        return BTreeMap::new();
    }
    let mut slopes = Vec::new();
    let sample: Vec<&(usize, f64, f64)> = points.iter().step_by(points.len().div_ceil(LARGEST_TREND)).collect();
    for (at, (_, layer, value)) in sample.iter().enumerate() {
        for (_, other_layer, other) in &sample[at + 1..] {
            if other_layer != layer {
                slopes.push((other - value) / (other_layer - layer));
            }
        }
    }
    let slope = median(slopes).unwrap_or(0.0);
    let flat: Vec<f64> = points.iter().map(|(_, layer, value)| value - slope * layer).collect();
    let Some(middle) = median(flat.clone()) else { return BTreeMap::new() };
    let deviations: Vec<f64> = flat.iter().map(|value| (value - middle).abs()).collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let spread = match median(deviations) {
        Some(deviation) if deviation > 0.0 => DEVIATION_OF_MEDIAN * deviation,
        _ => DEVIATION_OF_MEAN * mean,
    };
    if spread <= 0.0 {
        return BTreeMap::new();
    }
    points.iter().zip(flat).map(|((index, _, _), value)| (*index, (value - middle) / spread)).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied()?;
    let lower = values.get((values.len() - 1) / 2).copied()?;
    Some(f64::midpoint(lower, upper))
}

/// Mean |cos| over pairs of the vectors of modules of some kinds, among those of the commonest width.
fn coherence(measured: &[Measured], kinds: &[&str], vector: impl Fn(&Measured) -> &Vec<f32>) -> Option<Coherence> {
    let mut widths: BTreeMap<usize, Vec<&Vec<f32>>> = BTreeMap::new();
    for module in measured.iter().filter(|module| kinds.contains(&family(&module.path).0)) {
        let vector = vector(module);
        if !vector.is_empty() {
            widths.entry(vector.len()).or_default().push(vector);
        }
    }
    let (width, vectors) = widths.into_iter().max_by_key(|(_, vectors)| vectors.len())?;
    if vectors.len() < SMALLEST_CHORUS {
        return None;
    }
    let mut total = 0.0;
    let mut pairs = 0_usize;
    for (at, left) in vectors.iter().enumerate() {
        for right in &vectors[at + 1..] {
            total += dot(left, right).abs();
            pairs += 1;
        }
    }
    let chance = (2.0 / (std::f64::consts::PI * width as f64)).sqrt();
    Some(Coherence { mean: total / pairs as f64, chance, modules: vectors.len() })
}

#[cfg(test)]
mod tests {
    use lcr_model::adapter::delta;

    use super::*;

    /// Numbers that look random and are the same everywhere.
    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        };
        (0..count).map(|_| (0..6).map(|_| next()).sum::<f32>()).collect()
    }

    fn module(seed: u64, outputs: usize, inputs: usize, rank: usize) -> LowRank {
        LowRank {
            rank,
            alpha: 2.0 * rank as f64,
            scale: 2.0,
            scaling_rule: lcr_model::adapter::ScalingRule::AlphaOverRank,
            down: noise(seed, rank * inputs),
            up: noise(seed + 1, outputs * rank),
            inputs,
            outputs,
            magnitude: None,
            up_bias: None,
            tensor_names: Vec::new(),
        }
    }

    fn dense(module: &LowRank) -> Vec<Vec<f64>> {
        (0..module.outputs)
            .map(|row| {
                (0..module.inputs)
                    .map(|column| {
                        (0..module.rank)
                            .map(|k| {
                                let up = f64::from(module.up[row * module.rank + k]);
                                up * f64::from(module.down[k * module.inputs + column])
                            })
                            .sum()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn norm_and_leading_directions_are_those_of_a_decomposition() {
        for seed in [3, 11, 40] {
            let module = module(seed, 90, 70, 6);
            let (own, known) = (measure("o_proj", &module), delta::leading_directions(&module, 1));
            let values = delta::singular_values(&module);
            let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert!((own.statistics.norm - norm).abs() < 1e-9 * norm);
            assert!((own.statistics.spectral_norm - values[0]).abs() < 1e-6 * values[0]);
            let cosine: f64 = own.left.iter().zip(&known.left[0]).map(|(a, b)| f64::from(*a) * b).sum();
            assert!(1.0 - cosine.abs() < 1e-5, "{cosine}");
            let own = measure("q_proj", &module);
            let cosine: f64 = own.right.iter().zip(&known.right[0]).map(|(a, b)| f64::from(*a) * b).sum();
            assert!(1.0 - cosine.abs() < 1e-5, "{cosine}");
        }
    }

    #[test]
    fn rows_and_kurtosis_are_those_of_the_product() {
        let module = module(3, 96, 40, 5);
        let rows = Rows::of(&module, &Factors::of(&module));
        let full = dense(&module);
        for (row, square) in full.iter().zip(&rows.squares) {
            let expected: f64 = row.iter().map(|value| value * value).sum();
            assert!((square - expected).abs() < 1e-9 * expected, "{square} {expected}");
        }
        // With 96 rows every one is looked at.
        let entries: Vec<f64> = full.into_iter().flatten().collect();
        let second: f64 = entries.iter().map(|value| value.powi(2)).sum();
        let fourth: f64 = entries.iter().map(|value| value.powi(4)).sum();
        let expected = entries.len() as f64 * fourth / (second * second);
        let found = rows.kurtosis(&module).expect("not zero");
        assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    }

    #[test]
    fn hoyer_is_zero_for_equal_rows_and_one_for_a_single_row() {
        let rows = |squares: Vec<f64>| {
            let total = squares.iter().sum();
            Rows { squares, total, heavy: Vec::new() }.hoyer().expect("not zero")
        };
        assert!(rows(vec![2.0; 9]).abs() < 1e-12);
        assert!((rows(vec![0.0, 0.0, 5.0, 0.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rewriting_the_factors_moves_nothing() {
        let original = module(7, 200, 64, 2);
        let mut rewritten = original.clone();
        // M = [[2, 1], [0, 4]], M⁻¹ = [[1/2, -1/8], [0, 1/4]]: exact in binary but for the rounding of sums.
        let (first, second) = original.down.split_at(64);
        rewritten.down =
            first.iter().zip(second).map(|(a, b)| 2.0 * a + b).chain(second.iter().map(|b| 4.0 * b)).collect();
        rewritten.up = original.up.chunks(2).flat_map(|row| [row[0] / 2.0, -row[0] / 8.0 + row[1] / 4.0]).collect();
        let (left, right) = (measure("a", &original).statistics, measure("a", &rewritten).statistics);
        for (left, right) in [
            (left.norm, right.norm),
            (left.kurtosis.expect("some"), right.kurtosis.expect("some")),
            (left.row_top8_share.expect("some"), right.row_top8_share.expect("some")),
            (left.row_hoyer.expect("some"), right.row_hoyer.expect("some")),
            (left.stable_rank.expect("some"), right.stable_rank.expect("some")),
        ] {
            assert!((left - right).abs() < 1e-5 * left.abs(), "{left} {right}");
        }
    }

    #[test]
    fn one_concentrated_module_among_many_is_found_and_a_trend_is_not() {
        let mut measured: Vec<Measured> = (0..24)
            .map(|layer| {
                let mut own = module(100 + 2 * layer, 128, 64, 4);
                // Deeper layers change more: that is a trend, no outlier.
                own.scale = 1.0 + layer as f64;
                if layer == 11 {
                    own.up.iter_mut().take(3 * 4).for_each(|value| *value *= 40.0);
                }
                measure(&format!("model.layers.{layer}.mlp.down_proj"), &own)
            })
            .collect();
        compare_families(&mut measured);
        let scores: Vec<f64> = measured.iter().filter_map(|module| module.statistics.concentration_z).collect();
        assert_eq!(scores.len(), 24);
        assert!(scores[11] > 14.0, "{scores:?}");
        assert!(scores.iter().enumerate().all(|(layer, score)| layer == 11 || *score < 6.0), "{scores:?}");
    }

    #[test]
    fn common_directions_are_told_from_unrelated_ones() {
        let path = |layer: u64| format!("model.layers.{layer}.self_attn.o_proj");
        let unrelated: Vec<Measured> =
            (0..12).map(|layer| measure(&path(layer), &module(50 + 2 * layer, 256, 32, 1))).collect();
        let of = coherence(&unrelated, &WRITERS, |module| &module.left).expect("twelve writers");
        assert!((of.mean - of.chance).abs() < 0.5 * of.chance, "{of:?}");
        let common: Vec<Measured> = (0..12)
            .map(|layer| {
                let mut own = module(50 + 2 * layer, 256, 32, 1);
                own.up = noise(9, 256);
                measure(&path(layer), &own)
            })
            .collect();
        let of = coherence(&common, &WRITERS, |module| &module.left).expect("twelve writers");
        assert!(of.mean > 0.999, "{of:?}");
    }
}
