//! Latent Contextual Reinforcement: a naked rollout first, then expert and model write together; see [`crate::lcr`] for
//! the step.

use super::Method;
use crate::config::{ConfigError, TrainConfig};
use crate::step::credit::CreditOptions;

/// The method of this crate.
#[derive(Debug)]
pub struct Lcr;

impl Method for Lcr {
    fn name(&self) -> &'static str {
        "lcr"
    }

    fn about(&self) -> &'static str {
        "Latent Contextual Reinforcement"
    }

    fn skips_what_is_solved(&self) -> bool {
        true
    }

    fn credit(&self, options: &CreditOptions) -> CreditOptions {
        options.clone()
    }

    fn check(&self, config: &TrainConfig) -> Result<(), ConfigError> {
        let group = &config.group;
        if group.naked_first && group.size < 2 {
            let (value, range) = (group.size.to_string(), "at least 2: one naked and one scaffolded rollout");
            return Err(ConfigError::Range { field: "group.size", value, range });
        }
        Ok(())
    }
}
