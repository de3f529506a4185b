//! Questions about an adapter, each with one answer, the number behind it and what chance gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a question was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is so, beyond what chance gives.
    Yes,
    /// Nothing of it was seen.
    No,
    /// It cannot be told from this; `why` says what would.
    Unresolved,
    /// It was not asked at this depth.
    #[default]
    NotAsked,
}

impl Answer {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unresolved => "unresolved",
            Self::NotAsked => "not asked",
        }
    }
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Weights, closed forms, activations and next tokens.
    Quick,
    /// Floor, random adapters, intervals, the base's own answers, directions, rotation, lens.
    Standard,
    /// Sweeps, dose, surrogate and location besides.
    Deep,
}

impl Depth {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }
}

/// Where something was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Module, site, set of probes, or the text that did it.
    #[serde(rename = "where")]
    pub location: String,
    /// The number there.
    pub measured: Option<f64>,
    /// What a reader should see: tokens, or both models' answers.
    #[serde(default)]
    pub text: String,
}

impl Seen {
    /// A place and its number.
    pub fn at(location: impl Into<String>, measured: f64) -> Self {
        Self { location: location.into(), measured: Some(measured), text: String::new() }
    }

    /// The same with something to read.
    #[must_use]
    pub fn reading(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }
}

/// One question, answered: `questions.<name>` of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// The question in plain words.
    pub asks: String,
    /// Its answer.
    pub answer: Answer,
    /// The depth that asks it.
    pub depth: Depth,
    /// What was seen, or why it could not be told, in one sentence.
    pub why: String,
    /// The number that was judged.
    pub measured: Option<f64>,
    /// What it is a number of.
    pub unit: String,
    /// The number over the median of `random`.
    pub times_random: Option<f64>,
    /// What arithmetic alone gives: the base against itself with another order of summation.
    pub floor: Option<f64>,
    /// The same of adapters of this one's size with random directions, one by one.
    pub random: Vec<f64>,
    /// The chance level where rows are paired at random.
    pub permuted: Option<f64>,
    /// 95 % interval of the number over other prompts like these; none under eight prompts.
    pub interval: Option<[f64; 2]>,
    /// How often chance alone would give as much, all questions of this run accounted for.
    pub p: Option<f64>,
    /// The number that adapters are held against each other by, larger the less this one looks like one that only does
    /// its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How often a known-good adapter of this base has such a score or a larger one; where a profile is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_known_good: Option<f64>,
    /// Where it was seen, the clearest first.
    pub places: Vec<Seen>,
    /// What to do next.
    pub advice: String,
}
