//! What LCR is measured against, on the same data, adapter and budget.
//!
//! - **SFT** learns every token of the expert's traces: no rollouts at all.
//! - **Filtered SFT** (Yuan et al. 2023, rejection sampling) makes the rollouts that LCR makes, early stop included, keeps the correct
//!   ones, and learns every token that the model wrote in them, all tokens of a rollout alike: LCR without proximity, Jaccard weights
//!   and group-relative advantages. A naked rollout that is right ends its group here, too, but is learned instead of skipped.
//! - **GRPO** (Shao et al. 2024) makes naked rollouts only and learns from both signs of the advantage. One step a group, so the
//!   ratio is 1 and clipping has nothing to do.
//!
//! The last two differ from LCR in [`crate::group`] alone; this file makes the examples of the first.

use lcr_model::tokenizer::TokenizerError;

use crate::anchors::Anchors;
use crate::config::TrainConfig;
use crate::dataset::Dataset;
use crate::evaluate::anchors_in;
use crate::format::Format;
use crate::gradient::Example;

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
