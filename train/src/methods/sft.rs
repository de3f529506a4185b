//! Supervised fine-tuning: every token of the expert's traces is learned, and there are no rollouts at all.

use lcr_model::tokenizer::TokenizerError;

use super::{LearnsFrom, Method};
use crate::config::TrainConfig;
use crate::evaluate::anchors_in;
use crate::step::format::Format;
use crate::step::gradient::Example;
use crate::tasks::anchors::Anchors;
use crate::tasks::dataset::Dataset;

/// Supervised fine-tuning.
#[derive(Debug)]
pub struct Sft;

impl Method for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn about(&self) -> &'static str {
        "Supervised fine-tuning on the expert's traces"
    }

    fn learns_from(&self) -> LearnsFrom {
        LearnsFrom::Traces
    }
}

/// The expert's trace of a sample, every token after the prompt a target.
pub fn supervised_example(
    dataset: &Dataset,
    format: &Format,
    anchors: &Anchors,
    config: &TrainConfig,
    iteration: u64,
    sample: usize,
) -> Result<Example, TokenizerError> {
    let problem = &dataset.problems[sample];
    let drawn = anchors.draw(config.seed, iteration as usize, config.anchors.count);
    let mut tokens = format.prompt(anchors_in(problem, &drawn).as_deref(), &problem.prompt)?;
    let start = tokens.len();
    tokens.extend(&format.target(problem)?.tokens);
    tokens.extend(format.supervised_ending(problem)?);
    let targets = (start..tokens.len()).collect();
    Ok(Example { tokens, targets })
}
