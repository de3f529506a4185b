//! Latent Contextual Reinforcement (LCR): teaches a model to reason with expert traces, and the baselines that it is
//! measured against.
//!
//! Read in the order in which a training step runs: [`dataset`] and [`anchors`] give a sample, [`scaffold`] plans where
//! the expert speaks, [`rollout`] lets expert and model write together, `lcr-answers` judges the boxed answer,
//! [`advantage`] compares a [`group`], [`credit`] weighs each token, [`gradient`] walks back through the layers,
//! [`optimizer`] steps, [`tally`] counts, [`log`] says what happened, [`state`] keeps it. [`lcr`] is the loop,
//! [`methods`] are it and what it is measured against, [`evaluate`] measures what was learned.
//!
//! ```
//! use lcr_train::advantage::group_advantages;
//!
//! // Of four rollouts one was right and one could not be judged: each is held against the mean of its group.
//! let advantages = group_advantages(&[Some(1.0), Some(0.0), None, Some(0.0)]);
//! assert!(advantages[0] > 0.0 && advantages[1] < 0.0 && advantages[2] == 0.0);
//! ```

pub mod adapter;
pub mod advantage;
pub mod anchors;
pub mod config;
pub mod credit;
pub mod dataset;
pub mod evaluate;
pub mod format;
pub mod gradient;
pub mod group;
pub mod lcr;
pub mod log;
pub mod methods;
pub mod optimizer;
pub mod preview;
pub mod rollout;
pub mod rotation;
pub mod run;
pub mod scaffold;
pub mod seed;
pub mod state;
pub mod tally;
pub mod tensorboard;
#[cfg(test)]
mod tiny;
