//! What a model can do: naked accuracy on problems, perplexity on a text.
//!
//! Naked means: no expert text. The model thinks for itself from the prompt, its thinking is closed where the budget is
//! spent, and the opener of the answer's box is put after it, as in training; nothing else is injected.

use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, ModelError, with_values};
use lcr_model::sampling::{Sampler, SamplingOptions};
use lcr_model::session::Session;
use serde::{Deserialize, Serialize};

use crate::config::BudgetOptions;
use crate::seed::derive;
use crate::step::format::Format;
use crate::step::rollout::{Member, RolloutError, Rules, Sample, View, generate, read_prompts};
use crate::step::scaffold::{ScaffoldOptions, Target};
use crate::tasks::anchors::Anchors;
use crate::tasks::dataset::Problem;

/// How a model is measured.
#[derive(Debug, Clone)]
pub struct EvaluationOptions {
    /// Lengths.
    pub budget: BudgetOptions,
    /// Divides the logits; 0 takes the likeliest token every time.
    pub temperature: f64,
    /// Keeps the most probable tokens up to this mass.
    pub top_p: f64,
    /// Keeps this many most probable tokens; none keeps all.
    pub top_k: Option<usize>,
    /// Behaviour instructions drawn for each problem; 0 for none.
    pub anchors: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Problems that are written together; it changes no result.
    pub batch: usize,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self {
            budget: BudgetOptions::default(),
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            anchors: 0,
            seed: 0,
            batch: 32,
        }
    }
}

/// What became of one problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The sample's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The question.
    pub prompt: String,
    /// The right answer.
    pub target_answer: String,
    /// What stood in the box, if there was one.
    pub generated_answer: Option<String>,
    /// Whether it is right.
    pub correct: bool,
    /// Whether the thinking was closed by force.
    pub forced_close: bool,
    /// Tokens that the model wrote.
    pub generated_tokens: usize,
    /// Thinking and answer.
    pub text: String,
}

/// Answers every problem; `progress` gets the number of those done.
pub fn evaluate(
    decoder: &Decoder,
    variant: Option<&BoundAdapter>,
    format: &Format,
    problems: &[Problem],
    anchors: &Anchors,
    options: &EvaluationOptions,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Outcome>, RolloutError> {
    let scaffold = ScaffoldOptions::default();
    let rules =
        Rules { format, budget: &options.budget, scaffold: &scaffold, max_positions: decoder.config().max_positions };
    let target = Target::new(Vec::new(), |_| String::new());
    let mut session = Session::new(decoder, variant);
    let mut outcomes = Vec::with_capacity(problems.len());
    for (block, part) in problems.chunks(options.batch.max(1)).enumerate() {
        let first = block * options.batch.max(1);
        let prompts = part
            .iter()
            .enumerate()
            .map(|(offset, problem)| {
                let drawn = anchors.draw(options.seed, first + offset, options.anchors);
                format.prompt(anchors_in(problem, &drawn).as_deref(), &problem.prompt)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let sequences = read_prompts(&mut session, &prompts)?;
        let mut members = Vec::with_capacity(part.len());
        for (offset, ((problem, prompt), sequence)) in part.iter().zip(&prompts).zip(sequences).enumerate() {
            let sampler = Sampler::new(SamplingOptions {
                temperature: options.temperature,
                top_k: options.top_k,
                top_p: options.top_p,
                seed: derive(options.seed, &[(first + offset) as u64]),
            })?;
            let sample = Sample { problem, target: &target };
            members.push(Member::new(rules, sample, sequence, prompt, View::Naked(0), None, sampler)?);
        }
        for (problem, rollout) in part.iter().zip(generate(&mut session, members)?) {
            let start = rollout.spans.first().map_or(0, |span| span.tokens.end);
            outcomes.push(Outcome {
                kind: problem.kind.clone(),
                prompt: problem.prompt.clone(),
                target_answer: problem.ground_truth.clone(),
                correct: rollout.correct(),
                forced_close: rollout.forced_close,
                generated_tokens: rollout.generated(),
                text: format.tokenizer().decode(&rollout.tokens[start..])?,
                generated_answer: rollout.answer,
            });
        }
        progress(outcomes.len());
    }
    Ok(outcomes)
}

/// The system message of a problem with its anchors.
pub(crate) fn anchors_in(problem: &Problem, drawn: &[&str]) -> Option<String> {
    crate::tasks::anchors::render(problem.system.as_deref(), drawn)
}

/// How well a text is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// Tokens predicted.
    pub tokens: usize,
    /// Mean −ln p, nats per token.
    pub mean_negative_log_likelihood: f64,
    /// e to that power.
    pub perplexity: f64,
}

/// Perplexity of `tokens` in windows of `window`, each read without what came before it; its first token is not
/// predicted.
pub fn perplexity(
    decoder: &Decoder,
    variant: Option<&BoundAdapter>,
    tokens: &[u32],
    window: usize,
) -> Result<Option<Perplexity>, ModelError> {
    let mut total = 0.0;
    let mut count = 0;
    for part in tokens.chunks(window.clamp(2, decoder.config().max_positions)).filter(|part| part.len() > 1) {
        decoder.check_prompts(&[part.to_vec()])?;
        let batch = decoder.batch(&[part.len()], vec![variant]);
        let positions: Vec<usize> = (0..part.len()).collect();
        let stream = decoder.embed(part, &positions, &batch.variants)?;
        let stream = decoder.forward(stream, &batch, None, &mut Hooks::default())?;
        let logits = decoder.logits(&stream, &batch.variants)?;
        let width = decoder.config().vocab_size;
        total += with_values(&logits.model(0).to_device(&candle_core::Device::Cpu)?, |values| {
            let rows = values.chunks_exact(width).zip(&part[1..]);
            rows.map(|(row, next)| -log_probability(row, *next)).sum::<f64>()
        })?;
        count += part.len() - 1;
    }
    let mean = total / count as f64;
    Ok((count > 0).then(|| Perplexity { tokens: count, mean_negative_log_likelihood: mean, perplexity: mean.exp() }))
}

/// ln p of a token under a row of logits.
fn log_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    logits.get(token as usize).map_or(f64::NEG_INFINITY, |logit| f64::from(logit - largest) - sum.ln())
}
