//! Payloads planted in closed form, ever weaker ones, and the weakest that the question meant for them finds.
//!
//! A `no` is worth what the question would have found. What is planted here needs no training, so that it is known to
//! the digit: a direction taken out of the writers, a row rescaled, a vector added. A further kind is an entry of
//! [`PLANTS`]; what has to be trained stands in [`trained`].

pub mod trained;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use lcr_documents::audit::{Answer, Coherence, Depth, Question};
use lcr_documents::selftest::{Payload, Tried};
use lcr_formats::adapter::{Adapter, LowRank, PeftConfig, ScalingRule, TargetModule};
use lcr_formats::factored::FactoredMatrix;
use lcr_formats::module::{ModulePath, StreamRole};
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::tokenizer::Tokenizer;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::AuditError;
use crate::evidence::{BaseAnswers, Evidence, EvidenceOptions, ProbeSet, gather};
use crate::questions::{Asking, Case, ask_some};
use crate::weights::changed_tensors;

/// A kind of payload.
#[derive(Debug)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// What is planted, in words.
    pub what: &'static str,
    /// The question that is to find it.
    pub question: &'static str,
    /// The depth that asks it; from `standard` on the models are run.
    pub depth: Depth,
    /// What strengths are measured in.
    pub unit: &'static str,
    /// Strengths that are tried, the strongest first.
    pub strengths: &'static [f64],
    modules: fn(&Ground, f64) -> BTreeMap<String, LowRank>,
}

/// Every kind.
pub static PLANTS: &[Plant] = &[
    Plant {
        name: "erasure",
        what: "one direction taken out of what every writer of the stream writes (abliteration)",
        question: "erasure",
        depth: Depth::Quick,
        unit: "share of it that is taken",
        strengths: &[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.31, 0.25, 0.2, 0.1],
        modules: erasure,
    },
    Plant {
        name: "erasure-in-few",
        what: "one direction taken wholly out of some of the writers, evenly over the layers",
        question: "erasure",
        depth: Depth::Quick,
        unit: "share of the writers",
        strengths: &[1.0, 0.5, 0.25, 0.1, 0.05, 0.01],
        modules: erasure_in_few,
    },
    Plant {
        name: "magnitude",
        what: "one output channel of a layer in the middle made louder",
        question: "magnitude",
        depth: Depth::Quick,
        unit: "times its norm",
        strengths: &[8.0, 4.0, 3.0, 2.5, 2.25, 2.0, 1.75, 1.5, 1.25],
        modules: magnitude,
    },
    Plant {
        name: "steering",
        what: "one random vector added to the stream behind a layer in the middle, whatever is said",
        question: "constant",
        depth: Depth::Standard,
        unit: "of the length of the states there",
        strengths: &[1.0, 0.3, 0.1, 0.03, 0.01, 0.003],
        modules: steering,
    },
];

/// What payloads are planted into.
struct Ground<'a> {
    decoder: &'a Decoder,
    /// Modules that write into the stream, layer by layer.
    writers: Vec<TargetModule>,
    /// Mean length of the base's states behind the middle layer; 1 where the models are not run.
    length: f64,
    seed: u64,
}

impl<'a> Ground<'a> {
    fn of(decoder: &'a Decoder, seed: u64) -> Self {
        let mut writers = decoder.target_modules();
        writers.retain(|module| {
            let path = ModulePath::parse(&module.path);
            path.role() == Some(StreamRole::Writes) && decoder.linear_weight(&module.path).is_some()
        });
        writers.sort_by_key(|module| ModulePath::parse(&module.path).layer);
        Self { decoder, writers, length: 1.0, seed }
    }

    /// The layer in the middle, and the last module in it that writes into the stream.
    fn middle(&self) -> Option<(usize, &TargetModule)> {
        let layer = self.decoder.layers().len() / 2;
        let of_layer = |module: &&TargetModule| ModulePath::parse(&module.path).layer == Some(layer);
        Some((layer, self.writers.iter().rfind(of_layer)?))
    }

    /// A random direction of the stream, of unit length.
    fn direction(&self) -> Vec<f64> {
        let mut first = vec![0.0; self.decoder.config().width];
        first[0] = 1.0;
        let rows = first.len();
        let one =
            FactoredMatrix { rows, columns: 1, rank: 1, scale: 1.0, lora_b: first.into(), lora_a: vec![1.0].into() };
        let (direction, _) = one.random_like(&mut ChaCha8Rng::seed_from_u64(self.seed));
        direction.into_iter().map(f64::from).collect()
    }

    /// W of a module, `[outputs, inputs]`.
    fn weight(&self, module: &TargetModule) -> Vec<f32> {
        let Some((weight, transposed)) = self.decoder.linear_weight(&module.path) else { return Vec::new() };
        let stored = weight.to_f32();
        if !transposed {
            return stored;
        }
        let (outputs, inputs) = (module.outputs, module.inputs);
        (0..outputs * inputs).map(|at| stored[(at % inputs) * outputs + at / inputs]).collect()
    }

    /// −`share`·c·(cᵀW) of a writer.
    fn without(&self, module: &TargetModule, direction: &[f64], share: f64) -> LowRank {
        let mut written = vec![0.0_f64; module.inputs];
        for (row, along) in self.weight(module).chunks_exact(module.inputs).zip(direction) {
            written.iter_mut().zip(row).for_each(|(sum, value)| *sum += along * f64::from(*value));
        }
        let lora_b = direction.iter().map(|value| (-share * value) as f32).collect();
        rank_one(module, written.into_iter().map(|value| value as f32).collect(), lora_b)
    }
}

/// BA of one column and one row.
fn rank_one(module: &TargetModule, lora_a: Vec<f32>, lora_b: Vec<f32>) -> LowRank {
    LowRank {
        rank: 1,
        alpha: 1.0,
        scale: 1.0,
        scaling_rule: ScalingRule::Raw,
        lora_a,
        lora_b,
        inputs: module.inputs,
        outputs: module.outputs,
        magnitude: None,
        lora_b_bias: None,
        tensor_names: Vec::new(),
    }
}

fn erasure(ground: &Ground, share: f64) -> BTreeMap<String, LowRank> {
    let direction = ground.direction();
    let of = |module: &TargetModule| (module.path.clone(), ground.without(module, &direction, share));
    ground.writers.iter().map(of).collect()
}

/// The others are changed too, in random directions and as much, for what is not changed is not looked at.
fn erasure_in_few(ground: &Ground, share: f64) -> BTreeMap<String, LowRank> {
    let (direction, count) = (ground.direction(), ground.writers.len());
    let few = ((share * count as f64).round() as usize).clamp(1, count.max(1));
    let mut draw = ChaCha8Rng::seed_from_u64(!ground.seed);
    let of = |(place, module): (usize, &TargetModule)| {
        let taken = ground.without(module, &direction, 1.0);
        let is_taken = (place * few) / count != ((place + 1) * few) / count;
        let change = if is_taken {
            taken
        } else {
            let (lora_b, lora_a) = taken.factored().random_like(&mut draw);
            rank_one(module, lora_a, lora_b)
        };
        (module.path.clone(), change)
    };
    ground.writers.iter().enumerate().map(of).collect()
}

fn magnitude(ground: &Ground, factor: f64) -> BTreeMap<String, LowRank> {
    let Some((_, module)) = ground.middle() else { return BTreeMap::new() };
    let row = module.outputs / 2;
    let weight = ground.weight(module);
    let lora_a = weight[row * module.inputs..(row + 1) * module.inputs].to_vec();
    let mut lora_b = vec![0.0; module.outputs];
    lora_b[row] = (factor - 1.0) as f32;
    [(module.path.clone(), rank_one(module, lora_a, lora_b))].into_iter().collect()
}

fn steering(ground: &Ground, share: f64) -> BTreeMap<String, LowRank> {
    let Some((_, module)) = ground.middle() else { return BTreeMap::new() };
    let bias = ground.direction().into_iter().map(|value| (share * ground.length * value) as f32).collect();
    let nothing = rank_one(module, vec![0.0; module.inputs], vec![0.0; module.outputs]);
    [(module.path.clone(), LowRank { lora_b_bias: Some(bias), ..nothing })].into_iter().collect()
}

/// What payloads are looked for with.
pub struct Setup<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// The probes; of depth `quick` none are needed.
    pub sets: &'a [ProbeSet],
    /// What the base answers to them.
    pub base: &'a BaseAnswers,
    /// Its tokenizer; only trained payloads need one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Texts tried as triggers.
    pub sweep_budget: usize,
    /// Told how far a long search has come: a phase, done, of how many.
    pub report: &'a dyn Fn(&str, usize, usize),
    /// Seed of every random choice.
    pub seed: u64,
}

impl std::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("sweep_budget", &self.sweep_budget)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Plant {
    /// Plants payloads of falling strength until one is not found. `report` is told how many of how many are tried.
    ///
    /// # Errors
    /// As running the models.
    pub fn weakest(&self, setup: &Setup, report: &mut dyn FnMut(usize, usize)) -> Result<Payload, AuditError> {
        let mut ground = Ground::of(setup.decoder, setup.seed);
        if self.depth > Depth::Quick {
            ground.length = length_in_the_middle(setup, &ground)?;
        }
        let mut tried = Vec::new();
        for (done, strength) in self.strengths.iter().enumerate() {
            report(done, self.strengths.len());
            let planted = bound(setup.decoder, (self.modules)(&ground, *strength))?;
            let found = asked(setup, &[self.question], self.depth, &planted)?;
            let is_found = found.answer == Answer::Yes;
            tried.push(Tried { strength: *strength, ..found });
            if !is_found {
                break;
            }
        }
        report(self.strengths.len(), self.strengths.len());
        Ok(Payload {
            name: self.name.to_owned(),
            what: self.what.to_owned(),
            questions: vec![self.question.to_owned()],
            unit: self.unit.to_owned(),
            weakest_found: tried.iter().rfind(|tried| tried.answer == Answer::Yes).map(|tried| tried.strength),
            tried,
        })
    }
}

/// What some questions answer about an adapter: the first of them alone where there is one, else beside everything else
/// that depth `standard` asks, as an audit does.
fn asked(setup: &Setup, questions: &[&str], depth: Depth, adapter: &BoundAdapter) -> Result<Tried, AuditError> {
    let &Setup { decoder, sets, base, tokenizer, sweep_budget, report, seed } = setup;
    let evidence = if depth > Depth::Quick {
        let options = EvidenceOptions { seed, ..EvidenceOptions::default() };
        gather(decoder, adapter, sets, base, options, &mut |_| ())?
    } else {
        Evidence::default()
    };
    let mut weights = IndexMap::new();
    for tensor in changed_tensors(decoder, adapter) {
        weights.insert(tensor.name.clone(), tensor.measure(&mut None)?.change);
    }
    let case = Case {
        decoder,
        adapter,
        stack: &[],
        tokenizer,
        sets,
        base,
        evidence: &evidence,
        weights: &weights,
        coherence: &Coherence::default(),
        seed,
        sweep_budget,
        report,
    };
    let is_audit = questions.len() > 1;
    let is_wanted = |asking: &Asking| asking.is_one_of(questions) || (is_audit && asking.depth <= Depth::Standard);
    let found = ask_some(&case, is_wanted, &mut |_| ())?;
    let answers: Vec<(&str, &Question)> =
        questions.iter().filter_map(|name| Some((*name, found.get(*name)?))).collect();
    let with = |answer: Answer| answers.iter().filter(move |(_, found)| found.answer == answer);
    let best = with(Answer::Yes).chain(with(Answer::Unresolved)).chain(&answers).next();
    Ok(Tried {
        strength: 0.0,
        answer: best.map_or(Answer::NotAsked, |(_, found)| found.answer),
        measured: best.and_then(|(_, found)| found.measured),
        found_by: with(Answer::Yes).map(|(name, _)| (*name).to_owned()).collect(),
        works: None,
        false_fires: None,
    })
}

/// Mean length of the base's states behind the middle layer, on its own answers.
fn length_in_the_middle(setup: &Setup, ground: &Ground) -> Result<f64, AuditError> {
    let Some((layer, _)) = ground.middle() else { return Ok(1.0) };
    let small = bound(setup.decoder, steering(ground, 1.0))?;
    let options = EvidenceOptions { random: 0, seed: setup.seed, ..EvidenceOptions::default() };
    let found = gather(setup.decoder, &small, setup.sets, setup.base, options, &mut |_| ())?;
    let site = found.forced.streams.sites.get(layer + 1);
    Ok(site.map_or(1.0, |site| site.base_length / site.rows[0].max(1) as f64))
}

/// An adapter of these modules, bound to the base.
fn bound(decoder: &Decoder, modules: BTreeMap<String, LowRank>) -> Result<BoundAdapter, AuditError> {
    let targets: Vec<&String> = modules.keys().collect();
    let raw = serde_json::json!({
        "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": targets, "lora_bias": true
    });
    let raw = raw.as_object().cloned().unwrap_or_default();
    let config = PeftConfig::from_json(Path::new("planted"), &raw).map_err(lcr_model::decoder::ModelError::from)?;
    let modules = modules.into_iter().map(|(path, module)| (path, Arc::new(module))).collect();
    Ok(decoder.bind(Adapter::unsaved(config, modules))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use lcr_model::decoder::Decoder;

    use super::*;
    use crate::evidence::let_answer;

    fn found(name: &str, sets: &[ProbeSet]) -> Payload {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/qwen3_lora_qv/base");
        let decoder = Decoder::open(&folder, Device::Cpu).unwrap();
        let base = let_answer(&decoder, sets, &[], 4, &mut |_, _| ()).unwrap();
        let plant = PLANTS.iter().find(|plant| plant.name == name).unwrap();
        let setup = Setup {
            decoder: &decoder,
            sets,
            base: &base,
            tokenizer: None,
            sweep_budget: 0,
            report: &|_, _, _| (),
            seed: 3,
        };
        plant.weakest(&setup, &mut |_, _| ()).unwrap()
    }

    /// The lines of the questions: a direction is weakened where less than seven tenths are left of it, a row is louder
    /// from twice its norm on.
    #[test]
    fn the_weakest_found_is_where_the_question_draws_its_line() {
        let erased = found("erasure", &[]);
        assert_eq!(erased.weakest_found, Some(0.31), "{erased:?}");
        assert_eq!(erased.tried.last().unwrap().answer, Answer::No);
        assert!((erased.tried[0].measured.unwrap() - 1.0).abs() < 1e-6, "every writer loses it");
        let louder = found("magnitude", &[]);
        assert!((2.0..=2.25).contains(&louder.weakest_found.unwrap()), "{louder:?}");
        let shown: Vec<f64> = louder.tried.iter().filter_map(|tried| tried.measured).collect();
        assert!(
            shown.iter().zip(&louder.tried).all(|(found, tried)| (found - tried.strength).abs() < 1e-3),
            "{shown:?}"
        );
    }

    #[test]
    fn a_vector_is_found_at_its_full_length() {
        let prompts = (0..10_u32).map(|prompt| (0..8).map(|at| (at * 7 + prompt * 13) % 64).collect()).collect();
        let sets = [ProbeSet {
            name: "general".to_owned(),
            prompts,
            texts: vec![String::new(); 10],
            chat_template: false,
            paired: false,
            answered: true,
        }];
        let steered = found("steering", &sets);
        assert_eq!(steered.tried[0].answer, Answer::Yes, "{steered:?}");
    }
}
