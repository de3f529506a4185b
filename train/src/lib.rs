//! Latent Contextual Reinforcement (LCR): teaches a model to reason with expert traces, and the baselines that it is
//! measured against.
//!
//! Read in the order in which a training step runs: [`dataset`] and [`anchors`] give a sample, [`scaffold`] plans where the
//! expert speaks, [`rollout`] lets expert and model write together, `lcr-answers` judges the boxed answer, [`advantage`]
//! compares a [`group`], [`credit`] weighs each token, [`gradient`] walks back through the layers, [`optimizer`] steps,
//! [`tally`] counts, [`log`] says what happened, [`state`] keeps it. [`lcr`] is the loop, [`methods`] are it and what it is measured against,
//! [`evaluate`] measures what was learned.

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
