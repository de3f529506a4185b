//! Rejection-sampling fine-tuning on what the model writes alone (Yuan et al. 2023; STaR without its hints, Zelikman et
//! al. 2022).
//!
//! It makes naked rollouts only, keeps the correct ones, and learns every token of them alike: [`FilteredSft`] without
//! the expert. What the two differ by is what the expert's text in a rollout is worth.
//!
//! [`FilteredSft`]: super::FilteredSft

use super::Method;
use crate::config::GroupOptions;

/// Rejection sampling without the expert.
#[derive(Debug)]
pub struct Rft;

impl Method for Rft {
    fn name(&self) -> &'static str {
        "rft"
    }

    fn about(&self) -> &'static str {
        "Supervised fine-tuning on correct rollouts of the model alone"
    }

    fn naked_views(&self, group: &GroupOptions) -> usize {
        group.size
    }

    fn has_scaffold(&self) -> bool {
        false
    }

    fn is_relative(&self, _: &GroupOptions) -> bool {
        false
    }
}
