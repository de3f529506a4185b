//! Evidence about small models: what was forced through both, against one token at a time and formulas written out; the
//! size of random adapters; and an adapter that changes nothing, to which no question may say yes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use indexmap::IndexMap;
use lcr_analysis::causal::dose::scaled;
use lcr_analysis::causal::matched::Matched;
use lcr_analysis::evidence::forced::forced_answers;
use lcr_analysis::evidence::random::random_adapter;
use lcr_analysis::evidence::{AnswerDivergence, EvidenceOptions, ProbeSet, PromptId, gather, let_answer};
use lcr_analysis::questions::{Case, ask, not_asked};
use lcr_documents::audit::{Answer, Coherence, Depth};
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::session::Session;

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case)
}

fn model(case: &str) -> (Decoder, BoundAdapter) {
    let decoder = Decoder::open(&golden(case).join("base"), Device::Cpu).unwrap();
    let adapter = decoder.bind(Adapter::open(&golden(case).join("adapter")).unwrap()).unwrap();
    (decoder, adapter)
}

/// Two sets of ten prompts each, of different lengths.
fn sets() -> Vec<ProbeSet> {
    let set = |name: &str, seed: u32| ProbeSet {
        name: name.to_owned(),
        prompts: (0..10_u32)
            .map(|prompt| (0..6 + prompt).map(|at| (at * at * 7 + prompt * 13 + seed) % 64).collect())
            .collect(),
        texts: (0..10).map(|prompt| format!("{name} {prompt}")).collect(),
        chat_template: false,
        paired: false,
        answered: true,
    };
    vec![set("general", 0), set("identity", 5)]
}

/// KL(P‖Q) of two rows of logits, as the textbook writes it.
fn textbook_kl(base: &[f32], adapted: &[f32]) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = row.iter().map(|value| f64::from(value - largest).exp()).sum();
        row.iter().map(|value| f64::from(value - largest) - total.ln()).collect()
    };
    let (p, q) = (log_softmax(base), log_softmax(adapted));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// One pass over prompts of both sets together gives at every answer position what reading token by token gives.
#[test]
fn forced_answers_are_those_of_one_token_at_a_time() {
    for case in ["qwen3_lora_qv", "mistral_dora_mlp"] {
        let (decoder, adapter) = model(case);
        let sets = sets();
        let base = let_answer(&decoder, &sets, &[], 5, &mut |_, _| ()).unwrap();
        let options = EvidenceOptions { answer_tokens: 5, random: 3, seed: 1 };
        let evidence = gather(&decoder, &adapter, &sets, &base, options, &mut |_| ()).unwrap();
        for id in [PromptId { set: 0, prompt: 3 }, PromptId { set: 1, prompt: 9 }] {
            let stepwise = |variant: Option<&BoundAdapter>| -> Vec<Vec<f32>> {
                let mut session = Session::new(&decoder, variant);
                let sequence = session.open();
                let prompt = &sets[id.set].prompts[id.prompt];
                let mut rows = session.read(&[(sequence, prompt.as_slice())]).unwrap();
                for token in &base.of(id)[..4] {
                    rows.extend(session.read(&[(sequence, &[*token])]).unwrap());
                }
                rows
            };
            let (own, others) = (stepwise(None), stepwise(Some(&adapter)));
            let found = &evidence.forced.answers[0][id.set][id.prompt];
            assert_eq!(found.kl.len(), 5);
            for (position, kl) in found.kl.iter().enumerate() {
                let expected = textbook_kl(&own[position], &others[position]);
                assert!((kl - expected).abs() < 1e-5 + 1e-3 * expected, "{case} {id:?} {position}: {kl} {expected}");
            }
        }
        let floor = base.floor[0].unwrap();
        assert!(floor < 1e-9, "another order of sums moves nothing that counts: {floor}");
    }
}

/// At the strength that is found, random adapters do to one set what was wanted, measured by the pass that answers are
/// judged by: far more than at their own, or far less.
#[test]
fn random_adapters_are_made_to_do_as_much() {
    let (decoder, adapter) = model("mistral_dora_mlp");
    let sets = sets();
    let base = let_answer(&decoder, &sets, &[], 5, &mut |_, _| ()).unwrap();
    let random: Vec<BoundAdapter> = (0..3).map(|seed| random_adapter(&decoder, &adapter, seed).unwrap()).collect();
    let change_at = |strength: f64| -> f64 {
        let scaled: Vec<BoundAdapter> = random.iter().map(|of| scaled(&decoder, of, strength).unwrap()).collect();
        let models: Vec<&BoundAdapter> = scaled.iter().collect();
        let found = forced_answers(&decoder, &models, &sets, &base, &mut |_, _| ()).unwrap();
        let of_model = |answers: &Vec<Vec<AnswerDivergence>>| {
            let kl: Vec<f64> = answers[0].iter().flat_map(|prompt| prompt.kl.clone()).collect();
            kl.iter().sum::<f64>() / kl.len() as f64
        };
        let mut changes: Vec<f64> = found.answers.iter().map(of_model).collect();
        changes.sort_by(f64::total_cmp);
        changes[1]
    };
    let matched = Matched { decoder: &decoder, adapter: &adapter, sets: &sets, base: &base, general: 0 };
    let at_one = change_at(1.0);
    for times in [3.0, 0.01] {
        let (strength, foretold) = matched.strength(&random, at_one, times * at_one).unwrap();
        let reached = change_at(strength) / at_one;
        assert!((times / 1.8..=times * 1.8).contains(&reached), "{times}: {strength} reaches {reached}");
        assert!((foretold / at_one / reached - 1.0).abs() < 1.0, "{times}: {foretold} and {reached}");
    }
}

/// Norm and leading singular value of every change stay those of the adapter, DoRA's row ratios are the same numbers.
#[test]
fn random_adapters_have_the_size_of_the_adapter() {
    for case in ["qwen3_lora_qv", "mistral_dora_mlp"] {
        let (decoder, adapter) = model(case);
        let random = random_adapter(&decoder, &adapter, 4).unwrap();
        for (path, own) in &adapter.adapter().modules {
            let other = &random.adapter().modules[path];
            let (own_values, values) = (own.factored().singular_values(), other.factored().singular_values());
            for (own, value) in own_values.iter().zip(&values) {
                assert!((own - value).abs() < 1e-5 * own_values[0], "{case} {path}: {own} {value}");
            }
            assert_ne!(own.lora_a, other.lora_a);
            if let Some(ratios) = adapter.ratio_of(&decoder, path) {
                let sorted = |values: &[f32]| {
                    let mut values = values.to_vec();
                    values.sort_by(f32::total_cmp);
                    values
                };
                let found = sorted(random.ratio_of(&decoder, path).unwrap());
                for (own, found) in sorted(ratios).iter().zip(found) {
                    assert!((own - found).abs() < 1e-4 * own.abs(), "{case} {path}: {own} {found}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_said_of_an_adapter_that_changes_nothing() {
    let (decoder, adapter) = model("qwen3_lora_qv");
    let mut zero = adapter.adapter().clone();
    zero.modules.values_mut().for_each(|module| Arc::make_mut(module).lora_b.fill(0.0));
    let zero = decoder.bind(zero).unwrap();
    let sets = sets();
    let base = let_answer(&decoder, &sets, &[], 5, &mut |_, _| ()).unwrap();
    let evidence = gather(&decoder, &zero, &sets, &base, EvidenceOptions::default(), &mut |_| ()).unwrap();
    let case = Case {
        stack: &[],
        decoder: &decoder,
        adapter: &zero,
        tokenizer: None,
        sets: &sets,
        base: &base,
        evidence: &evidence,
        weights: &IndexMap::new(),
        coherence: &Coherence::default(),
        seed: 0,
        sweep_budget: 0,
        report: &|_, _, _| (),
    };
    let answered = ask(&case, Depth::Standard, &mut |_| ()).unwrap();
    for (name, question) in &answered {
        assert_ne!(question.answer, Answer::Yes, "{name}: {}", question.why);
    }
    assert_eq!(answered["effect"].answer, Answer::No);
    assert_eq!(answered["effect"].measured, Some(0.0));
}

/// A shallow run lists what it did not ask.
/// A writer of the last layer that writes one token's row of the unembedding, or the opposite: to one of the two sides
/// its mean shift promotes that token.
#[test]
fn a_writer_is_read_by_the_token_that_it_writes() {
    let (decoder, adapter) = model("mistral_dora_mlp");
    let (token, width) = (41, decoder.config().width);
    let path = format!("model.layers.{}.mlp.down_proj", decoder.layers().len() - 1);
    let mut row = vec![0.0_f32; width];
    decoder.tensor("lm_head.weight").unwrap().widen(token * width..(token + 1) * width, &mut row);
    let sets = sets();
    let base = let_answer(&decoder, &sets, &[], 5, &mut |_, _| ()).unwrap();
    let promoted = |sign: f32| {
        let mut planted = adapter.adapter().clone();
        let module = Arc::make_mut(planted.modules.get_mut(&path).unwrap());
        let rank = module.rank;
        module.lora_b.iter_mut().enumerate().for_each(|(at, value)| *value = sign * row[at / rank]);
        let planted = decoder.bind(planted).unwrap();
        let evidence = gather(&decoder, &planted, &sets, &base, EvidenceOptions::default(), &mut |_| ()).unwrap();
        let case = Case {
            stack: &[],
            decoder: &decoder,
            adapter: &planted,
            tokenizer: None,
            sets: &sets,
            base: &base,
            evidence: &evidence,
            weights: &IndexMap::new(),
            coherence: &Coherence::default(),
            seed: 0,
            sweep_budget: 0,
            report: &|_, _, _| (),
        };
        let mut answered = ask(&case, Depth::Standard, &mut |_| ()).unwrap();
        let places = answered.swap_remove("subject").unwrap().places;
        let seen = places.into_iter().find(|place| place.location == format!("writes of {path}")).unwrap();
        let (own, random) = seen.text.split_once("\nrandom: ").unwrap();
        [own, random].map(|tokens| tokens.split(' ').next().unwrap().to_owned())
    };
    let (plus, minus) = (promoted(10.0), promoted(-10.0));
    let named = format!("\"#{token}\"");
    assert!((plus[0] == named) != (minus[0] == named), "{plus:?} {minus:?}");
    assert!(plus[1] != named && minus[1] != named, "random: {plus:?} {minus:?}");
}

#[test]
fn what_was_not_asked_is_said() {
    let names: Vec<String> = not_asked(Depth::Quick).map(|(name, _)| name).collect();
    assert!(names.contains(&"answers.identity".to_owned()), "{names:?}");
    assert!(not_asked(Depth::Quick).all(|(_, question)| question.answer == Answer::NotAsked));
}
