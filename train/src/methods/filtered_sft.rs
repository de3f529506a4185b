//! Supervised fine-tuning on the run's own correct rollouts (Yuan et al. 2023, rejection sampling).
//!
//! It makes the rollouts that LCR makes, early stop included, keeps the correct ones, and learns every token that the
//! model wrote in them, all tokens of a rollout alike: LCR without proximity, Jaccard weights and group-relative
//! advantages. A naked rollout that is right ends its group here, too, but is learned instead of skipped.

use super::Method;
use crate::config::GroupOptions;

/// Rejection sampling.
#[derive(Debug)]
pub struct FilteredSft;

impl Method for FilteredSft {
    fn name(&self) -> &'static str {
        "filtered-sft"
    }

    fn about(&self) -> &'static str {
        "Supervised fine-tuning on the run's own correct rollouts"
    }

    fn is_relative(&self, _: &GroupOptions) -> bool {
        false
    }
}
