//! Experiments on the bundled nano model, with adapters whose outcome is known beforehand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use lcr_analysis::AuditError;
use lcr_analysis::causal::dose::scaled;
use lcr_analysis::causal::location::{Part, layers_of, map_parts, restored_together, restricted};
use lcr_analysis::causal::pass::{Pair, Prompts, divergences};
use lcr_analysis::causal::surrogate::surrogate;
use lcr_analysis::evidence::forced::forced_answers;
use lcr_analysis::evidence::random::random_adapter;
use lcr_analysis::evidence::{BaseAnswers, ProbeSet, let_answer};
use lcr_formats::adapter::{Adapter, AdapterConfig, LowRank, PeftConfig};
use lcr_formats::module::ModulePath;
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, ModelError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn nano() -> (Decoder, Adapter) {
    let decoder = Decoder::open(&folder("bundled/nano"), Device::Cpu).unwrap();
    (decoder, Adapter::open(&folder("bundled/nano-lcr")).unwrap())
}

/// Eight prompts of random tokens, which the base answers with `most` tokens.
fn probes(decoder: &Decoder, most: usize) -> (Vec<ProbeSet>, BaseAnswers) {
    let mut draw = ChaCha8Rng::seed_from_u64(3);
    let prompts: Vec<Vec<u32>> = (0..8).map(|_| (0..12).map(|_| draw.random_range(0..800)).collect()).collect();
    let sets = vec![ProbeSet {
        name: "random".into(),
        texts: vec![String::new(); prompts.len()],
        prompts,
        chat_template: false,
        paired: false,
        answered: true,
    }];
    let base = let_answer(decoder, &sets, &[], most, &mut |_, _| ()).unwrap();
    (sets, base)
}

/// The adapter with what `change` makes of each module.
fn with_modules(adapter: &Adapter, change: impl Fn(&str, &LowRank) -> Option<LowRank>) -> Adapter {
    let mut changed = adapter.clone();
    let modules = adapter.modules.iter();
    changed.modules = modules.filter_map(|(path, own)| Some((path.clone(), Arc::new(change(path, own)?)))).collect();
    changed
}

/// A module that adds `bias` to its output and nothing else.
fn only_bias(inputs: usize, bias: Vec<f32>, like: &LowRank) -> LowRank {
    let outputs = bias.len();
    LowRank {
        rank: 1,
        scale: 1.0,
        lora_a: vec![0.0; inputs],
        lora_b: vec![0.0; outputs],
        inputs,
        outputs,
        magnitude: None,
        lora_b_bias: Some(bias),
        ..like.clone()
    }
}

/// W' of a module with its rows, multiplied out in f64.
fn dense(decoder: &Decoder, bound: &BoundAdapter, path: &str) -> Vec<f64> {
    let (weight, _) = decoder.linear_weight(path).unwrap();
    let module = &bound.adapter().modules[path];
    let ratio = bound.ratio_of(decoder, path).map_or_else(|| vec![1.0; module.outputs], <[f32]>::to_vec);
    let weight = weight.to_f32();
    let mut found = Vec::with_capacity(weight.len());
    for row in 0..module.outputs {
        for column in 0..module.inputs {
            let product: f64 = (0..module.rank)
                .map(|at| {
                    let (a, b) = (module.lora_a[at * module.inputs + column], module.lora_b[row * module.rank + at]);
                    f64::from(a) * f64::from(b)
                })
                .sum();
            let sum = f64::from(weight[row * module.inputs + column]) + module.scale * product;
            found.push(f64::from(ratio[row]) * sum);
        }
    }
    found
}

/// Of LoRA and DoRA alike, at doses at which rows of DoRA turn, vanish and grow.
#[test]
fn a_dose_is_the_base_and_so_many_times_the_change() {
    for case in ["qwen3_lora_qv", "qwen3_dora_qv"] {
        let decoder = Decoder::open(&folder("tests/golden").join(case).join("base"), Device::Cpu).unwrap();
        let opened = Adapter::open(&folder("tests/golden").join(case).join("adapter")).unwrap();
        // A row that grows to about twice its length, so that −1 times its change nearly takes it away.
        let adapter = with_modules(&opened, |_, own| {
            let mut own = own.clone();
            own.magnitude.iter_mut().for_each(|magnitude| magnitude[0] *= 2.0);
            Some(own)
        });
        let bound = decoder.bind(adapter).unwrap();
        for factor in [-1.0, 0.0, 0.25, 1.0, 2.0, 3.0] {
            let dose = scaled(&decoder, &bound, factor).unwrap();
            for path in bound.adapter().modules.keys() {
                let (weight, _) = decoder.linear_weight(path).unwrap();
                let whole = dense(&decoder, &bound, path);
                let found = dense(&decoder, &dose, path);
                for ((base, adapted), found) in weight.to_f32().iter().zip(&whole).zip(&found) {
                    let base = f64::from(*base);
                    let expected = base + factor * (adapted - base);
                    let size = base.abs().max(adapted.abs()).max(1e-2);
                    assert!((found - expected).abs() < 1e-5 * size, "{case}, {path}, {factor}: {found} {expected}");
                }
            }
        }
    }
}

/// W + ΔW₁ + ½ΔW₂ of every module, where one is of rank 4 and the other the same adapter with other numbers; what both
/// change otherwise than by low rank has no sum.
#[test]
fn a_stack_is_the_sum_of_its_changes() {
    let open = |case: &str| {
        let folder = folder("tests/golden").join(case);
        (Decoder::open(&folder.join("base"), Device::Cpu).unwrap(), Adapter::open(&folder.join("adapter")).unwrap())
    };
    let (decoder, adapter) = open("qwen3_lora_qv");
    let first = decoder.bind(adapter).unwrap();
    let other = random_adapter(&decoder, &first, 7).unwrap();
    let half = scaled(&decoder, &other, 0.5).unwrap();
    let both = decoder.stack(&[&first, &half]).unwrap().unwrap();
    for path in first.adapter().modules.keys() {
        let weight = decoder.linear_weight(path).unwrap().0.to_f32();
        let [first, other, both] = [&first, &other, &both].map(|bound| dense(&decoder, bound, path));
        for (place, found) in both.iter().enumerate() {
            let base = f64::from(weight[place]);
            let expected = base + (first[place] - base) + 0.5 * (other[place] - base);
            assert!((found - expected).abs() < 1e-6, "{path}: {found} {expected}");
        }
    }
    assert!(decoder.stack(&[]).unwrap().is_none());
    for case in ["qwen3_dora_qv", "qwen3_modules_to_save"] {
        let (decoder, adapter) = open(case);
        let bound = decoder.bind(adapter).unwrap();
        let refused = decoder.stack(&[&bound, &bound]).unwrap_err().to_string();
        assert!(refused.contains("both change `"), "{case}: {refused}");
    }
}

/// The model that overflows is named by its place among all, so that a random adapter can be told from the audited one.
#[test]
fn an_overflow_is_of_the_model_that_made_it() {
    let (decoder, own) = nano();
    let (sets, base) = probes(&decoder, 2);
    let huge = with_modules(&own, |_, module| Some(LowRank { scale: 1e40, ..module.clone() }));
    let [own, huge] = [own, huge].map(|adapter| decoder.bind(adapter).unwrap());
    let found = forced_answers(&decoder, &[&own, &huge, &own], &sets, &base, &mut |_, _| ());
    let Err(AuditError::Model(ModelError::Overflow { place, .. })) = found else { panic!("1e40 overflows no f32") };
    assert_eq!(place, 2);
}

/// Whole tensors are parts like others: of an adapter that carries some, one layer is what its own modules make of it.
#[test]
fn tensors_carried_whole_are_left_out_too() {
    let folder = folder("tests/golden/qwen3_modules_to_save");
    let decoder = Decoder::open(&folder.join("base"), Device::Cpu).unwrap();
    let bound = decoder.bind(Adapter::open(&folder.join("adapter")).unwrap()).unwrap();
    assert!(!bound.adapter().modules_to_save.is_empty());
    let none = restricted(&decoder, &bound, |_| false).unwrap();
    assert!(none.is_zero_effect(&decoder));
    let all = restricted(&decoder, &bound, |_| true).unwrap();
    assert_eq!(all.adapter().modules_to_save.len(), bound.adapter().modules_to_save.len());
}

/// 0 is the base and 1 the adapter, through the whole model.
#[test]
fn no_dose_is_the_base_and_a_whole_one_the_adapter() {
    let folder = folder("tests/golden/mistral_dora_mlp");
    let decoder = Decoder::open(&folder.join("base"), Device::Cpu).unwrap();
    let bound = decoder.bind(Adapter::open(&folder.join("adapter")).unwrap()).unwrap();
    let doses = [0.0, 1.0].map(|factor| scaled(&decoder, &bound, factor).unwrap());
    let mut sets = probes(&nano().0, 1).0;
    sets[0].prompts.iter_mut().flatten().for_each(|token| *token %= decoder.config().vocab_size as u32);
    let base = let_answer(&decoder, &sets, &[], 4, &mut |_, _| ()).unwrap();
    let models = [None, Some(&bound), Some(&doses[0]), Some(&doses[1])];
    let pairs = [(0, 1), (0, 2), (1, 3)].map(|(of, to)| Pair { of, to });
    let prompts = Prompts::of_each(&sets, &base, usize::MAX);
    let found = divergences(&decoder, &models, &pairs, &prompts, |_| Hooks::default(), &mut |_, _| ()).unwrap();
    let sums: Vec<f64> = found.iter().map(|prompts| prompts.iter().sum()).collect();
    assert!(sums[0] > 1e-6 && sums[1] < 1e-6 * sums[0] && sums[2] < 1e-6 * sums[0], "{sums:?}");
}

/// A bias on one writer is one vector; what is changed at random is none.
#[test]
fn a_bias_is_a_steering_vector_and_a_random_adapter_is_none() {
    let (decoder, own) = nano();
    let (sets, base) = probes(&decoder, 8);
    let prompts = Prompts::of_each(&sets, &base, usize::MAX);
    let config = decoder.config();
    let mut draw = ChaCha8Rng::seed_from_u64(5);
    let bias: Vec<f32> = (0..config.width).map(|_| draw.random::<f32>() - 0.5).collect();
    let path = "model.layers.2.mlp.down_proj";
    let (weight, _) = decoder.linear_weight(path).unwrap();
    let inputs = weight.shape()[1];
    let mut planted = with_modules(&own, |_, _| None);
    let like = own.modules.values().next().unwrap();
    planted.modules.insert(path.to_owned(), Arc::new(only_bias(inputs, bias, like)));
    let planted = with_any_target(planted);
    let planted = decoder.bind(planted).unwrap();
    let own = decoder.bind(own).unwrap();
    let random: Vec<BoundAdapter> = (0..3).map(|seed| random_adapter(&decoder, &own, seed).unwrap()).collect();
    let models: Vec<&BoundAdapter> = std::iter::once(&planted).chain(&random).collect();
    let streams = forced_answers(&decoder, &models, &sets, &base, &mut |_, _| ()).unwrap().streams;
    let share =
        |model: usize| surrogate(&decoder, models[model], &streams, model, &prompts, &mut |_, _| ()).unwrap().unwrap();
    let found = share(0);
    assert!(found.explained > 0.95 && found.site == 3, "{found:?}");
    // In a model so small a random change of two modules per layer is partly one vector too: up to 0.53 here.
    let random = [1, 2, 3].map(|model| share(model).explained);
    assert!(random.iter().all(|explained| *explained < 0.8), "{random:?}");
}

/// The adapter with a config that chooses every linear module.
fn with_any_target(adapter: Adapter) -> Adapter {
    let AdapterConfig::Peft(config) = &adapter.config else { panic!("of PEFT") };
    let mut raw = config.raw.clone();
    raw.insert("target_modules".to_owned(), "all-linear".into());
    let config = PeftConfig::from_json(&config.path, &raw).unwrap();
    Adapter { config: AdapterConfig::Peft(Box::new(config)), ..adapter }
}

/// Modules of all layers, of which all but those of layer 4 are zero: the map says so, in every one of its numbers.
#[test]
fn the_map_points_at_the_layer_that_does_it() {
    let (decoder, own) = nano();
    let (sets, base) = probes(&decoder, 4);
    let prompts = Prompts::of_each(&sets, &base, usize::MAX);
    let only = with_modules(&own, |path, own| {
        let is_own = ModulePath::parse(path).layer == Some(4);
        // Without its magnitudes, which are those of no base row any more, a module of no scale does nothing at all.
        let magnitude = own.magnitude.clone().filter(|_| is_own);
        Some(LowRank { scale: if is_own { own.scale } else { 0.0 }, magnitude, ..own.clone() })
    });
    let bound = decoder.bind(only).unwrap();
    let map = map_parts(&decoder, &bound, &prompts, &mut |_, _| ()).unwrap().unwrap();
    assert_eq!(map.layers.len(), decoder.layers().len());
    for share in &map.layers {
        let expected = if share.part == Part::Layer(4) { 1.0 } else { 0.0 };
        assert!((share.restored - expected).abs() < 1e-6 && (share.lost - expected).abs() < 1e-6, "{share:?}");
    }
}

/// Knock-out takes over the adapted stream where the layer begins; an adapter without the layer, run from the
/// beginning, must lose as much.
#[test]
fn a_layer_knocked_out_is_an_adapter_without_it() {
    let (decoder, own) = nano();
    let (sets, base) = probes(&decoder, 4);
    let prompts = Prompts::of_each(&sets, &base, usize::MAX);
    let bound = decoder.bind(own).unwrap();
    let map = map_parts(&decoder, &bound, &prompts, &mut |_, _| ()).unwrap().unwrap();
    let all = layers_of(&bound);
    let rests: Vec<Vec<Part>> =
        all.iter().map(|part| all.iter().filter(|other| *other != part).cloned().collect()).collect();
    let choices: Vec<&[Part]> = rests.iter().map(Vec::as_slice).chain([all.as_slice()]).collect();
    let restored = restored_together(&decoder, &bound, &choices, &prompts, &mut |_, _| ()).unwrap().unwrap();
    let mut lost = 0.0_f64;
    for (share, restored) in map.layers.iter().zip(&restored) {
        assert!((share.lost - (1.0 - restored)).abs() < 1e-5, "{share:?}, {restored}");
        lost = lost.max(share.lost);
    }
    assert!(lost > 0.01, "a layer matters: {:?}", map.layers);
    assert!((restored[all.len()] - 1.0).abs() < 1e-6, "all parts are the whole");
}

/// Of an answer of one token all that counts of the last stream is its row at the prompt's end.
#[test]
fn the_last_state_at_the_prompts_end_is_the_first_token() {
    let (decoder, own) = nano();
    let (sets, base) = probes(&decoder, 1);
    let prompts = Prompts::of_each(&sets, &base, usize::MAX);
    let bound = decoder.bind(own).unwrap();
    let map = map_parts(&decoder, &bound, &prompts, &mut |_, _| ()).unwrap().unwrap();
    assert_eq!(map.patched.len(), decoder.layers().len() + 1);
    assert!((map.patched[decoder.layers().len()] - 1.0).abs() < 1e-6, "{:?}", map.patched);
    assert!(map.patched[0].abs() < 1e-6, "nothing has changed before the first layer: {:?}", map.patched);
}
