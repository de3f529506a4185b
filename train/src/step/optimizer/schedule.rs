//! The learning rate of each step: a linear rise, then a constant or half a cosine.
//!
//! A pure function of the number of steps taken, so that a resumed run needs nothing but that number.

use serde::{Deserialize, Serialize};

use super::OptimizerOptions;

/// What the learning rate does after warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine to `floor` times itself at the last step.
    Cosine,
}

impl OptimizerOptions {
    /// Learning rate of the step that follows `taken` steps in a run of `total` steps.
    ///
    /// Warm-up: η · (taken + 1)/warmup, so that no step is wasted at rate 0. Cosine, with p the share of the steps
    /// after warm-up that have been taken: η · (floor + (1 − floor)(1 + cos πp)/2); it stays at the floor from `total`
    /// on.
    pub fn learning_rate_at(&self, taken: u64, total: u64) -> f64 {
        if taken < self.warmup_steps {
            return self.learning_rate * (taken + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let falling = total.saturating_sub(self.warmup_steps).max(1);
                let progress = ((taken - self.warmup_steps) as f64 / falling as f64).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.learning_rate * (self.floor + (1.0 - self.floor) * share)
            }
        }
    }
}
