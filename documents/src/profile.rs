//! What known-good adapters of a base look like: `profile.json`, which `calibrate` makes and `compare --profile` reads.
//!
//! A question gives each adapter a score, larger the less it looks like one that only does its work. Whether an adapter
//! is unlike known-good ones is told by rank alone: p = (1 + #{sᵢ ≥ s})/(n + 1) (conformal prediction; Vovk, Gammerman
//! and Shafer 2005) holds for any distribution, and for any score, where the adapter is drawn as those of the profile
//! were. It cannot be smaller than 1/(n + 1).

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::{Asked, Tool};
use crate::digest::sha256;
use crate::read::plain;
use crate::statistics::median;

/// The schema that [`Profile`] is written under.
pub const SCHEMA: &str = "lcr-audit/profile/1";

/// MAD of a normal distribution times this is its σ.
const MAD_TO_SIGMA: f64 = 1.4826;
/// No σ is taken to be smaller: scores are shares and logarithms, of which so little is nothing. Where known-good adapters
/// are all alike (none erases a direction), it says how far out another is.
const LEAST_SIGMA: f64 = 0.05;

/// Known-good adapters of one base, by what was measured of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The program that measured them: scores of another version are others.
    pub tool: Tool,
    /// Day, YYYY-MM-DD.
    pub date: String,
    /// SHA-256 of the base's weights and config.json.
    pub base: String,
    /// SHA-256 of the token ids of the probes.
    pub probes: String,
    /// What was asked of each.
    pub asked: Asked,
    /// The adapters.
    pub adapters: Vec<KnownGood>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KnownGood {
    /// Name of its folder.
    pub name: String,
    /// SHA-256 of its tensor file.
    pub sha256: String,
    /// LoRA, DoRA, ….
    pub method: String,
    /// Ranks of its modules, without repetition.
    pub ranks: Vec<usize>,
    /// Kinds of module that it changes.
    pub targets: Vec<String>,
    /// Largest ‖ΔW‖/‖W‖ of its modules.
    pub relative_norm: Option<f64>,
    /// Its score in every question that has one.
    pub scores: IndexMap<String, f64>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read the profile {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is none.
    #[error("{} is no profile of `lcr-audit calibrate`: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was made of something else.
    #[error("the profile is of {what}: {found} there, {expected} here; make one with `lcr-audit calibrate`")]
    Other {
        /// Of what.
        what: &'static str,
        /// In the profile.
        found: String,
        /// Here.
        expected: String,
    },
}

/// An adapter against all known-good ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Conformal p of the largest deviation.
    pub p: f64,
    /// Known-good adapters that are as far out in some question.
    pub as_far: usize,
    /// The question that it is farthest out in, and by how many robust σ.
    pub farthest: String,
    /// By how many.
    pub deviation: f64,
}

impl Profile {
    /// Reads a profile; beside it the SHA-256 of the file.
    ///
    /// # Errors
    /// Where the file cannot be read, is no profile, or holds an adapter twice.
    pub fn open(path: &Path) -> Result<(Self, String), ProfileError> {
        let bytes = plain(path).map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
        let malformed = |reason: String| ProfileError::Malformed { path: path.to_owned(), reason };
        let profile: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if profile.schema != SCHEMA {
            return Err(malformed(format!("its schema is {:?}, {SCHEMA:?} is needed", profile.schema)));
        }
        profile.refuse_repeated().map_err(malformed)?;
        Ok((profile, sha256(&bytes)))
    }

    /// Whether every adapter is in it once, with scores that are numbers.
    fn refuse_repeated(&self) -> Result<(), String> {
        let mut digests: Vec<&str> = self.adapters.iter().map(|known| known.sha256.as_str()).collect();
        digests.sort_unstable();
        if let Some(twice) = digests.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            return Err(format!("the adapter {twice} stands in it twice, and would count twice"));
        }
        let broken = self.adapters.iter().find(|known| known.scores.values().any(|score| !score.is_finite()));
        broken.map_or(Ok(()), |known| Err(format!("a score of {} is no number", known.name)))
    }

    /// Whether it was made of this base with these probes, asked in the same way.
    ///
    /// # Errors
    /// What is another.
    pub fn fits(&self, version: &str, base: &str, probes: &str, asked: &Asked) -> Result<(), ProfileError> {
        let way = |asked: &Asked| {
            let Asked { max_prompts, max_tokens, tokens, raw, .. } = asked;
            format!("{max_prompts:?} prompts of {max_tokens} tokens, token ids {tokens}, raw {raw}")
        };
        let sets = |asked: &Asked| {
            let each = asked.sets.iter().map(|set| format!("{} {}", set.name, set.sha256));
            each.collect::<Vec<_>>().join(", ")
        };
        let sweep = |asked: &Asked| asked.sweep_budget.to_string();
        let is_swept = self.asked.depth == crate::audit::Depth::Deep && asked.depth == crate::audit::Depth::Deep;
        let all = [
            ("another base", self.base.clone(), base.to_owned()),
            ("another version of this program", self.tool.version.clone(), version.to_owned()),
            ("other probes", self.probes.clone(), probes.to_owned()),
            ("probes that were read otherwise", way(&self.asked), way(asked)),
            ("other probe sets", sets(&self.asked), sets(asked)),
            ("another sweep", sweep(&self.asked), if is_swept { sweep(asked) } else { sweep(&self.asked) }),
        ];
        match all.into_iter().find(|(_, found, expected)| found != expected) {
            Some((what, found, expected)) => Err(ProfileError::Other { what, found, expected }),
            None => Ok(()),
        }
    }

    /// The profile without one adapter: it says nothing about itself.
    #[must_use]
    pub fn without(&self, sha256: &str) -> Self {
        let mut others = self.clone();
        others.adapters.retain(|known| known.sha256 != sha256);
        others
    }

    /// The adapters of both, each once.
    ///
    /// # Errors
    /// Where the other was made of something else.
    pub fn merge(&mut self, other: Self) -> Result<(), ProfileError> {
        self.fits(&other.tool.version, &other.base, &other.probes, &other.asked)?;
        let new = other.adapters.into_iter();
        let new: Vec<KnownGood> =
            new.filter(|known| self.adapters.iter().all(|own| own.sha256 != known.sha256)).collect();
        self.adapters.extend(new);
        Ok(())
    }

    /// The smallest p that so many adapters can give.
    pub fn finest(&self) -> f64 {
        1.0 / (self.adapters.len() + 1) as f64
    }

    /// Conformal p of a score in one question, among the adapters that have one there; `None` where none has.
    pub fn p(&self, question: &str, score: f64) -> Option<f64> {
        let known: Vec<f64> = self.adapters.iter().filter_map(|known| known.scores.get(question).copied()).collect();
        let as_far = known.iter().filter(|other| **other >= score).count();
        (!known.is_empty()).then(|| conformal(as_far, known.len()))
    }

    /// Conformal p of the largest deviation over all questions: for each adapter, this one among them, the largest of
    /// (score − median)/(1.48 MAD, at least 0.05), with median and MAD over all of them, so that none is treated otherwise than the
    /// others. `None` where no question has scores of at least two known-good adapters.
    pub fn standing(&self, scores: &IndexMap<String, f64>) -> Option<Standing> {
        let mut deviations = vec![f64::NEG_INFINITY; self.adapters.len()];
        let mut farthest: Option<(&str, f64)> = None;
        for (question, score) in scores {
            let known = self.adapters.iter().map(|known| known.scores.get(question).copied());
            let pooled: Vec<f64> = known.clone().flatten().chain([*score]).collect();
            if pooled.len() < 3 {
                continue;
            }
            let own = deviation(*score, &pooled);
            if farthest.is_none_or(|(_, most)| own > most) {
                farthest = Some((question, own));
            }
            for (most, score) in deviations.iter_mut().zip(known) {
                *most = score.map_or(*most, |score| most.max(deviation(score, &pooled)));
            }
        }
        let (farthest, deviation) = farthest?;
        let as_far = deviations.iter().filter(|other| **other >= deviation).count();
        Some(Standing { p: conformal(as_far, deviations.len()), as_far, farthest: farthest.to_owned(), deviation })
    }
}

/// (1 + k)/(n + 1), where k of n known-good adapters are as far out.
fn conformal(as_far: usize, known: usize) -> f64 {
    (1 + as_far) as f64 / (1 + known) as f64
}

/// By how many robust σ a score lies above the median.
fn deviation(score: f64, pooled: &[f64]) -> f64 {
    let Some(centre) = median(pooled) else { return 0.0 };
    let distances: Vec<f64> = pooled.iter().map(|other| (other - centre).abs()).collect();
    (score - centre) / median(&distances).map_or(LEAST_SIGMA, |mad| LEAST_SIGMA.max(MAD_TO_SIGMA * mad))
}

#[cfg(test)]
mod tests;
