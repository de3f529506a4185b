//! Group-relative policy optimisation without a scaffold (Shao et al. 2024).
//!
//! It makes naked rollouts only and learns from both signs of the advantage. One step for each group, so the ratio is 1
//! and clipping has nothing to do.

use super::Method;
use crate::config::GroupOptions;

/// GRPO.
#[derive(Debug)]
pub struct Grpo;

impl Method for Grpo {
    fn name(&self) -> &'static str {
        "grpo"
    }

    fn about(&self) -> &'static str {
        "Group-relative policy optimisation without a scaffold"
    }

    fn naked_views(&self, group: &GroupOptions) -> usize {
        group.size
    }

    fn has_scaffold(&self) -> bool {
        false
    }

    fn learns_positive_only(&self, _: &GroupOptions) -> bool {
        false
    }
}
