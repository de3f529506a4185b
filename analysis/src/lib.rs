//! Pairs of activations and of weights to numbers.
//!
//! Base and adapted model run through the layers together ([`lockstep`] yields both at every site); each of [`metrics`]
//! reduces such a pair to the plain result types of [`lcr_documents::audit`]. This crate does not know how a result is
//! drawn or judged.
//!
//! ```
//! use lcr_analysis::metrics::{Metric, UnknownMetric};
//!
//! let cka: &Metric = "cka".parse()?;
//! assert_eq!(cka.entries[0].heading, "`cka`");
//! let misspelt: Result<&Metric, UnknownMetric> = "ckaa".parse();
//! assert!(misspelt.is_err());
//! # Ok::<(), UnknownMetric>(())
//! ```

pub mod activations;
pub mod causal;
pub mod comparison;
pub mod evidence;
pub mod facts;
pub mod linalg;
pub mod lockstep;
mod logits;
pub mod metrics;
pub mod questions;
pub mod resume;
pub mod selftest;
pub mod site;
mod statistics;
pub mod weights;

use lcr_model::decoder::ModelError;

/// Why an audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The forward pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Reading a tensor.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A decomposition.
    #[error("{0}: the activations or weights are degenerate; inspect the report of `--metrics tokens`")]
    Decomposition(#[from] linalg::NoConvergence),
    /// Nothing to read.
    #[error("the probes hold no prompt of two tokens or more, so no position can be compared. Give longer prompts")]
    NoProbes,
    /// Every row was a sink.
    #[error(
        "no row is left at {site} after leaving out first positions and sinks. Give longer prompts, or `--keep-sinks`"
    )]
    NoRows {
        /// Site.
        site: String,
    },
    /// How far the run has come cannot be saved.
    #[error("cannot save how far the comparison has come to {path}: {reason}")]
    Resume {
        /// The file.
        path: std::path::PathBuf,
        /// What went wrong.
        reason: String,
    },
}
