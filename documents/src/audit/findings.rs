//! What the rules say of the numbers, and what was looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing worth a reader's attention.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Code of the rule, such as `zero-effect`.
    pub rule: String,
    /// How bad.
    pub level: Level,
    /// Module or site; in a file, the place there.
    #[serde(rename = "where")]
    pub location: String,
    /// The file of the adapter that it is about; empty where it is about the comparison.
    #[serde(default)]
    pub file: String,
    /// The number that was judged.
    pub measured: Option<f64>,
    /// What arithmetic alone gives.
    pub floor: Option<f64>,
    /// What chance gives.
    pub null: Option<f64>,
    /// 95 % interval of the measured number.
    pub interval: Option<[f64; 2]>,
    /// The limit it was held against.
    pub limit: Option<f64>,
    /// What it means, for a reader.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Look before you merge.
    Warn,
    /// Do not merge.
    Fail,
}

/// The worst of the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing above a note.
    Pass,
    /// At least one warning.
    Warn,
    /// At least one failure.
    Fail,
}

/// What a reader is told: the verdict, with sizes that nobody judges kept apart from an adapter that nothing stands
/// against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// No rule objects to what was checked.
    NoObjection,
    /// No rule objects, and a size is beyond its limit, which no rule judges.
    LargeChangeNotJudged,
    /// At least one warning.
    Warn,
    /// At least one failure.
    Fail,
}

/// A size and the limit that the policy, or the catalogue of rules, has for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Size {
    /// Code of the rule that has the limit.
    pub rule: String,
    /// Module, where it is one's.
    #[serde(rename = "where")]
    pub location: String,
    /// The size.
    pub measured: f64,
    /// Its limit.
    pub limit: f64,
    /// Whether going beyond the limit is held against the adapter.
    pub judged: bool,
}

/// Which parts of an adapter were looked at, and by how many rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// The adapter's files: kinds, pickles, templates, tokenizer, config, tensors by themselves.
    pub files: Part,
    /// Its change of every weight.
    pub weights: Part,
    /// What the adapted model says next on the probes.
    pub behaviour: Part,
}

/// How one part was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What was done.
    pub state: PartState,
    /// Rules that were tried.
    pub tried: usize,
    /// Rules that there are for this part.
    pub rules: usize,
    /// Warnings and failures.
    pub findings: usize,
    /// Notes, which are held against nobody.
    pub notes: usize,
}

/// What was done about a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// Rules were held against it.
    Judged,
    /// Its sizes are shown, and no rule judges them.
    Shown,
    /// It was not looked at in this run.
    NotChecked,
}
