//! Latent Contextual Reinforcement (LCR): teaches a model to reason with expert traces, and the baselines that it is
//! measured against.
//!
//! [`tasks`] give samples, [`step`] holds the parts of a training step in the order in which they run, with
//! `lcr-answers` as its judge, [`log`] says what happened, [`state`] keeps it. [`lcr`] is the loop, [`methods`] are it
//! and what it is measured against, [`run`] is a run in its folder, [`evaluate`] measures what was learned.
//!
//! ```
//! use lcr_train::step::advantage::group_advantages;
//!
//! // Of four rollouts one was right and one could not be judged: each is held against the mean of its group.
//! let advantages = group_advantages(&[Some(1.0), Some(0.0), None, Some(0.0)]);
//! assert!(advantages[0] > 0.0 && advantages[1] < 0.0 && advantages[2] == 0.0);
//! ```

pub mod adapter;
pub mod config;
pub mod evaluate;
pub mod lcr;
pub mod log;
pub mod methods;
pub mod run;
pub mod seed;
pub mod state;
pub mod step;
pub mod supervised;
pub mod tasks;
#[cfg(test)]
mod tiny;
