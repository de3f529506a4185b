//! Whether a change takes a direction c away from what modules write into the residual stream: ‖cᵀW'‖/‖cᵀW‖, the share
//! of its length that a writer keeps.
//!
//! Projecting a behaviour out of a model ("abliteration", Arditi et al. 2024) makes W' = (I − ccᵀ)W of every writer,
//! and the share is zero. Whoever hides it adds noise, spreads it over the rank or joins it with a trained change, and
//! then c leads in no decomposition of ΔW. So the directions are searched for by what is asked: among all directions of
//! a writer's change, those of which least is kept, a problem of the rank's size. What the writers find is held
//! together, and the directions that they share are measured in each of them.
//!
//! An honest change of rank r cannot come near: it would have to hold −cᵀW, all n entries of it, in r directions of its
//! own. A random one leaves about √(1 − r/n) and more.

use faer::{Accum, Mat, MatMut, MatRef, Par};
use lcr_formats::module::{ModulePath, StreamRole};
use lcr_model::decoder::{BoundAdapter, Decoder};
use rayon::prelude::*;

use super::changed::{Change, ChangedTensor, changed_tensors};
use crate::linalg::{NoConvergence, eigen, orthonormal, product, small_gram, start_block};

/// Leading directions of a change of a given rank that are searched.
const SEARCHED: usize = 64;
/// Of a change without a rank: a whole tensor.
const SEARCHED_OF_WHOLE: usize = 16;
/// Directions of each writer, and those that the writers share.
const OWN: usize = 4;
const SHARED: usize = 8;
/// A writer's further directions are taken up where less than this is kept.
const REDUCED: f64 = 0.9;
/// Directions that W writes less of than this share of the ordinary, ‖W‖/√outputs, are no finding where they are gone.
const FAINT: f64 = 0.05;
/// A DoRA ratio below which a row is gone, and its direction with it.
const GONE: f64 = 1e-3;

/// What the changed writers keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    /// The changed writers, by the names of their weights.
    pub writers: Vec<String>,
    /// The least that each keeps of any direction of its own.
    pub least: Vec<f64>,
    /// Directions that the writers share, those first that most of them lose most of.
    pub shared: Vec<SharedDirection>,
}

/// A direction of the stream, and what the writers keep of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedDirection {
    /// c, of unit length, `[width]`.
    pub direction: Vec<f64>,
    /// ‖cᵀW'‖/‖cᵀW‖ by writer.
    pub kept: Vec<f64>,
}

impl SharedDirection {
    /// How many writers keep less than `limit` of it.
    pub fn below(&self, limit: f64) -> usize {
        self.kept.iter().filter(|kept| **kept < limit).count()
    }
}

/// Looks for directions that the writers of `variant` lose.
///
/// # Errors
/// Where a decomposition fails.
pub fn erasure(decoder: &Decoder, variant: &BoundAdapter) -> Result<Erasure, NoConvergence> {
    let width = decoder.config().width;
    let writers: Vec<ChangedTensor> = changed_tensors(decoder, variant)
        .into_iter()
        .filter(|tensor| {
            let writes = ModulePath::parse(&tensor.name).role() == Some(StreamRole::Writes);
            writes && tensor.name.ends_with(".weight") && tensor.shape()[0] == width
        })
        .collect();
    of_writers(&writers, width)
}

/// The same of writers `[width, inputs]` each.
fn of_writers(writers: &[ChangedTensor], width: usize) -> Result<Erasure, NoConvergence> {
    let losses = writers.par_iter().map(ChangedTensor::losses).collect::<Result<Vec<Losses>, _>>()?;
    let directions = shared_directions(&losses, width)?;
    let kept: Vec<Vec<f64>> = writers.par_iter().map(|writer| writer.project(directions.as_ref()).kept()).collect();
    let mut shared: Vec<SharedDirection> = (0..directions.ncols())
        .map(|column| SharedDirection {
            direction: (0..width).map(|row| directions[(row, column)]).collect(),
            kept: kept.iter().map(|of_writer| of_writer[column]).collect(),
        })
        .collect();
    let removed = |found: &SharedDirection| found.kept.iter().map(|kept| (1.0 - kept).max(0.0)).sum::<f64>();
    shared.sort_by(|left, right| removed(right).total_cmp(&removed(left)));
    Ok(Erasure {
        writers: writers.iter().map(|writer| writer.name.clone()).collect(),
        least: losses.iter().map(|losses| losses.kept.first().copied().unwrap_or(1.0)).collect(),
        shared,
    })
}

/// A writer's directions of which least is kept.
struct Losses {
    /// Of unit length, `[width, count]`.
    directions: Mat<f64>,
    /// The share kept of each, the least first.
    kept: Vec<f64>,
}

/// What W and W' write along some directions.
struct Projection {
    /// CᵀW, `[directions, inputs]`.
    base: Mat<f64>,
    /// CᵀW'.
    adapted: Mat<f64>,
    /// ‖W‖².
    energy: f64,
}

impl Projection {
    /// ‖cᵀW'‖/‖cᵀW‖ by direction; 1 where W writes nothing of it.
    fn kept(&self) -> Vec<f64> {
        let ratio = |row: usize| {
            let (base, adapted) = (self.base.row(row).norm_l2(), self.adapted.row(row).norm_l2());
            if base > 0.0 { adapted / base } else { 1.0 }
        };
        (0..self.base.nrows()).map(ratio).collect()
    }
}

impl ChangedTensor<'_> {
    /// The directions of the change of which least is kept: the smallest λ of CᵀW'W'ᵀC h = λ CᵀWWᵀC h for a basis C of
    /// the change's left singular vectors.
    fn losses(&self) -> Result<Losses, NoConvergence> {
        let basis = self.left_basis();
        if basis.ncols() == 0 {
            return Ok(Losses { directions: basis, kept: Vec::new() });
        }
        let found = self.project(basis.as_ref());
        let faint = FAINT * FAINT * found.energy / self.outputs.max(1) as f64;
        // On both sides, so that what W hardly writes counts as kept.
        let gram = |rows: &Mat<f64>| {
            let mut gram = product(rows.as_ref(), rows.transpose());
            (0..gram.nrows()).for_each(|at| gram[(at, at)] += faint);
            gram
        };
        let (base, adapted) = (gram(&found.base), gram(&found.adapted));
        let (values, vectors) = eigen(base.as_ref())?;
        let whitening = Mat::from_fn(vectors.nrows(), vectors.ncols(), |row, column| {
            let length = values[column].sqrt();
            if length > 0.0 { vectors[(row, column)] / length } else { 0.0 }
        });
        let relative = product(product(whitening.transpose(), adapted.as_ref()).as_ref(), whitening.as_ref());
        let (squares, rotation) = eigen(relative.as_ref())?;
        let last = squares.len();
        let count = squares.iter().rev().take_while(|square| square.sqrt() < REDUCED).count().clamp(1, OWN).min(last);
        let least = Mat::from_fn(last, count, |row, column| rotation[(row, last - 1 - column)]);
        let weights = product(whitening.as_ref(), least.as_ref());
        let mut directions = product(basis.as_ref(), weights.as_ref());
        for column in 0..count {
            let length = directions.col(column).norm_l2();
            (0..directions.nrows()).for_each(|row| directions[(row, column)] /= length.max(f64::MIN_POSITIVE));
        }
        let along = |rows: &Mat<f64>| product(weights.transpose(), rows.as_ref());
        let kept = Projection { base: along(&found.base), adapted: along(&found.adapted), ..found }.kept();
        Ok(Losses { directions, kept })
    }

    /// An orthonormal basis of the directions that the change can take away, `[outputs, count]`.
    fn left_basis(&self) -> Mat<f64> {
        let columns = |vectors: &[Vec<f64>]| Mat::from_fn(self.outputs, vectors.len(), |row, at| vectors[at][row]);
        match &self.change {
            Change::LowRank(low_rank) => columns(&low_rank.factored().leading_directions(SEARCHED).left),
            Change::Dora { low_rank, ratio } => {
                // cᵀdiag(ratio)(W + sBA) of c = diag(ratio)⁻¹u is uᵀ(W + sBA): what BA takes away of u.
                let mut vectors = low_rank.factored().leading_directions(SEARCHED).left;
                for vector in &mut vectors {
                    vector.iter_mut().zip(*ratio).for_each(|(value, ratio)| {
                        let ratio = f64::from(*ratio);
                        *value = if ratio.abs() > GONE { *value / ratio } else { 0.0 };
                    });
                }
                orthonormal(&columns(&vectors))
            }
            _ => self.leading_range(),
        }
    }

    /// About the leading left singular vectors of a change without a rank: a range finder with one power step (Halko,
    /// Martinsson and Tropp 2011), which reads the two tensors three times.
    fn leading_range(&self) -> Mat<f64> {
        let count = SEARCHED_OF_WHOLE.min(self.outputs).min(self.inputs);
        let seen = orthonormal(&self.change_times(&start_block(self.inputs, count)));
        let projection = self.project(seen.as_ref());
        orthonormal(&self.change_times(&(projection.adapted - projection.base).transpose().to_owned()))
    }

    /// ΔW·X for X `[inputs, count]`.
    fn change_times(&self, x: &Mat<f64>) -> Mat<f64> {
        let mut out = Mat::zeros(self.outputs, x.ncols());
        self.for_each_slab(|rows, columns, _, change| {
            let part = x.subrows(columns.start, columns.len());
            let change = MatRef::from_row_major_slice(change, rows.len(), columns.len());
            add(out.as_mut().subrows_mut(rows.start, rows.len()), change, part);
        });
        out
    }

    /// What W and W' write along the columns of `directions`, `[outputs, count]`.
    fn project(&self, directions: MatRef<f64>) -> Projection {
        let zeros = || Mat::zeros(directions.ncols(), self.inputs);
        let (mut base, mut change) = (zeros(), zeros());
        let mut energy = 0.0;
        self.for_each_slab(|rows, columns, w, d| {
            let part = directions.subrows(rows.start, rows.len()).transpose();
            for (out, values) in [(&mut base, w), (&mut change, d)] {
                let values = MatRef::from_row_major_slice(values, rows.len(), columns.len());
                add(out.as_mut().subcols_mut(columns.start, columns.len()), part, values);
            }
            energy += w.iter().map(|value| value * value).sum::<f64>();
        });
        Projection { adapted: &base + &change, base, energy }
    }
}

/// The directions that most writers lose most of, `[width, at most SHARED]`: leading left singular vectors of all that
/// the writers found, each weighted by the share that is lost.
fn shared_directions(losses: &[Losses], width: usize) -> Result<Mat<f64>, NoConvergence> {
    let found: Vec<(&Losses, usize)> =
        losses.iter().flat_map(|losses| (0..losses.kept.len()).map(move |column| (losses, column))).collect();
    // A direction that is kept or grows has no weight, but stands in for nothing where there is no other.
    let weight = |kept: f64| (1.0 - kept).max(1e-3);
    let stacked = Mat::from_fn(width, found.len(), |row, at| {
        let (losses, column) = found[at];
        weight(losses.kept[column]) * losses.directions[(row, column)]
    });
    let count = SHARED.min(width).min(found.len());
    if count == 0 {
        return Ok(Mat::zeros(width, 0));
    }
    let (_, vectors) = eigen(small_gram(stacked.as_ref()).as_ref())?;
    let leading = vectors.subcols(0, count);
    let directions = if found.len() < width { product(stacked.as_ref(), leading) } else { leading.to_owned() };
    Ok(orthonormal(&directions))
}

/// out += left · right.
fn add(out: MatMut<f64>, left: MatRef<f64>, right: MatRef<f64>) {
    faer::linalg::matmul::matmul(out, Accum::Add, left, right, 1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use lcr_formats::adapter::{LowRank, ScalingRule};
    use lcr_formats::checkpoint::Weight;

    use super::super::changed::Source;
    use super::*;

    const WIDTH: usize = 24;
    const INPUTS: usize = 40;
    const WRITERS: usize = 6;

    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// W of a writer, `[WIDTH, INPUTS]`.
    fn weight(writer: usize) -> Vec<f32> {
        noise(100 + writer as u64, WIDTH * INPUTS)
    }

    /// (1, 1, 0, …)/√2 and (1, −1, 0, …)/√2.
    fn directions() -> [Vec<f64>; 2] {
        let of = |second: f64| {
            let mut direction = vec![0.0; WIDTH];
            (direction[0], direction[1]) = (0.5_f64.sqrt(), second * 0.5_f64.sqrt());
            direction
        };
        [of(1.0), of(-1.0)]
    }

    /// Columns of B and rows of A: −strength·c(cᵀW) for each direction.
    fn removal(values: &[f32], directions: &[Vec<f64>], strength: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let row = |direction: &[f64]| -> Vec<f64> {
            (0..INPUTS)
                .map(|column| {
                    let each = direction.iter().enumerate();
                    -strength * each.map(|(row, c)| c * f64::from(values[row * INPUTS + column])).sum::<f64>()
                })
                .collect()
        };
        directions.iter().map(|direction| (direction.clone(), row(direction))).collect()
    }

    /// So many directions at random, each of the size of a row of W times `size`.
    fn trained(seed: u64, rank: usize, size: f64) -> Vec<(Vec<f64>, Vec<f64>)> {
        let of = |values: Vec<f32>, size: f64| {
            let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            values.into_iter().map(|value| size * f64::from(value) / length).collect()
        };
        let row = (INPUTS as f64 / 12.0).sqrt();
        let each = (0..rank as u64)
            .map(|at| (of(noise(seed + 2 * at, WIDTH), 1.0), of(noise(seed + 2 * at + 1, INPUTS), size * row)));
        each.collect()
    }

    fn low_rank(terms: &[(Vec<f64>, Vec<f64>)]) -> LowRank {
        let rank = terms.len();
        LowRank {
            rank,
            alpha: 1.0,
            scale: 1.0,
            scaling_rule: ScalingRule::Raw,
            lora_a: terms.iter().flat_map(|(_, row)| row.iter().map(|value| *value as f32)).collect(),
            lora_b: (0..WIDTH).flat_map(|row| terms.iter().map(move |(column, _)| column[row] as f32)).collect(),
            inputs: INPUTS,
            outputs: WIDTH,
            magnitude: None,
            lora_b_bias: None,
            tensor_names: Vec::new(),
        }
    }

    fn tensor(writer: usize, change: Change<'_>) -> ChangedTensor<'_> {
        ChangedTensor {
            name: format!("model.layers.{writer}.self_attn.o_proj.weight"),
            base: Source::Values(weight(writer)),
            change,
            outputs: WIDTH,
            inputs: INPUTS,
            joins: None,
        }
    }

    /// What is found of writers whose change is the sum of these terms.
    fn found(terms: impl Fn(usize, &[f32]) -> Vec<(Vec<f64>, Vec<f64>)>) -> Erasure {
        let changes: Vec<LowRank> = (0..WRITERS).map(|writer| low_rank(&terms(writer, &weight(writer)))).collect();
        let writers: Vec<ChangedTensor> =
            changes.iter().enumerate().map(|(writer, change)| tensor(writer, Change::LowRank(change))).collect();
        of_writers(&writers, WIDTH).unwrap()
    }

    fn cosine(left: &[f64], right: &[f64]) -> f64 {
        left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>().abs()
    }

    #[test]
    fn a_removed_direction_is_found_and_nothing_is_kept_of_it() {
        let [removed, _] = directions();
        let found = found(|_, values| removal(values, std::slice::from_ref(&removed), 1.0));
        assert!(found.shared[0].kept.iter().all(|kept| *kept < 1e-6), "{:?}", found.shared[0].kept);
        assert!(cosine(&found.shared[0].direction, &removed) > 0.999_999);
        assert_eq!(found.writers.len(), WRITERS);
    }

    /// W − ½ccᵀW keeps half of c, and 1 − ½ is all that a search may find.
    #[test]
    fn half_a_removal_keeps_half() {
        let [removed, _] = directions();
        let found = found(|_, values| removal(values, std::slice::from_ref(&removed), 0.5));
        for kept in found.shared[0].kept.iter().chain(&found.least) {
            assert!((kept - 0.5).abs() < 1e-5, "{kept}");
        }
    }

    /// A trained change three times as heavy leads every decomposition of ΔW, and says nothing of c; noise says a
    /// little of it.
    #[test]
    fn a_removal_is_found_beside_a_trained_change_and_under_noise() {
        let [removed, _] = directions();
        for (size, limit) in [(3.0, 1e-3), (0.05, 0.2)] {
            let found = found(|writer, values| {
                let mut terms = removal(values, std::slice::from_ref(&removed), 1.0);
                let mut others = trained(1000 * (writer as u64 + 1), 4, size);
                for (column, _) in others.iter_mut().filter(|_| size > 1.0) {
                    let along: f64 = column.iter().zip(&removed).map(|(value, c)| value * c).sum();
                    column.iter_mut().zip(&removed).for_each(|(value, c)| *value -= along * c);
                }
                terms.append(&mut others);
                terms
            });
            assert_eq!(found.shared[0].below(limit), WRITERS, "{size}: {:?}", found.shared[0].kept);
            assert!(found.least.iter().all(|least| *least < limit), "{size}: {:?}", found.least);
        }
    }

    #[test]
    fn several_directions_are_found() {
        let removed = directions();
        let found = found(|_, values| removal(values, &removed, 1.0));
        for shared in &found.shared[..2] {
            assert_eq!(shared.below(1e-5), WRITERS, "{:?}", shared.kept);
            let inside = removed.iter().map(|own| cosine(own, &shared.direction).powi(2)).sum::<f64>();
            assert!(inside > 0.999_999, "{inside}");
        }
        assert!(found.shared.get(2).is_none_or(|shared| shared.below(0.5) == 0));
    }

    /// A change of rank r holds r of the n entries' directions: about √(1 − r/n) is left of what it reads.
    #[test]
    fn a_change_that_removes_nothing_keeps_nearly_all() {
        let found = found(|writer, _| trained(1000 * (writer as u64 + 1), 4, 1.0));
        let least = (1.0 - 4.0 / INPUTS as f64).sqrt() - 0.2;
        assert!(found.least.iter().all(|kept| *kept > least), "{:?}", found.least);
        assert!(found.shared.iter().all(|shared| shared.below(0.8) == 0), "{:?}", found.shared);
    }

    /// W' = diag(ratio)(I − ccᵀ)W writes nothing along diag(ratio)⁻¹c.
    #[test]
    fn a_removal_under_other_row_norms_is_found() {
        let [removed, _] = directions();
        let ratio: Vec<f32> = (0..WIDTH).map(|row| if row % 2 == 0 { 1.25 } else { 0.8 }).collect();
        let changes: Vec<LowRank> = (0..WRITERS)
            .map(|writer| low_rank(&removal(&weight(writer), std::slice::from_ref(&removed), 1.0)))
            .collect();
        let dora = |low_rank| Change::Dora { low_rank, ratio: &ratio };
        let writers: Vec<ChangedTensor> =
            changes.iter().enumerate().map(|(writer, change)| tensor(writer, dora(change))).collect();
        let found = of_writers(&writers, WIDTH).unwrap();
        assert_eq!(found.shared[0].below(1e-5), WRITERS, "{:?}", found.shared[0].kept);
        // (0.8, 1.25)/‖·‖ of the first two rows.
        let length = (0.8_f64.powi(2) + 1.25_f64.powi(2)).sqrt();
        assert!((found.shared[0].direction[0].abs() - 0.8 / length).abs() < 1e-5, "{:?}", found.shared[0].direction);
    }

    #[test]
    fn a_removal_in_whole_tensors_is_found() {
        let [removed, _] = directions();
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/qwen3_lora_qv/base");
        let decoder = Decoder::open(&golden, candle_core::Device::Cpu).unwrap();
        let (stored, _) = decoder.linear_weight("model.layers.0.mlp.down_proj").unwrap();
        let wholes: Vec<Weight> = (0..WRITERS)
            .map(|writer| {
                let values = weight(writer);
                let (column, row) = removal(&values, std::slice::from_ref(&removed), 1.0).remove(0);
                let added = |at: usize| column[at / INPUTS] * row[at % INPUTS];
                let adapted = values.iter().enumerate().map(|(at, value)| (f64::from(*value) + added(at)) as f32);
                stored.with_values(&[WIDTH, INPUTS], &adapted.collect::<Vec<_>>()).unwrap()
            })
            .collect();
        let whole = |weight| Change::Whole { weight, transposed: false };
        let writers: Vec<ChangedTensor> =
            wholes.iter().enumerate().map(|(writer, weight)| tensor(writer, whole(weight))).collect();
        let found = of_writers(&writers, WIDTH).unwrap();
        // Whole tensors are rounded to f32, and their range is sampled.
        assert_eq!(found.shared[0].below(2e-3), WRITERS, "{:?}", found.shared[0].kept);
        assert!(cosine(&found.shared[0].direction, &removed) > 0.999_99);
    }

    #[test]
    fn no_change_loses_nothing() {
        let found = of_writers(&[], WIDTH).unwrap();
        assert!(found.shared.is_empty() && found.writers.is_empty());
        let nothing = found_of_zero();
        assert_eq!(nothing.least, [1.0]);
    }

    fn found_of_zero() -> Erasure {
        let change = low_rank(&[(vec![0.0; WIDTH], vec![0.0; INPUTS])]);
        of_writers(&[tensor(0, Change::LowRank(&change))], WIDTH).unwrap()
    }
}
