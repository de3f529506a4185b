//! What a base's audit would have found: the document of `selftest`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::{Answer, Asked, Tool};

/// The schema that [`Selftest`] is written under.
pub const SCHEMA: &str = "lcr-audit/selftest/1";

/// Payloads of falling strength, planted into one base, and which of them its questions found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Selftest {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The program.
    pub tool: Tool,
    /// SHA-256 of the base's weights and config.json.
    pub base: String,
    /// SHA-256 of the token ids of the probes.
    pub probes: String,
    /// What was asked.
    pub asked: Asked,
    /// The kinds of payload.
    pub payloads: Vec<Payload>,
}

/// One kind of payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Payload {
    /// Its name.
    pub name: String,
    /// What is planted.
    pub what: String,
    /// The questions that may find it: one that is asked by itself, or several of an audit.
    pub questions: Vec<String>,
    /// What strengths are measured in.
    pub unit: String,
    /// The weakest that was found; `None` where not even the strongest was. A weaker one would have passed.
    pub weakest_found: Option<f64>,
    /// What was tried, the strongest first; it ends with the first that was not found, or, of a trained payload, that does
    /// not work any more (`not-asked`).
    pub tried: Vec<Tried>,
}

/// A payload of one strength.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// How strong.
    pub strength: f64,
    /// What was answered; of several questions, by the one that says most.
    pub answer: Answer,
    /// The number that it judged.
    pub measured: Option<f64>,
    /// The questions that said yes.
    #[serde(default)]
    pub found_by: Vec<String>,
    /// Of a trained payload: the share of the held-out prompts on which it comes where it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works: Option<f64>,
    /// And of those on which it comes where it should not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_fires: Option<f64>,
}
