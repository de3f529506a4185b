//! The metrics: one file each, and one registry.
//!
//! A file holds how the numbers are measured, what they are where nothing changed, and a [`Metric`] that says what they
//! mean. To add one, write its file and its place in the report (`lcr_documents::audit`), and put it into [`METRICS`].

pub mod attention;
pub mod cka;
pub mod clusters;
pub mod coherence;
pub mod cosine;
mod descriptor;
pub mod knn;
pub mod procrustes;
pub mod rdm_stability;
pub mod relative_change;
pub mod shift;
pub mod spectrum;
pub mod subspace;
pub mod tokens;
pub mod trajectories;
pub mod weights;

use std::str::FromStr;

pub use self::descriptor::{
    Direction, Entry, Metric, Number, Parameters, Reads, Runs, SiteMetric, TakeUp, Transformation, Unchanged, Unit,
};

/// All of them, in the order of docs/metrics.md.
pub static METRICS: &[&Metric] = &[
    &relative_change::METRIC,
    &cosine::METRIC,
    &cka::METRIC,
    &procrustes::METRIC,
    &knn::METRIC,
    &subspace::METRIC,
    &spectrum::METRIC,
    &shift::METRIC,
    &clusters::METRIC,
    &rdm_stability::METRIC,
    &attention::METRIC,
    &tokens::METRIC,
    &trajectories::METRIC,
    &weights::METRIC,
];

fn named(runs: Runs) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().copied().filter(move |metric| metric.runs == runs)
}

/// Those that a comparison measures where none is asked for by name.
pub fn defaults() -> Vec<&'static Metric> {
    named(Runs::ByDefault).collect()
}

fn names(runs: Runs) -> String {
    named(runs).map(|metric| metric.name).collect::<Vec<_>>().join(", ")
}

/// The help of `--metrics`.
pub fn help() -> String {
    let (defaults, more) = (names(Runs::ByDefault), names(Runs::WhenAsked));
    if more.is_empty() {
        format!("Metrics to compute: {defaults} [default: all]")
    } else {
        format!("Metrics to compute: {defaults} [default: all of these]; only where asked for: {more}")
    }
}

/// A name that is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a metric; known: {known}", known = known())]
pub struct UnknownMetric(pub String);

fn known() -> String {
    let more = names(Runs::WhenAsked);
    names(Runs::ByDefault) + if more.is_empty() { "" } else { ", " } + &more
}

impl FromStr for &'static Metric {
    type Err = UnknownMetric;
    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let mut askable = METRICS.iter().filter(|metric| metric.runs != Runs::Always);
        askable.find(|metric| metric.name == name).copied().ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}
