//! Gradients against those of torch and peft (float64, `gradients.py`), against finite differences, and against each
//! other.

#![expect(clippy::unwrap_used, reason = "tests")]

mod gradients {
    mod saved;
}

use std::path::PathBuf;

use candle_core::Device;
use lcr_formats::adapter::Adapter;
use lcr_formats::checkpoint::SafetensorsFile;
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, ModelError, ModuleGradient, with_values};
use lcr_train::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter};
use lcr_train::step::gradient::{AdapterGradient, Example, Trace, divergence};

const CASES: [&str; 14] = [
    "gemma2_lora",
    "gemma3_lora",
    "gpt2_lora",
    "llama3_lora_patterns",
    "mistral_dora_mlp",
    "phi3_lora",
    "qwen2_rslora_all",
    "qwen3_dora_faint",
    "qwen3_dora_magnitude_only",
    "qwen3_dora_qv",
    "qwen3_lora_one_direction",
    "qwen3_lora_qv",
    "qwen3_modules_to_save",
    "smollm3_lora",
];

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden(case: &str) -> PathBuf {
    here().join("../tests/golden").join(case)
}

fn open(case: &str) -> (Decoder, BoundAdapter) {
    let decoder = Decoder::open(&golden(case).join("base"), Device::Cpu).unwrap();
    let variant = decoder.bind(Adapter::open(&golden(case).join("adapter")).unwrap()).unwrap();
    (decoder, variant)
}

struct Fixture(SafetensorsFile);

impl Fixture {
    fn open(case: &str) -> Self {
        let path = here().join("tests/fixtures").join(format!("{case}.safetensors"));
        Self(SafetensorsFile::open(&path).unwrap())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.tensors().iter().find(|tensor| tensor.name() == name).unwrap_or_else(|| panic!("{name}")).bytes()
    }

    fn whole(&self, name: &str) -> Vec<i64> {
        self.bytes(name).chunks_exact(8).map(|raw| i64::from_le_bytes(raw.try_into().unwrap())).collect()
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.bytes(name).chunks_exact(8).map(|raw| f64::from_le_bytes(raw.try_into().unwrap())).collect()
    }

    fn single(&self, name: &str) -> Vec<f64> {
        self.bytes(name).chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap()).into()).collect()
    }

    fn examples(&self) -> Vec<Example> {
        (0..2)
            .map(|index| Example {
                tokens: self.whole(&format!("tokens.{index}")).iter().map(|token| *token as u32).collect(),
                targets: self.whole(&format!("targets.{index}")).iter().map(|target| *target as usize).collect(),
            })
            .collect()
    }

    fn of_examples(&self, name: &str) -> Vec<Vec<f64>> {
        (0..2).map(|index| self.wide(&format!("{name}.{index}"))).collect()
    }

    fn gradients(&self) -> Vec<(String, Vec<f32>)> {
        let named = self.0.tensors().iter().filter_map(|tensor| {
            Some((tensor.name().strip_prefix("gradient.base_model.model.")?.to_owned(), tensor.to_f32()))
        });
        named.collect()
    }
}

/// The tensor of a gradient under the name that PEFT gives it.
fn named<'a>(gradient: &'a AdapterGradient, name: &str) -> &'a [f32] {
    let module = |suffix: &str| name.strip_suffix(suffix).map(|path| &gradient.modules[path]);
    let found: Option<&Vec<f32>> = None
        .or(module(".lora_A.weight").map(|module: &ModuleGradient| &module.lora_a))
        .or(module(".lora_B.weight").map(|module| &module.lora_b))
        .or(module(".lora_magnitude_vector").and_then(|module| module.magnitude.as_ref()));
    found.unwrap_or_else(|| panic!("{name}"))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// ‖left − right‖/‖right‖; the bare norm of the left where the right is zero.
fn relative(left: &[f32], right: &[f32]) -> f64 {
    assert_eq!(left.len(), right.len());
    let size = norm(right.iter().map(|value| f64::from(*value)));
    let difference = norm(left.iter().zip(right).map(|(left, right)| f64::from(*left) - f64::from(*right)));
    if size > 0.0 { difference / size } else { difference }
}

#[test]
fn gradients_and_log_probabilities_are_those_of_peft() {
    let mut failures = Vec::new();
    for case in CASES {
        let ((decoder, variant), fixture) = (open(case), Fixture::open(case));
        let trace = Trace::forward(&decoder, &variant, &fixture.examples()).unwrap();
        let expected = fixture.of_examples("log_probabilities").concat();
        for (found, expected) in trace.log_probabilities().concat().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{case}: ln p {found}, expected {expected}");
        }
        let gradient = trace.backward(&fixture.of_examples("coefficients")).unwrap();
        let reference = fixture.gradients();
        assert_eq!(reference.len(), gradient.slices().count(), "{case}");
        for (name, expected) in reference {
            let difference = relative(named(&gradient, &name), &expected);
            if difference.is_nan() || difference > 1e-5 {
                failures.push(format!("{case} {name}: {difference:.2e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Largest [`relative`] difference over the tensors of two gradients.
fn difference(left: &AdapterGradient, right: &AdapterGradient) -> f64 {
    assert_eq!(left.modules.keys().collect::<Vec<_>>(), right.modules.keys().collect::<Vec<_>>());
    left.slices().zip(right.slices()).map(|(left, right)| relative(left, right)).fold(0.0, f64::max)
}

fn gradient_of(
    decoder: &Decoder,
    variant: &BoundAdapter,
    examples: &[Example],
    coefficients: &[Vec<f64>],
) -> AdapterGradient {
    Trace::forward(decoder, variant, examples).unwrap().backward(coefficients).unwrap()
}

/// A trainable adapter whose tensors are all away from where they started.
fn disturbed(decoder: &Decoder, method: AdapterMethod, targets: &[&str]) -> TrainableAdapter {
    let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
    let options = AdapterOptions { method, rank: 3, alpha: 6.0, target_modules, seed: 5 };
    let mut adapter = TrainableAdapter::new(decoder, &options).unwrap();
    for (_, values) in adapter.parameters_mut() {
        for (index, value) in values.iter_mut().enumerate() {
            *value = *value * 1.05 + 0.02 * (index as f32 * 1.7).sin();
        }
    }
    adapter
}

/// Whether a parameter of this name is moved.
type Moves = fn(&str) -> bool;

/// Moves every parameter whose name `moves` along `direction`, as far as `step`, and evaluates the loss.
fn loss_at(
    decoder: &Decoder,
    adapter: &TrainableAdapter,
    moves: Moves,
    (direction, step): (&AdapterGradient, f64),
    fixture: &Fixture,
) -> f64 {
    let mut moved = adapter.clone();
    for ((name, values), along) in moved.parameters_mut().zip(direction.slices()).filter(|((name, _), _)| moves(name)) {
        assert_eq!(values.len(), along.len(), "{name}");
        values.iter_mut().zip(along).for_each(|(value, along)| *value += (step * f64::from(*along)) as f32);
    }
    let variant = moved.variant(decoder);
    let trace = Trace::forward(decoder, &variant, &fixture.examples()).unwrap();
    let coefficients = fixture.of_examples("coefficients").concat();
    trace.log_probabilities().concat().iter().zip(coefficients).map(|(found, coefficient)| -coefficient * found).sum()
}

#[test]
fn the_slope_along_the_gradient_is_its_squared_length() {
    // DoRA holds its norms constant, so that only the magnitudes' gradient is a true derivative.
    let magnitudes: Moves = |name| name.ends_with("magnitude_vector");
    let head: &[&str] = &["k_proj", "lm_head"];
    let cases: [(AdapterMethod, &[&str], Moves); 4] = [
        (AdapterMethod::Rslora, &["all-linear"], |_| true),
        (AdapterMethod::Dora, &["all-linear"], magnitudes),
        (AdapterMethod::Lora, head, |name| name.contains("lm_head")),
        (AdapterMethod::Dora, head, |name| name.ends_with("lm_head.lora_magnitude_vector")),
    ];
    for (method, targets, moves) in cases {
        let (decoder, _) = open("qwen3_dora_qv");
        let fixture = Fixture::open("qwen3_dora_qv");
        let adapter = disturbed(&decoder, method, targets);
        let variant = adapter.variant(&decoder);
        let gradient = gradient_of(&decoder, &variant, &fixture.examples(), &fixture.of_examples("coefficients"));
        let chosen = adapter.parameters().zip(gradient.slices()).filter(|((name, _), _)| moves(name));
        let length = norm(chosen.flat_map(|(_, values)| values).map(|value| f64::from(*value)));
        let step = 2e-3 / length;
        let slope = |step: f64| {
            let at = |step: f64| loss_at(&decoder, &adapter, moves, (&gradient, step), &fixture);
            (at(step) - at(-step)) / (2.0 * step)
        };
        // The error of a central difference is quadratic in the step: two of them cancel it.
        let extrapolated = (4.0 * slope(step) - slope(2.0 * step)) / 3.0;
        let ratio = extrapolated / length.powi(2);
        assert!((ratio - 1.0).abs() < 1e-3, "{method:?} {targets:?}: {ratio}");
    }
}

#[test]
fn every_trainable_tensor_receives_a_finite_gradient_that_is_not_zero() {
    for case in ["gemma2_lora", "gpt2_lora", "phi3_lora", "qwen3_dora_qv", "smollm3_lora", "qwen2_rslora_all"] {
        let (decoder, _) = open(case);
        let fixture = Fixture::open(case);
        for method in [AdapterMethod::Lora, AdapterMethod::Dora] {
            let adapter = disturbed(&decoder, method, &["all-linear"]);
            let variant = adapter.variant(&decoder);
            let gradient = gradient_of(&decoder, &variant, &fixture.examples(), &fixture.of_examples("coefficients"));
            assert_eq!(adapter.parameters().count(), gradient.slices().count());
            for ((name, values), part) in adapter.parameters().zip(gradient.slices()) {
                assert_eq!(values.len(), part.len(), "{case} {name}");
                let size = norm(part.iter().map(|value| f64::from(*value)));
                assert!(size.is_finite() && size > 0.0, "{case} {method:?} {name}: {size}");
            }
        }
    }
}

#[test]
fn examples_laid_together_give_the_sum_of_their_gradients() {
    for case in ["gemma3_lora", "mistral_dora_mlp", "qwen3_dora_qv"] {
        let ((decoder, variant), fixture) = (open(case), Fixture::open(case));
        let (examples, coefficients) = (fixture.examples(), fixture.of_examples("coefficients"));
        let together = gradient_of(&decoder, &variant, &examples, &coefficients);
        let mut sum = AdapterGradient::zero(&variant);
        for (example, coefficients) in examples.into_iter().zip(coefficients) {
            sum.add(&gradient_of(&decoder, &variant, &[example], &[coefficients]));
        }
        assert!(difference(&together, &sum) < 1e-5, "{case}: {}", difference(&together, &sum));
        let mut half = together.clone();
        half.scale(0.5);
        assert!((half.norm() - 0.5 * together.norm()).abs() < 1e-9 * together.norm());
    }
}

#[test]
fn rows_that_carry_no_weight_change_nothing() {
    let ((decoder, variant), fixture) = (open("gemma2_lora"), Fixture::open("gemma2_lora"));
    let (mut examples, mut coefficients) = (fixture.examples(), fixture.of_examples("coefficients"));
    // An example without weight, one with weight at its beginning only, one without targets, one as it is.
    let idle = Example { tokens: examples[1].tokens.clone(), targets: examples[1].targets.clone() };
    let mute = Example { tokens: vec![3, 4], targets: Vec::new() };
    let early = &mut coefficients[0];
    early[9..].fill(0.0);
    early[8] = 1.0;
    let zeros = vec![0.0; idle.targets.len()];
    let shorter = Example { tokens: examples[0].tokens.clone(), targets: examples[0].targets[..9].to_vec() };
    let expected = gradient_of(
        &decoder,
        &variant,
        &[shorter, examples[1].clone()],
        &[coefficients[0][..9].to_vec(), coefficients[1].clone()],
    );
    examples.insert(1, mute);
    coefficients.insert(1, Vec::new());
    examples.insert(0, idle);
    coefficients.insert(0, zeros);
    let found = gradient_of(&decoder, &variant, &examples, &coefficients);
    assert!(difference(&found, &expected) < 1e-5, "{}", difference(&found, &expected));
    let nothing = coefficients.iter().map(|values| vec![0.0; values.len()]).collect::<Vec<_>>();
    assert_eq!(gradient_of(&decoder, &variant, &examples, &nothing).norm(), 0.0);
}

#[test]
fn forward_and_back_in_one_equal_the_two_apart() {
    for case in ["gemma2_lora", "qwen3_dora_qv"] {
        let ((decoder, variant), fixture) = (open(case), Fixture::open(case));
        let (examples, coefficients) = (fixture.examples(), fixture.of_examples("coefficients"));
        let trace = Trace::forward(&decoder, &variant, &examples).unwrap();
        let scored =
            Trace::gradient(&decoder, &variant, &examples, |example, target, _, _| coefficients[example][target])
                .unwrap();
        assert_eq!(scored.log_probabilities, trace.log_probabilities());
        assert_eq!(scored.entropies, trace.entropies());
        let apart = trace.backward(&coefficients).unwrap();
        assert!(difference(&scored.gradient, &apart) < 1e-6, "{}", difference(&scored.gradient, &apart));
    }
}

/// Logits of every token of one sequence, in f64.
fn logits(decoder: &Decoder, variant: Option<&BoundAdapter>, tokens: &[u32]) -> Vec<Vec<f64>> {
    let batch = decoder.batch(&[tokens.len()], vec![variant]);
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let stream = decoder.embed(tokens, &positions, &batch.variants).unwrap();
    let stream = decoder.forward(stream, &batch, None, &mut Hooks::default()).unwrap();
    let rows = decoder.logits(&stream, &batch.variants).unwrap();
    let values = with_values(rows.model(0), <[f32]>::to_vec).unwrap();
    values.chunks_exact(decoder.config().vocab_size).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

#[test]
fn divergence_and_entropy_are_those_of_the_definition() {
    for case in ["gemma2_lora", "qwen3_dora_qv"] {
        let ((decoder, variant), fixture) = (open(case), Fixture::open(case));
        let examples = fixture.examples();
        let found = divergence(&decoder, &variant, &examples).unwrap();
        let trace = Trace::forward(&decoder, &variant, &examples).unwrap();
        for (index, example) in examples.iter().enumerate() {
            let own = logits(&decoder, Some(&variant), &example.tokens);
            let base = logits(&decoder, None, &example.tokens);
            let normal = |row: &[f64]| {
                let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                row.iter().map(|x| x - total).collect::<Vec<f64>>()
            };
            for (place, target) in example.targets.iter().enumerate() {
                let (p, q) = (normal(&own[target - 1]), normal(&base[target - 1]));
                let token = example.tokens[*target] as usize;
                let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
                let entropy: f64 = p.iter().map(|p| -p.exp() * p).sum();
                let close = |found: f64, expected: f64| {
                    assert!((found - expected).abs() < 2e-6, "{case} {index} {place}: {found} {expected}");
                };
                close(found.divergence[index][place], kl);
                close(found.policy[index][place], p[token]);
                close(found.reference[index][place], q[token]);
                close(trace.log_probabilities()[index][place], p[token]);
                close(trace.entropies()[index][place], entropy);
            }
        }
    }
}

#[test]
fn targets_and_coefficients_that_do_not_fit_are_refused() {
    let (decoder, variant) = open("qwen3_dora_qv");
    for targets in [vec![0], vec![3], vec![2, 1], vec![1, 1]] {
        let example = Example { tokens: vec![1, 2, 3], targets };
        let error = Trace::forward(&decoder, &variant, &[example]).unwrap_err();
        assert!(matches!(error, ModelError::Target { example: 0, length: 3, .. }), "{error}");
    }
    let example = Example { tokens: vec![1, 2, 3], targets: vec![1, 2] };
    for coefficients in [vec![], vec![vec![1.0]], vec![vec![1.0, 1.0], vec![1.0]]] {
        let trace = Trace::forward(&decoder, &variant, std::slice::from_ref(&example)).unwrap();
        let error = trace.backward(&coefficients).unwrap_err();
        assert!(matches!(error, ModelError::Coefficients { .. }), "{error}");
    }
    let foreign = Example { tokens: vec![1, 97], targets: vec![1] };
    assert!(matches!(Trace::forward(&decoder, &variant, &[foreign]), Err(ModelError::Token { token: 97, .. })));
}
