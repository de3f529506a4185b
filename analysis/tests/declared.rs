//! What the metrics of rows declare, held against what is measured: the values of an unchanged site, and what moves
//! which number.

use candle_core::{Device, Tensor};
use lcr_analysis::metrics::{METRICS, Number, Parameters, Reads, Transformation, Unchanged, weights};
use lcr_analysis::site::{SiteOptions, compare_site};
use lcr_model::decoder::{Branches, Sequence, Site};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

const ROWS: usize = 60;
const WIDTH: usize = 24;

/// Rows by rows, `[ROWS][WIDTH]`.
type Rows = Vec<Vec<f64>>;

fn gaussian(random: &mut ChaCha8Rng) -> f64 {
    let (radius, turn) = (1.0 - random.random::<f64>(), random.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}

/// Reflections in three random hyperplanes: an orthogonal map that mixes all columns.
fn rotation(random: &mut ChaCha8Rng) -> impl Fn(&Rows) -> Rows {
    let normals: Vec<Vec<f64>> = (0..3).map(|_| (0..WIDTH).map(|_| gaussian(random)).collect()).collect();
    move |rows| {
        let reflected = |mut row: Vec<f64>| {
            for normal in &normals {
                let square: f64 = normal.iter().map(|value| value * value).sum();
                let along: f64 = row.iter().zip(normal).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(normal).for_each(|(value, part)| *value -= 2.0 * along / square * part);
            }
            row
        };
        rows.iter().cloned().map(reflected).collect()
    }
}

/// States as models have them, with a mean and directions of falling weight, and the same after a change.
fn pair(random: &mut ChaCha8Rng) -> (Rows, Rows) {
    let state = |random: &mut ChaCha8Rng| {
        (0..WIDTH).map(|column| 0.3 + gaussian(random) * 8.0 * 0.8_f64.powi(column as i32)).collect::<Vec<f64>>()
    };
    let states: Rows = (0..ROWS).map(|_| state(random)).collect();
    let base = rotation(random)(&states);
    let adapted = base.iter().map(|row| row.iter().map(|value| value + gaussian(random)).collect()).collect();
    (base, adapted)
}

fn options() -> SiteOptions {
    let parameters = Parameters { subspace_dimensions: 3, seed: 0 };
    SiteOptions { metrics: METRICS.to_vec(), keep_sinks: true, parameters }
}

fn compared(branches: &Branches) -> Value {
    let sequences = Sequence::consecutive(&[ROWS + 1]);
    let results = compare_site(Site::Resid(0), branches, &sequences, &options()).unwrap();
    serde_json::to_value(&results[0].change).unwrap()
}

/// A first position is put in front, which does not count.
fn tensor(rows: &Rows) -> Tensor {
    let first = std::iter::repeat_n(1.0, WIDTH);
    let values: Vec<f32> = first.chain(rows.iter().flatten().map(|value| *value as f32)).collect();
    Tensor::from_vec(values, (ROWS + 1, WIDTH), &Device::Cpu).unwrap()
}

fn measured(base: &Rows, adapted: &Rows) -> Value {
    compared(&Branches::of(vec![tensor(base), tensor(adapted)], vec![0, 1]).unwrap())
}

/// Both after a transformation.
fn transformed(transformation: Transformation, base: &Rows, adapted: &Rows) -> (Rows, Rows) {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let each = |f: &dyn Fn(usize, f64) -> f64| -> Rows {
        adapted.iter().map(|row| row.iter().enumerate().map(|(column, value)| f(column, *value)).collect()).collect()
    };
    match transformation {
        Transformation::Scaling => (base.clone(), each(&|_, value| 2.0 * value)),
        Transformation::Translation => {
            let vector: Vec<f64> = (0..WIDTH).map(|_| 4.0 * gaussian(&mut random)).collect();
            (base.clone(), each(&|column, value| value + vector[column]))
        }
        Transformation::CommonRotation => {
            let turn = rotation(&mut random);
            (turn(base), turn(adapted))
        }
        Transformation::Rotation => (base.clone(), rotation(&mut random)(adapted)),
        Transformation::TokenOrder => {
            let mut order: Vec<usize> = (0..ROWS).collect();
            order.shuffle(&mut random);
            let reordered = |rows: &Rows| order.iter().map(|row| rows[*row].clone()).collect();
            (reordered(base), reordered(adapted))
        }
        Transformation::FactorRewriting => panic!("not of activations"),
    }
}

/// All values at a key; `*` is any part of the report at its place.
fn values<'a>(report: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = vec![report];
    for part in key.split('.') {
        found = found
            .into_iter()
            .flat_map(|value| match part {
                "*" => value.as_object().unwrap().values().filter(|value| value.is_object()).collect(),
                _ => vec![value.get(part).unwrap_or_else(|| panic!("{key}: nothing at {part}"))],
            })
            .collect();
    }
    found.into_iter().flat_map(|value| value.as_array().map_or(vec![value], |list| list.iter().collect())).collect()
}

fn numbers() -> impl Iterator<Item = &'static Number> {
    let of_rows = METRICS.iter().filter(|metric| matches!(metric.reads, Reads::Rows(_)));
    of_rows.flat_map(|metric| metric.entries).flat_map(|entry| entry.numbers)
}

/// The largest relative difference of two lists of values.
fn distance(before: &[&Value], after: &[&Value]) -> f64 {
    assert_eq!(before.len(), after.len());
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    pairs.fold(0.0, |largest, (before, after)| {
        let (Some(before), Some(after)) = (before.as_f64(), after.as_f64()) else { return f64::INFINITY };
        f64::max(largest, (before - after).abs() / before.abs().max(after.abs()).max(0.1))
    })
}

/// Rotations round the states to f32, so what they leave alone moves by some 10⁻⁶; what is moved at all is moved by a
/// hundredth.
#[test]
fn a_number_moves_with_what_it_is_not_blind_to_and_with_nothing_else() {
    let (base, adapted) = pair(&mut ChaCha8Rng::seed_from_u64(3));
    let before = measured(&base, &adapted);
    let mut faults = Vec::new();
    for transformation in Transformation::OF_ACTIVATIONS {
        let (turned_base, turned_adapted) = transformed(transformation, &base, &adapted);
        let after = measured(&turned_base, &turned_adapted);
        for number in numbers() {
            let moved = distance(&values(&before, number.key), &values(&after, number.key));
            let blind = number.blind_to.contains(&transformation);
            if if blind { moved > 1e-4 } else { moved < 5e-3 } {
                let says = if blind { "blind" } else { "not blind" };
                faults.push(format!("{} is said to be {says} to {transformation} and moves by {moved:e}", number.key));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_unchanged_site_has_the_values_that_the_metrics_say() {
    let (base, _) = pair(&mut ChaCha8Rng::seed_from_u64(3));
    let found = compared(&Branches::shared(tensor(&base), 2));
    for number in numbers() {
        for value in values(&found, number.key) {
            let agrees = match number.unchanged {
                Unchanged::Is(expected) => value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-12),
                Unchanged::Undefined => value.is_null(),
                Unchanged::OwnValue => value.is_number(),
            };
            assert!(agrees, "{}: {value}, not {:?}", number.key, number.unchanged);
        }
    }
}

/// That it is so for every figure of the weights, `tests/rewriting.rs` measures with the program itself.
#[test]
fn every_number_of_the_weights_is_declared_a_function_of_the_product() {
    let numbers = weights::METRIC.entries.iter().flat_map(|entry| entry.numbers);
    for number in numbers {
        assert_eq!(number.blind_to, [Transformation::FactorRewriting], "{}", number.key);
    }
}

/// docs/questions.md says of every question when its answer is yes.
#[test]
fn every_question_is_documented() {
    let text = include_str!("../../docs/questions.md");
    let names = lcr_analysis::questions::QUESTIONS.iter().flat_map(|asking| asking.names);
    let missing: Vec<&str> = names.map(|(name, _)| *name).filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/questions.md does not name {missing:?}");
}
