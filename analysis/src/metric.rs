//! Which metrics a comparison computes.

use std::fmt;
use std::str::FromStr;

/// A metric that can be asked for by name; those of a few vector operations (cosines, relative change) always run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Linear CKA, plain and debiased.
    Cka,
    /// Orthogonal Procrustes.
    Procrustes,
    /// Overlap of nearest neighbours.
    Knn,
    /// Overlap of leading subspaces.
    Subspace,
    /// Spectra of the activations.
    Spectrum,
    /// Size, coherence and leading direction of the difference.
    Drift,
    /// Agreement of clusterings.
    Clusters,
    /// Divergence of attention patterns.
    Attention,
    /// Next-token distributions.
    Tokens,
    /// Logit lens and paths of tracked tokens.
    Trajectories,
    /// Changes of the weights.
    Weights,
}

impl Metric {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Cka, "cka"),
        (Self::Procrustes, "procrustes"),
        (Self::Knn, "knn"),
        (Self::Subspace, "subspace"),
        (Self::Spectrum, "spectrum"),
        (Self::Drift, "drift"),
        (Self::Clusters, "clusters"),
        (Self::Attention, "attention"),
        (Self::Tokens, "tokens"),
        (Self::Trajectories, "trajectories"),
        (Self::Weights, "weights"),
    ];
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(metric, _)| metric == self).map_or("", |(_, name)| name))
    }
}

/// A name that is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a metric; known: {known}", known = Metric::ALL.map(|(_, name)| name).join(", "))]
pub struct UnknownMetric(pub String);

impl FromStr for Metric {
    type Err = UnknownMetric;
    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(metric, _)| *metric).ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}
