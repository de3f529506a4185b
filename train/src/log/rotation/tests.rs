//! Against rows multiplied out in f64, and by what must not turn a row.

use std::path::Path;

use lcr_formats::adapter::ScalingRule;
use lcr_model::decoder::Decoder;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;

const LINEAR: (&str, &str) = ("qwen3_lora_qv", "model.layers.0.self_attn.q_proj");
/// GPT-2 stores W transposed.
const CONV1D: (&str, &str) = ("gpt2_lora", "transformer.h.0.attn.c_attn");

fn decoder(golden: &str) -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(golden).join("base");
    Decoder::open(&folder, candle_core::Device::Cpu).unwrap()
}

/// W as rows of outputs, in f64.
fn dense(decoder: &Decoder, path: &str) -> Vec<Vec<f64>> {
    let (weight, transposed) = decoder.linear_weight(path).unwrap();
    let (values, columns) = (weight.to_f32(), weight.shape()[1]);
    let stored: Vec<Vec<f64>> =
        values.chunks_exact(columns).map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect();
    if !transposed {
        return stored;
    }
    (0..columns).map(|column| stored.iter().map(|row| row[column]).collect()).collect()
}

/// A pair of factors with entries around these sizes.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    rank: usize,
    scale: f64,
    lora_a: Vec<f32>,
    lora_b: Vec<f32>,
}

impl Pair {
    fn random(weight: &[Vec<f64>], rank: usize, size: f64, seed: u64) -> Self {
        let (outputs, inputs) = (weight.len(), weight[0].len());
        let mut generator = ChaCha12Rng::seed_from_u64(seed);
        let mut draw = |count: usize, size: f64| -> Vec<f32> {
            (0..count).map(|_| ((generator.next_u32() as f64 / u32::MAX as f64 - 0.5) * size) as f32).collect()
        };
        Self { rank, scale: 2.0, lora_a: draw(rank * inputs, 0.3), lora_b: draw(outputs * rank, size) }
    }

    fn moved(&self, share: f32) -> Self {
        let mut moved = self.clone();
        for (index, value) in moved.lora_a.iter_mut().chain(&mut moved.lora_b).enumerate() {
            *value += share * ((index * 7919 % 13) as f32 - 6.0);
        }
        moved
    }

    fn factors(&self) -> Factors<'_> {
        Factors { rank: self.rank, scale: self.scale, lora_a: &self.lora_a, lora_b: &self.lora_b }
    }
}

/// W + sBA multiplied out.
fn effective(weight: &[Vec<f64>], pair: Option<&Pair>) -> Vec<Vec<f64>> {
    let Some(pair) = pair else { return weight.to_vec() };
    let inputs = weight[0].len();
    let change = |row: usize, column: usize| -> f64 {
        (0..pair.rank)
            .map(|k| f64::from(pair.lora_b[row * pair.rank + k]) * f64::from(pair.lora_a[k * inputs + column]))
            .sum::<f64>()
            * pair.scale
    };
    let rows = weight.iter().enumerate();
    rows.map(|(row, values)| (0..inputs).map(|column| values[column] + change(row, column)).collect()).collect()
}

/// 2·atan2(‖û−v̂‖, ‖û+v̂‖) row by row; mean and max in degrees.
fn reference(before: &[Vec<f64>], after: &[Vec<f64>]) -> (f64, f64) {
    let unit = |row: &[f64]| -> Vec<f64> {
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter().map(|value| value / norm).collect()
    };
    let angles: Vec<f64> = before
        .iter()
        .zip(after)
        .map(|(u, v)| {
            let (u, v) = (unit(u), unit(v));
            let norm = |sign: f64| u.iter().zip(&v).map(|(a, b)| (a + sign * b).powi(2)).sum::<f64>().sqrt();
            (2.0 * norm(-1.0).atan2(norm(1.0))).to_degrees()
        })
        .collect();
    (angles.iter().sum::<f64>() / angles.len() as f64, angles.iter().copied().fold(0.0, f64::max))
}

fn low_rank(weight: &[Vec<f64>], pair: Pair) -> LowRank {
    LowRank {
        rank: pair.rank,
        alpha: pair.scale * pair.rank as f64,
        scale: pair.scale,
        scaling_rule: ScalingRule::AlphaOverRank,
        lora_a: pair.lora_a,
        lora_b: pair.lora_b,
        inputs: weight[0].len(),
        outputs: weight.len(),
        magnitude: None,
        lora_b_bias: None,
        tensor_names: Vec::new(),
    }
}

fn turn<'a>(before: Option<&'a Pair>, after: Option<&'a Pair>) -> Turn<'a> {
    Turn { before: before.map(Pair::factors), after: after.map(Pair::factors) }
}

fn one(decoder: &Decoder, path: &str, before: Option<&Pair>, after: Option<&Pair>) -> RowAngles {
    rotation(decoder, path, &[turn(before, after)]).unwrap()[0]
}

/// From half a turn's order of magnitude down to 1e-7 rad. The reference itself loses digits as 1e-16/θ.
#[test]
fn angles_are_those_of_the_multiplied_rows() {
    for (golden, path) in [LINEAR, CONV1D] {
        let decoder = decoder(golden);
        let weight = dense(&decoder, path);
        for size in [10.0, 1.0, 1e-2, 1e-4, 1e-6, 1e-7] {
            let (before, after) = (Pair::random(&weight, 4, size, 1), Pair::random(&weight, 4, size, 2));
            let wider = Pair::random(&weight, 6, size, 3);
            for (from, to) in [
                (Some(&before), Some(&after)),
                (None, Some(&after)),
                (Some(&before), None),
                (Some(&wider), Some(&before)),
                (Some(&before), Some(&wider)),
            ] {
                let angles = one(&decoder, path, from, to);
                let (mean, max) = reference(&effective(&weight, from), &effective(&weight, to));
                let tolerance = 1e-9 + 1e-15 / max.to_radians();
                assert_eq!(angles.rows, weight.len());
                assert!((angles.mean / mean - 1.0).abs() < tolerance, "{path}, {size}: {angles:?}, mean {mean}");
                assert!((angles.max / max - 1.0).abs() < tolerance, "{path}, {size}: {angles:?}, max {max}");
            }
        }
    }
}

/// A small step from an adapter that is already large, as training takes them.
#[test]
fn a_small_step_of_a_large_adapter_keeps_its_digits() {
    let (golden, path) = LINEAR;
    let decoder = decoder(golden);
    let weight = dense(&decoder, path);
    let before = Pair::random(&weight, 4, 0.5, 1);
    for share in [1e-3, 1e-5, 2e-7] {
        let after = before.moved(share);
        let angles = one(&decoder, path, Some(&before), Some(&after));
        let (mean, max) = reference(&effective(&weight, Some(&before)), &effective(&weight, Some(&after)));
        let tolerance = 1e-9 + 1e-14 / mean.to_radians();
        assert!((angles.mean / mean - 1.0).abs() < tolerance, "{share}: {angles:?}, mean {mean}");
        assert!((angles.max / max - 1.0).abs() < tolerance, "{share}: {angles:?}, max {max}");
    }
}

/// A row moved by ε at right angles to itself turns by atan(ε/‖w‖); one scaled by 1 + ε turns not at all.
#[test]
fn closed_forms() {
    let (golden, path) = LINEAR;
    let decoder = decoder(golden);
    let weight = dense(&decoder, path);
    let (outputs, inputs) = (weight.len(), weight[0].len());
    let row: Vec<f32> = weight[3].iter().map(|value| *value as f32).collect();
    let mut lora_b = vec![0.0_f32; outputs];
    lora_b[3] = 0.5;
    let along = Pair { rank: 1, scale: 1.0, lora_a: row.clone(), lora_b: lora_b.clone() };
    assert!(one(&decoder, path, None, Some(&along)).max.to_radians() < 1e-8, "scaling a row does not turn it");
    let mut across = vec![0.0_f32; inputs];
    (across[0], across[1]) = (-row[1], row[0]);
    let length = across.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let norm = weight[3].iter().map(|value| value * value).sum::<f64>().sqrt();
    for size in [1.0_f32, 1e-3, 2.0_f32.powi(-40), 2.0_f32.powi(-80)] {
        lora_b[3] = size;
        let pair = Pair { rank: 1, scale: 1.0, lora_a: across.clone(), lora_b: lora_b.clone() };
        let angles = one(&decoder, path, None, Some(&pair));
        let expected = (f64::from(size) * length / norm).atan().to_degrees();
        assert!((angles.max / expected - 1.0).abs() < 1e-12, "{size:e}: {angles:?}, expected {expected}");
        assert!((angles.mean * outputs as f64 / angles.max - 1.0).abs() < 1e-12, "no other row turned: {angles:?}");
    }
}

/// Two rows of A that differ in the fourth digit, and columns of B that take one from the other three hundred times:
/// all of the change lies in a direction that is nearly lost.
#[test]
fn nearly_parallel_factors_keep_what_they_differ_by() {
    let (golden, path) = LINEAR;
    let decoder = decoder(golden);
    let weight = dense(&decoder, path);
    let inputs = weight[0].len();
    let mut pair = Pair::random(&weight, 2, 1.0, 1);
    for column in 0..inputs {
        pair.lora_a[inputs + column] = pair.lora_a[column] * (1.0 + (column % 7) as f32 * 1e-4);
    }
    for columns in pair.lora_b.chunks_exact_mut(2) {
        (columns[0], columns[1]) = (-300.0, 300.0);
    }
    let angles = one(&decoder, path, None, Some(&pair));
    let (mean, max) = reference(&weight, &effective(&weight, Some(&pair)));
    assert!(mean > 1.0, "{mean}");
    assert!((angles.mean / mean - 1.0).abs() < 1e-9, "{angles:?}, mean {mean}");
    assert!((angles.max / max - 1.0).abs() < 1e-9, "{angles:?}, max {max}");
}

#[test]
fn a_row_turned_right_round_has_half_a_turn() {
    let (golden, path) = LINEAR;
    let decoder = decoder(golden);
    let weight = dense(&decoder, path);
    let mut lora_b = vec![0.0_f32; weight.len()];
    lora_b[0] = -2.0;
    let lora_a = weight[0].iter().map(|value| *value as f32).collect();
    let angles = one(&decoder, path, None, Some(&Pair { rank: 1, scale: 1.0, lora_a, lora_b }));
    assert!((angles.max - 180.0).abs() < 1e-5, "{angles:?}");
}

#[test]
fn a_row_that_vanishes_has_no_angle() {
    let (golden, path) = LINEAR;
    let decoder = decoder(golden);
    let weight = dense(&decoder, path);
    let mut lora_b = vec![0.0_f32; weight.len()];
    lora_b[0] = -1.0;
    let lora_a: Vec<f32> = weight[0].iter().map(|value| *value as f32).collect();
    let pair = Pair { rank: 1, scale: 1.0, lora_a, lora_b };
    let angles = one(&decoder, path, None, Some(&pair));
    assert!(angles.rows >= weight.len() - 1 && angles.mean.is_finite(), "{angles:?}");
}

#[test]
fn several_turns_at_once_are_the_same_as_one_by_one() {
    for (golden, path) in [LINEAR, CONV1D] {
        let decoder = decoder(golden);
        let weight = dense(&decoder, path);
        let (a, b) = (Pair::random(&weight, 4, 1.0, 1), Pair::random(&weight, 2, 1.0, 2));
        let turns = [(Some(&a), Some(&b)), (None, Some(&b)), (None, None)];
        let together = rotation(&decoder, path, &turns.map(|(from, to)| turn(from, to))).unwrap();
        for (angles, (from, to)) in together.iter().zip(turns) {
            assert_eq!(*angles, one(&decoder, path, from, to));
        }
        assert_eq!(together[2].max, 0.0);
    }
}

/// A whole adapter: mean over all rows, the largest of all.
#[test]
fn an_adapter_is_all_its_rows() {
    let decoder = decoder(LINEAR.0);
    let paths = [LINEAR.1, "model.layers.1.self_attn.v_proj"];
    let modules = |seed: u64| -> BTreeMap<String, Arc<LowRank>> {
        let module = |path: &&str| {
            let weight = dense(&decoder, path);
            ((*path).to_owned(), Arc::new(low_rank(&weight, Pair::random(&weight, 4, 0.1, seed))))
        };
        paths.iter().map(module).collect()
    };
    let (before, after) = (modules(1), modules(2));
    let found = rotation_of_adapter(&decoder, &before, &after).unwrap();
    let pair = |module: &LowRank| Pair {
        rank: module.rank,
        scale: module.scale,
        lora_a: module.lora_a.clone(),
        lora_b: module.lora_b.clone(),
    };
    for (angles, earlier) in [(found.step, Some(&before)), (found.total, None)] {
        let (mut sum, mut max, mut rows) = (0.0, 0.0_f64, 0);
        for path in paths {
            let weight = dense(&decoder, path);
            let from = effective(&weight, earlier.map(|modules| pair(&modules[path])).as_ref());
            let own = reference(&from, &effective(&weight, Some(&pair(&after[path]))));
            sum += own.0 * weight.len() as f64;
            rows += weight.len();
            max = max.max(own.1);
        }
        assert_eq!(angles.rows, rows);
        assert!((angles.max / max - 1.0).abs() < 1e-9, "{angles:?}, max {max}");
        assert!((angles.mean * rows as f64 / sum - 1.0).abs() < 1e-9, "{angles:?}, sum {sum}");
    }
    assert_eq!(rotation_of_adapter(&decoder, &after, &after).unwrap().step.max, 0.0);
}

/// Rows 3 and 5 moved at right angles to themselves stand at atan(size·‖across‖/‖w‖) from the base, negative on its
/// other side; so a step turns them by the difference of two such angles, and the total is that of the later state
/// alone.
#[test]
fn step_and_total_of_known_turns() {
    const ROWS: [usize; 2] = [3, 5];
    let decoder = decoder(LINEAR.0);
    let paths = [LINEAR.1, "model.layers.1.self_attn.v_proj"];
    let weights = paths.map(|path| dense(&decoder, path));
    let across = |row: &[f64]| [-row[1], row[0]];
    let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let angle = |module: usize, row: usize, size: f64| {
        let weight = &weights[module][ROWS[row]];
        (size * length(&across(weight)) / length(weight)).atan()
    };
    let modules = |sizes: [Option<[f64; 2]>; 2]| -> BTreeMap<String, Arc<LowRank>> {
        let present = (0..2).filter_map(|module| Some((module, sizes[module]?)));
        present
            .map(|(module, sizes)| {
                let weight = &weights[module];
                let inputs = weight[0].len();
                let (mut lora_a, mut lora_b) = (vec![0.0; 2 * inputs], vec![0.0; weight.len() * 2]);
                for (place, row) in ROWS.into_iter().enumerate() {
                    let moved = across(&weight[row]);
                    (lora_a[place * inputs], lora_a[place * inputs + 1]) = (moved[0] as f32, moved[1] as f32);
                    lora_b[row * 2 + place] = sizes[place] as f32;
                }
                (paths[module].to_owned(), Arc::new(low_rank(weight, Pair { rank: 2, scale: 1.0, lora_a, lora_b })))
            })
            .collect()
    };
    let rows: usize = weights.iter().map(Vec::len).sum();
    for (before, after) in [
        ([Some([0.5, -0.25]), Some([2.0, 0.0])], [Some([0.25, 1.0]), Some([-1.0, 4.0])]),
        ([Some([0.5, 0.5]), Some([2.0, 0.25])], [None, Some([2.0, 0.25])]),
        ([None, Some([2.0, 0.25])], [Some([0.5, 0.5]), Some([1.0, 0.5])]),
    ] {
        let found = rotation_of_adapter(&decoder, &modules(before), &modules(after)).unwrap();
        let places = || (0..2).flat_map(|module| [0, 1].map(|row| (module, row)));
        let standing = |state: [Option<[f64; 2]>; 2], (module, row): (usize, usize)| {
            state[module].map_or(0.0, |sizes| angle(module, row, sizes[row]))
        };
        let step: Vec<f64> = places().map(|at| (standing(after, at) - standing(before, at)).abs()).collect();
        let total: Vec<f64> = places().map(|at| standing(after, at).abs()).collect();
        for (found, expected) in [(found.step, step), (found.total, total)] {
            let (sum, max) = (expected.iter().sum::<f64>(), expected.iter().copied().fold(0.0, f64::max));
            assert_eq!(found.rows, rows);
            let mean = (sum / rows as f64).to_degrees();
            assert!((found.mean / mean - 1.0).abs() < 1e-12, "{before:?} {after:?}: {found:?}, mean {mean}");
            assert!((found.max / max.to_degrees() - 1.0).abs() < 1e-12, "{before:?} {after:?}: {found:?}, max {max}");
        }
    }
}

#[test]
fn modules_and_factors_that_do_not_fit_are_refused() {
    let decoder = decoder(LINEAR.0);
    let nothing = Turn { before: None, after: None };
    let unknown = rotation(&decoder, "model.layers.99.self_attn.q_proj", &[nothing]).unwrap_err();
    assert!(unknown.to_string().contains("layers.99"), "{unknown}");
    let wrong = Factors { rank: 2, scale: 1.0, lora_a: &[0.0; 5], lora_b: &[0.0; 4] };
    let shape = rotation(&decoder, LINEAR.1, &[Turn { before: None, after: Some(wrong) }]).unwrap_err();
    assert!(matches!(shape, RotationError::Shape { found: 5, rank: 2, .. }), "{shape}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A → MA, B → BM⁻¹ leaves W' where it was. M is a product of powers of two and a permutation, which f32 does
    /// exactly.
    #[test]
    fn the_choice_of_factors_does_not_turn_a_row(exponents in prop::array::uniform4(-4_i32..5), seed in 0_u64..1000) {
        let (golden, path) = LINEAR;
        let decoder = decoder(golden);
        let weight = dense(&decoder, path);
        let inputs = weight[0].len();
        let pair = Pair::random(&weight, 4, 1.0, seed);
        let mut other = pair.clone();
        for (k, exponent) in exponents.into_iter().enumerate() {
            let from = (k + 1) % 4;
            for column in 0..inputs {
                other.lora_a[k * inputs + column] = pair.lora_a[from * inputs + column] * 2.0_f32.powi(exponent);
            }
            for row in 0..weight.len() {
                other.lora_b[row * 4 + k] = pair.lora_b[row * 4 + from] * 2.0_f32.powi(-exponent);
            }
        }
        let angles = one(&decoder, path, Some(&pair), Some(&other));
        prop_assert!(angles.max.to_radians() < 1e-13, "{:?}", angles);
    }
}
