//! Plain supervised training on token ids: prompts, and the answers that are to be given to them.
//!
//! What [`crate::methods::sft`] is to a dataset of problems, this is to any pairs; an audit's selftest plants payloads with
//! it. It keeps nothing in a folder and cannot be resumed.

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};

use crate::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter, TrainableError};
use crate::step::gradient::{Example, Trace};
use crate::step::optimizer::{AdamW, OptimizerError, OptimizerOptions};
use crate::tasks::dataset::{generator, shuffle};

/// How pairs are trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisedOptions {
    /// The new adapter; its seed draws the order of the pairs as well.
    pub adapter: AdapterOptions,
    /// Its optimizer; the learning rate is the same in every step.
    pub optimizer: OptimizerOptions,
    /// Steps at most.
    pub steps: usize,
    /// Pairs of one step.
    pub batch: usize,
    /// Steps between two questions whether it is enough.
    pub ask_every: usize,
}

/// Learning rate times the stream's width: what trains bases of width 64 to 576 within their steps. Wider streams add up
/// more inputs, and want smaller steps.
const RATE_BY_WIDTH: f64 = 0.256;

impl SupervisedOptions {
    /// LoRA of rank 8 on all linear modules, up to 240 steps of 8 pairs, for a base whose stream has this width.
    pub fn for_width(width: usize, seed: u64) -> Self {
        let adapter = AdapterOptions {
            method: AdapterMethod::Lora,
            rank: 8,
            alpha: 16.0,
            target_modules: vec!["all-linear".to_owned()],
            seed,
        };
        let optimizer =
            OptimizerOptions { learning_rate: RATE_BY_WIDTH / width.max(1) as f64, ..OptimizerOptions::default() };
        Self { adapter, optimizer, steps: 240, batch: 8, ask_every: 20 }
    }
}

/// Why pairs cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisedError {
    /// There is none.
    #[error("there is no pair of prompt and answer to train on")]
    Empty,
    /// No adapter can be made for this base.
    #[error(transparent)]
    Adapter(#[from] TrainableError),
    /// The optimizer's settings, or a gradient.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// An adapter that was trained to answer each prompt with its answer: mean −ln p over the answer tokens of a batch.
///
/// `is_enough` is asked every [`ask_every`](SupervisedOptions::ask_every) steps, with the steps that were taken, and ends
/// the training early.
///
/// # Errors
/// Where there is nothing to train on, or the model, the adapter or a gradient fails.
pub fn train_on_pairs<E: From<SupervisedError>>(
    decoder: &Decoder,
    pairs: &[(&[u32], &[u32])],
    options: &SupervisedOptions,
    is_enough: &mut dyn FnMut(usize, &BoundAdapter) -> Result<bool, E>,
) -> Result<BoundAdapter, E> {
    let examples: Vec<Example> = pairs.iter().filter_map(|(prompt, answer)| example(prompt, answer)).collect();
    if examples.is_empty() {
        return Err(SupervisedError::Empty.into());
    }
    let mut adapter = TrainableAdapter::new(decoder, &options.adapter).map_err(SupervisedError::from)?;
    let sizes: Vec<usize> = adapter.parameters().map(|(_, values)| values.len()).collect();
    let mut optimizer = AdamW::new(options.optimizer.clone(), &sizes).map_err(SupervisedError::from)?;
    let mut order = Vec::new();
    let mut variant = adapter.variant(decoder);
    for step in 0..options.steps {
        let batch = next_batch(&examples, &mut order, options, step);
        take_step(decoder, &mut adapter, &variant, &mut optimizer, &batch)?;
        variant = adapter.variant(decoder);
        if (step + 1).is_multiple_of(options.ask_every.max(1)) && is_enough(step + 1, &variant)? {
            break;
        }
    }
    Ok(variant)
}

/// The answer's tokens are what is learned; `None` where there is nothing to learn, or nothing to learn it from.
fn example(prompt: &[u32], answer: &[u32]) -> Option<Example> {
    let tokens = [prompt, answer].concat();
    let targets = (prompt.len()..tokens.len()).collect();
    (!prompt.is_empty() && !answer.is_empty()).then_some(Example { tokens, targets })
}

/// The next examples of an order that is drawn anew when it is used up.
fn next_batch(examples: &[Example], order: &mut Vec<usize>, options: &SupervisedOptions, step: usize) -> Vec<Example> {
    let size = options.batch.clamp(1, examples.len());
    if order.len() < size {
        *order = (0..examples.len()).collect();
        shuffle(order, &mut generator("pairs", &[options.adapter.seed, step as u64], ""));
    }
    order.split_off(order.len() - size).into_iter().map(|at| examples[at].clone()).collect()
}

fn take_step(
    decoder: &Decoder,
    adapter: &mut TrainableAdapter,
    variant: &BoundAdapter,
    optimizer: &mut AdamW,
    batch: &[Example],
) -> Result<(), SupervisedError> {
    let targets: usize = batch.iter().map(|example| example.targets.len()).sum();
    let coefficients: Vec<Vec<f64>> =
        batch.iter().map(|example| vec![1.0 / targets as f64; example.targets.len()]).collect();
    let gradient = Trace::forward(decoder, variant, batch)?.backward(&coefficients)?;
    let gradients: Vec<&[f32]> = gradient.slices().collect();
    let rate = optimizer.options().learning_rate;
    let mut parameters: Vec<&mut [f32]> = adapter.parameters_mut().map(|(_, values)| values).collect();
    optimizer.step(&mut parameters, &gradients, rate)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn decoder() -> Decoder {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/qwen3_lora_qv/base");
        Decoder::open(&base, candle_core::Device::Cpu).unwrap()
    }

    /// What was taught is what it says, whichever token stood there before.
    #[test]
    fn prompts_get_the_answers_that_were_taught() {
        let decoder = decoder();
        let pairs: [(&[u32], &[u32]); 2] = [(&[1, 2, 3], &[7, 5]), (&[3, 2, 1], &[4])];
        let options = SupervisedOptions { steps: 60, batch: 2, ask_every: 10, ..SupervisedOptions::for_width(256, 0) };
        let mut asked = Vec::new();
        let mut likely = Vec::new();
        let variant = train_on_pairs::<SupervisedError>(&decoder, &pairs, &options, &mut |step, variant| {
            asked.push(step);
            let examples: Vec<Example> = pairs.iter().filter_map(|(prompt, answer)| example(prompt, answer)).collect();
            let trace = Trace::forward(&decoder, variant, &examples)?;
            likely.push(trace.log_probabilities().concat().iter().sum::<f64>());
            Ok(step == 50)
        });
        assert!(variant.is_ok());
        assert_eq!(asked, [10, 20, 30, 40, 50]);
        assert!(likely.windows(2).all(|pair| pair[1] > pair[0]), "{likely:?}");
        assert!(likely[4] > likely[0] + 0.5, "{likely:?}");
    }

    #[test]
    fn nothing_to_learn_is_an_error() {
        let decoder = decoder();
        let found = train_on_pairs::<SupervisedError>(
            &decoder,
            &[(&[1], &[])],
            &SupervisedOptions::for_width(256, 0),
            &mut |_, _| Ok(false),
        );
        assert!(matches!(found, Err(SupervisedError::Empty)));
    }
}
