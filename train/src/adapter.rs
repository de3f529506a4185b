//! An adapter whose factors move: LoRA, rsLoRA or DoRA on chosen modules, in f32, in the layout that PEFT reads.
//!
//! It starts as PEFT starts one (A uniform in ±1/√inputs, B zero, DoRA's m the row norms of the base), or from a
//! folder. Its parameters are flat slices in a fixed order for the optimiser to step; [`TrainableAdapter::variant`]
//! turns what they are now into something the decoder runs, without looking at a file again. Of DoRA's norms the part
//! that no step changes, ‖W_i‖², is computed once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lcr_formats::adapter::{
    Adapter, AdapterConfig, AdapterError, Coverage, LowRank, ModuleKind, PeftConfig, ScalingRule, TargetModule,
};
use lcr_formats::checkpoint::Dtype;
use lcr_formats::module::ModulePath;
use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What PEFT writes before a module's path.
const PREFIX: &str = "base_model.model.";
/// Stands for every linear layer but the output head.
const ALL_LINEAR: &str = "all-linear";

/// What kind of change is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterMethod {
    /// s·BA with s = alpha/rank (Hu et al. 2021).
    Lora,
    /// s·BA with s = alpha/√rank (Kalajdzievski 2023).
    Rslora,
    /// Direction by s·BA, s = alpha/rank, and length m of every row apart (Liu et al. 2024).
    Dora,
}

/// A new adapter. The defaults are those of the reference run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterOptions {
    /// Kind of change.
    pub method: AdapterMethod,
    /// Inner dimension of BA.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Names of modules: whole paths, or their ends after a dot; or `all-linear` alone.
    pub target_modules: Vec<String>,
    /// Seed of A.
    pub seed: u64,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        let target_modules = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
        Self { method: AdapterMethod::Dora, rank: 4, alpha: 8.0, target_modules, seed: 0 }
    }
}

/// Why an adapter cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainableError {
    /// A number outside its range.
    #[error("`{field}` is {found}: {needed} is needed")]
    Option {
        /// The option.
        field: &'static str,
        /// Its value.
        found: f64,
        /// What is accepted.
        needed: &'static str,
    },
    /// No target at all.
    #[error("`target_modules` is empty. Name some of: {available}; or `all-linear`")]
    NoTargets {
        /// Last parts of the names of the model's linear modules.
        available: String,
    },
    /// A target that matches no module.
    #[error(
        "target module `{target}` is the name of no linear module of this model. It has: {available}; or `all-linear` \
         alone"
    )]
    UnknownTarget {
        /// The target.
        target: String,
        /// Last parts of the names of the model's linear modules.
        available: String,
    },
    /// A part of an adapter that is not trained here.
    #[error(
        "{path} holds {found}, which the trainer does not move. Start from an adapter of lora_A, lora_B and magnitudes \
         alone"
    )]
    Untrained {
        /// File of the adapter.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The adapter's files.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The base.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// An adapter in training.
#[derive(Debug, Clone)]
pub struct TrainableAdapter {
    adapter: Adapter,
    coverage: Coverage,
    /// ‖W_i‖² of DoRA modules, by path.
    squares: BTreeMap<String, Vec<f64>>,
}

impl TrainableAdapter {
    /// A fresh adapter: it changes nothing until the first step.
    pub fn new(decoder: &Decoder, options: &AdapterOptions) -> Result<Self, TrainableError> {
        check_numbers(options)?;
        let targets = targets(decoder, &options.target_modules)?;
        let squares = match options.method {
            AdapterMethod::Dora => squares_of(decoder, targets.iter().map(|target| target.path.as_str())),
            AdapterMethod::Lora | AdapterMethod::Rslora => BTreeMap::new(),
        };
        let modules: BTreeMap<String, Arc<LowRank>> = targets
            .iter()
            .map(|target| {
                let magnitude =
                    squares.get(&target.path).map(|squares| first_magnitude(decoder, &target.path, squares));
                (target.path.clone(), Arc::new(fresh_module(target, options, magnitude)))
            })
            .collect();
        let raw = config_json(decoder, options, &targets);
        let config = PeftConfig::from_json(Path::new("adapter_config.json"), &raw)?;
        let adapter = Adapter::unsaved(config, modules);
        let coverage = decoder.bind(adapter.clone())?.coverage().clone();
        Ok(Self { adapter, coverage, squares })
    }

    /// Goes on from an adapter in a folder, its files checked against the base.
    ///
    /// Refused where it holds whole tensors, biases or changes of embeddings: these would stay as they are without a
    /// word.
    pub fn open(decoder: &Decoder, folder: &Path) -> Result<Self, TrainableError> {
        let mut adapter = Adapter::open(folder)?;
        let refuse = |found: String| Err(TrainableError::Untrained { path: adapter.path.clone(), found });
        if let Some(name) = adapter.modules_to_save.keys().next() {
            return refuse(format!("the whole tensor `{name}`"));
        }
        if let Some(name) = adapter.embeddings.keys().next() {
            return refuse(format!("a change of the embedding `{name}`"));
        }
        if let Some(name) = adapter.biases.keys().next() {
            return refuse(format!("a bias of `{name}`"));
        }
        if let Some((name, _)) = adapter.modules.iter().find(|(_, module)| module.lora_b_bias.is_some()) {
            return refuse(format!("a bias of lora_B at `{name}`"));
        }
        if adapter.modules.is_empty() {
            return refuse("no low-rank module".to_owned());
        }
        let coverage = decoder.bind(adapter.clone())?.coverage().clone();
        if let Some(name) = coverage.set_aside.first() {
            return refuse(format!("`{name}` of a classification head"));
        }
        if let Some(table) = coverage.vocabulary.first() {
            return refuse(format!("`{}` over a vocabulary of another size than the base's", table.tensor));
        }
        // What follows is no longer what the file holds.
        (adapter.path, adapter.bytes, adapter.sha256) = (PathBuf::new(), 0, String::new());
        let decomposed = adapter.modules.iter().filter(|(_, module)| module.magnitude.is_some());
        let squares = squares_of(decoder, decomposed.map(|(path, _)| path.as_str()));
        Ok(Self { adapter, coverage, squares })
    }

    /// Writes `base_model_name_or_path` as `name` from now on, where the folder that the base was read from says
    /// nothing to a reader.
    pub fn name_base(&mut self, name: &str) {
        if let AdapterConfig::Peft(config) = &mut self.adapter.config {
            config.base_model = Some(name.to_owned());
            config.raw.insert("base_model_name_or_path".to_owned(), json!(name));
        }
    }

    /// The adapter as it is now; it has no path and no digest.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// What the decoder runs: a copy of the parameters as they are now, DoRA's norms brought up to date.
    ///
    /// For DoRA this reads the weights of the adapted modules once.
    pub fn variant(&self, decoder: &Decoder) -> BoundAdapter {
        BoundAdapter::moved(decoder, self.adapter.clone(), self.coverage.clone(), &self.squares)
    }

    /// Numbers that are trained.
    pub fn parameter_count(&self) -> usize {
        self.adapter.modules.values().map(|module| module.parameters()).sum()
    }

    /// The parameters in their fixed order, by their names in PEFT's file: modules by path, of each A (rank × inputs),
    /// B (outputs × rank) and, for DoRA, m (outputs).
    pub fn parameters(&self) -> impl Iterator<Item = (String, &[f32])> {
        self.adapter.modules.iter().flat_map(|(path, module)| {
            let tensors = [Some(&module.lora_a), Some(&module.lora_b), module.magnitude.as_ref()];
            names(path).into_iter().zip(tensors).filter_map(|(name, values)| Some((name, values?.as_slice())))
        })
    }

    /// The same, to be stepped.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = (String, &mut [f32])> {
        self.adapter.modules.iter_mut().flat_map(|(path, module)| {
            let module = Arc::make_mut(module);
            let tensors = [Some(&mut module.lora_a), Some(&mut module.lora_b), module.magnitude.as_mut()];
            names(path).into_iter().zip(tensors).filter_map(|(name, values)| Some((name, values?.as_mut_slice())))
        })
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT has them.
    pub fn save(&self, folder: &Path) -> Result<(), TrainableError> {
        Ok(self.adapter.save_peft(folder)?)
    }
}

/// Names of a module's tensors in PEFT's file: A, B, m.
fn names(path: &str) -> [String; 3] {
    ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map(|name| format!("{PREFIX}{path}.{name}"))
}

fn check_numbers(options: &AdapterOptions) -> Result<(), TrainableError> {
    let wrong = |field, found, needed| Err(TrainableError::Option { field, found, needed });
    if options.rank == 0 {
        return wrong("rank", 0.0, "1 or more");
    }
    if !(options.alpha.is_finite() && options.alpha > 0.0) {
        return wrong("alpha", options.alpha, "a number above 0");
    }
    Ok(())
}

fn is_linear(kind: ModuleKind) -> bool {
    matches!(kind, ModuleKind::Linear | ModuleKind::Conv1d)
}

/// The modules that PEFT would choose: exact names, ends of names after a dot, or all linear ones but the head.
fn targets(decoder: &Decoder, wanted: &[String]) -> Result<Vec<TargetModule>, TrainableError> {
    let mut modules = decoder.target_modules();
    modules.retain(|module| is_linear(module.kind) || module.kind == ModuleKind::Head);
    let available = || {
        let mut names: Vec<&str> = modules.iter().map(|module| ModulePath::parse(&module.path).kind).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    if wanted.is_empty() {
        return Err(TrainableError::NoTargets { available: available() });
    }
    let selects = |target: &String, path: &str| {
        path == target || path.strip_suffix(target.as_str()).is_some_and(|before| before.ends_with('.'))
    };
    if let [keyword] = wanted
        && keyword.eq_ignore_ascii_case(ALL_LINEAR)
    {
        modules.retain(|module| is_linear(module.kind));
        return Ok(modules);
    }
    if let Some(target) = wanted.iter().find(|target| !modules.iter().any(|module| selects(target, &module.path))) {
        return Err(TrainableError::UnknownTarget { target: target.clone(), available: available() });
    }
    modules.retain(|module| wanted.iter().any(|target| selects(target, &module.path)));
    Ok(modules)
}

fn squares_of<'a>(decoder: &Decoder, paths: impl Iterator<Item = &'a str>) -> BTreeMap<String, Vec<f64>> {
    paths.filter_map(|path| Some((path.to_owned(), decoder.row_squares(path)?))).collect()
}

/// ‖W_i‖ rounded through the dtype of W, which is what PEFT computes it in.
fn first_magnitude(decoder: &Decoder, path: &str, squares: &[f64]) -> Vec<f32> {
    let dtype = decoder.linear_weight(path).map_or(Dtype::F32, |(weight, _)| weight.dtype());
    let round = |norm: f64| match dtype {
        Dtype::Bf16 => half::bf16::from_f64(norm).to_f32(),
        Dtype::F16 => half::f16::from_f64(norm).to_f32(),
        Dtype::F32 | Dtype::Other(..) => norm as f32,
    };
    squares.iter().map(|square| round(square.sqrt())).collect()
}

fn fresh_module(target: &TargetModule, options: &AdapterOptions, magnitude: Option<Vec<f32>>) -> LowRank {
    let (rank, inputs, outputs) = (options.rank, target.inputs, target.outputs);
    let rule = scaling_rule(options.method);
    let present = names(&target.path).into_iter().take(2 + usize::from(magnitude.is_some())).collect();
    LowRank {
        rank,
        alpha: options.alpha,
        scale: rule.scale(options.alpha, rank),
        scaling_rule: rule,
        lora_a: uniform(options.seed, &target.path, rank * inputs, (inputs as f64).sqrt().recip()),
        lora_b: vec![0.0; outputs * rank],
        inputs,
        outputs,
        magnitude,
        lora_b_bias: None,
        tensor_names: present,
    }
}

fn scaling_rule(method: AdapterMethod) -> ScalingRule {
    match method {
        AdapterMethod::Rslora => ScalingRule::AlphaOverRootRank,
        AdapterMethod::Lora | AdapterMethod::Dora => ScalingRule::AlphaOverRank,
    }
}

/// `count` numbers uniform in ±bound. The stream follows from seed and path: which other modules are adapted changes
/// nothing.
fn uniform(seed: u64, path: &str, count: usize, bound: f64) -> Vec<f32> {
    let digest = Sha256::new().chain_update(b"lora_A").chain_update(seed.to_le_bytes()).chain_update(path).finalize();
    let mut generator = ChaCha12Rng::from_seed(digest.into());
    let mut draw = || f64::from(generator.next_u32()) / f64::from(u32::MAX);
    (0..count).map(|_| ((2.0 * draw() - 1.0) * bound) as f32).collect()
}

/// `adapter_config.json` as PEFT writes it. `all-linear` becomes the names that it stands for, as it does there.
fn config_json(decoder: &Decoder, options: &AdapterOptions, targets: &[TargetModule]) -> Map<String, Value> {
    let mut names = options.target_modules.clone();
    if names.iter().any(|name| name.eq_ignore_ascii_case(ALL_LINEAR)) {
        names = targets.iter().map(|target| ModulePath::parse(&target.path).kind.to_owned()).collect();
    }
    names.sort();
    names.dedup();
    let transposed = targets.iter().any(|target| target.kind == ModuleKind::Conv1d);
    let fields = [
        ("alpha_pattern", json!({})),
        ("base_model_name_or_path", json!(decoder.checkpoint().folder().display().to_string())),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(transposed)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", json!(true)),
        ("lora_alpha", json!(options.alpha)),
        ("lora_bias", json!(false)),
        ("lora_dropout", json!(0.0)),
        ("modules_to_save", Value::Null),
        ("peft_type", json!("LORA")),
        ("r", json!(options.rank)),
        ("rank_pattern", json!({})),
        ("target_modules", json!(names)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(options.method == AdapterMethod::Dora)),
        ("use_rslora", json!(options.method == AdapterMethod::Rslora)),
    ];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn golden(case: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case)
    }

    fn decoder(case: &str) -> Decoder {
        Decoder::open(&golden(case).join("base"), Device::Cpu).unwrap()
    }

    fn options(method: AdapterMethod, targets: &[&str]) -> AdapterOptions {
        let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
        AdapterOptions { method, target_modules, ..AdapterOptions::default() }
    }

    fn values(adapter: &TrainableAdapter) -> Vec<(String, Vec<f32>)> {
        adapter.parameters().map(|(name, values)| (name, values.to_vec())).collect()
    }

    #[test]
    fn a_fresh_adapter_changes_nothing_and_has_the_moments_of_its_distribution() {
        for case in ["qwen3_dora_qv", "gpt2_lora"] {
            let decoder = decoder(case);
            for method in [AdapterMethod::Lora, AdapterMethod::Rslora, AdapterMethod::Dora] {
                let adapter = TrainableAdapter::new(&decoder, &options(method, &["all-linear"])).unwrap();
                assert!(adapter.variant(&decoder).is_zero_effect(&decoder), "{case} {method:?}");
            }
        }
        let draws = uniform(3, "some.module", 20_000, 0.25);
        let mean = draws.iter().map(|x| f64::from(*x)).sum::<f64>() / 2e4;
        let square = draws.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.004 && (square - 0.25_f64.powi(2) / 3.0).abs() < 0.0005, "{mean} {square}");
        assert!(draws.iter().all(|x| x.abs() <= 0.25));
    }

    #[test]
    fn seeds_and_modules_have_streams_of_their_own() {
        let decoder = decoder("qwen3_dora_qv");
        let make = |seed, targets: &[&str]| {
            let options = AdapterOptions { seed, ..options(AdapterMethod::Dora, targets) };
            values(&TrainableAdapter::new(&decoder, &options).unwrap())
        };
        assert_eq!(make(1, &["q_proj"]), make(1, &["q_proj"]));
        assert_ne!(make(1, &["q_proj"]), make(2, &["q_proj"]));
        let both = make(1, &["v_proj", "q_proj"]);
        assert!(make(1, &["q_proj"]).iter().all(|own| both.contains(own)));
    }

    #[test]
    fn what_is_saved_is_read_back_equal() {
        for (case, method) in [("qwen3_dora_qv", AdapterMethod::Dora), ("gpt2_lora", AdapterMethod::Rslora)] {
            let decoder = decoder(case);
            let mut adapter = TrainableAdapter::new(&decoder, &options(method, &["all-linear"])).unwrap();
            for (_, values) in adapter.parameters_mut() {
                values.iter_mut().enumerate().for_each(|(index, value)| *value += 0.01 * (index as f32).cos());
            }
            let folder = tempfile::tempdir().unwrap();
            adapter.save(folder.path()).unwrap();
            let read = TrainableAdapter::open(&decoder, folder.path()).unwrap();
            assert_eq!(values(&read), values(&adapter));
            assert_eq!(read.adapter().modules, adapter.adapter().modules);
            assert_eq!(read.adapter().method(), adapter.adapter().method());
            assert_eq!(read.parameter_count(), adapter.parameter_count());
        }
    }

    #[test]
    fn norms_brought_up_to_date_are_those_of_a_new_binding() {
        for case in ["qwen3_dora_qv", "gpt2_lora"] {
            let decoder = decoder(case);
            let mut adapter = TrainableAdapter::new(&decoder, &options(AdapterMethod::Dora, &["all-linear"])).unwrap();
            adapter.parameters_mut().for_each(|(_, values)| values.iter_mut().for_each(|value| *value += 0.03));
            let variant = adapter.variant(&decoder);
            let bound = decoder.bind(adapter.adapter().clone()).unwrap();
            for path in adapter.adapter().modules.keys() {
                assert_eq!(variant.ratio_of(&decoder, path), bound.ratio_of(&decoder, path), "{case} {path}");
            }
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let decoder = decoder("qwen3_dora_qv");
        let refused = |options: &AdapterOptions| TrainableAdapter::new(&decoder, options).unwrap_err().to_string();
        let unknown = refused(&options(AdapterMethod::Lora, &["q_proj", "c_attn"]));
        assert!(unknown.contains("`c_attn`") && unknown.contains("gate_proj, k_proj"), "{unknown}");
        assert!(refused(&options(AdapterMethod::Lora, &["proj"])).contains("`proj`"));
        assert!(refused(&options(AdapterMethod::Lora, &[])).contains("is empty"));
        let zero = AdapterOptions { rank: 0, ..AdapterOptions::default() };
        assert!(refused(&zero).contains("`rank` is 0"));
        let endless = AdapterOptions { alpha: f64::INFINITY, ..AdapterOptions::default() };
        assert!(refused(&endless).contains("`alpha` is inf"));
    }

    #[test]
    fn adapters_with_parts_that_do_not_move_are_refused() {
        let decoder = decoder("qwen3_modules_to_save");
        let error = TrainableAdapter::open(&decoder, &golden("qwen3_modules_to_save").join("adapter")).unwrap_err();
        assert!(error.to_string().contains("the whole tensor `lm_head.weight`"), "{error}");
    }
}
