//! `gate.json`: the types of a gate's report.

use std::path::Path;

use lcr_documents::DocumentError;
use lcr_documents::audit::{Asked, Tool};
use lcr_scan::{AdapterSummary, FileRecord, WeightStatistics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rests::FilePin;
use super::verdict::GateVerdict;
use crate::rules::Severity;

/// The schema that [`GateReport`] is written under.
pub const GATE_SCHEMA: &str = "lcr-audit/gate/1";

/// What a gate says of a set of adapters: the whole of `gate.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateReport {
    /// Always [`GATE_SCHEMA`].
    pub schema: String,
    /// The program that wrote this.
    pub tool: Tool,
    /// Digests of everything that the verdict rests on, less the adapters' own, which stand with them.
    pub pins: Provenance,
    /// Lowest level that makes the gate fail.
    pub fail_on: Severity,
    /// The adapters, in the order of their paths.
    pub artifacts: Vec<ArtifactReport>,
    /// Findings about the policy itself: waivers that expired or that nothing needs.
    pub policy_findings: Vec<GateFinding>,
    /// Findings of the baseline that are no longer there.
    pub absent: Vec<GateFinding>,
    /// What follows from all of it.
    pub verdict: GateVerdict,
}

/// Digests of what the verdict rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The command that made the report: `scan`, `gate`, or `batch`, whose shards may have been merged; empty in
    /// reports of versions that did not say.
    #[serde(default)]
    pub command: String,
    /// The paths that were looked through, as given.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Whether the numbers of every module were asked for.
    #[serde(default)]
    pub statistics: bool,
    /// What was asked of base and adapted models, where they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The base, where one was given.
    pub base: Option<BasePin>,
    /// The policy.
    pub policy: PolicyPin,
    /// The probes that `compare` read, where it ran.
    pub probes: Option<ProbesPin>,
    /// SHA-256 of the baseline, where one was given.
    pub baseline: Option<String>,
    /// SHA-256 of the program's own file, where the system says which it is.
    #[serde(default)]
    pub tool: Option<String>,
    /// Day that waivers' expiry was held against, YYYY-MM-DD.
    pub date: String,
}

/// A base model, pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BasePin {
    /// Folder, as given.
    pub path: String,
    /// SHA-256 over the lines `<sha256>  <name>` of its weights and config.json, sorted by name; absent where its
    /// weights were not needed.
    pub sha256: Option<String>,
    /// The same over its tokenizer's files.
    pub tokenizer: Option<String>,
    /// The same over the files that hold its chat template.
    pub template: Option<String>,
}

/// A policy, pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyPin {
    /// File, or `default`.
    pub source: String,
    /// SHA-256 of its text.
    pub sha256: String,
}

/// Probes, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbesPin {
    /// Built-in set's name, or the file.
    pub source: String,
    /// SHA-256 of the token ids that both models read, as JSON without blanks.
    pub sha256: String,
}

/// What the gate says of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactReport {
    /// Folder or file, as found under the paths given.
    pub path: String,
    /// SHA-256 over the lines `<sha256>  <path>` of all its files, sorted by path, as `sha256sum` writes them.
    pub sha256: String,
    /// Its files.
    pub files: Vec<FileRecord>,
    /// The adapter in them, where it could be read.
    pub adapter: Option<AdapterSummary>,
    /// What its weights are like, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<WeightStatistics>,
    /// Whether base and adapted model were run side by side.
    pub compared: bool,
    /// What the rules say, worst first.
    pub findings: Vec<GateFinding>,
    /// Why it could not be analysed, where it could not.
    pub error: Option<String>,
    /// What follows.
    pub verdict: GateVerdict,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateFinding {
    /// Code of the rule.
    pub rule: String,
    /// What the policy makes of it.
    pub level: Severity,
    /// The artifact's path.
    pub artifact: String,
    /// File in it; empty where the finding is about the whole.
    pub file: String,
    /// SHA-256 over what it rests on, which is what a waiver names: of the one file in `files`; of several over the
    /// lines `<sha256>  <path>`; of the artifact where `files` is empty.
    pub sha256: String,
    /// The files that it rests on, sorted by path; absent where it rests on the whole artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePin>,
    /// Tensor, module, key or byte range; empty where the finding is about the whole file.
    #[serde(rename = "where")]
    pub location: String,
    /// The number that was judged.
    pub measured: Option<f64>,
    /// The limit it was held against.
    pub limit: Option<f64>,
    /// What was seen.
    pub message: String,
    /// SHA-256 over rule, artifact, file and place, hexadecimal: the same finding has the same in every run.
    pub fingerprint: String,
    /// How it stands to the baseline.
    pub state: BaselineState,
    /// The waiver that covers it.
    pub waiver: Option<WaiverUse>,
}

impl GateFinding {
    /// Whether it counts towards the verdict: not waived, and not in the baseline.
    pub fn counts(&self) -> bool {
        self.waiver.is_none() && self.state == BaselineState::New
    }
}

/// A waiver that covers a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaiverUse {
    /// Why it was accepted.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day that it holds, YYYY-MM-DD.
    pub expires: String,
}

/// How a finding stands to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BaselineState {
    /// Not in the baseline, or there is none, or a file that it rests on has changed since, or its number has grown.
    New,
    /// In the baseline, on the same bytes, and not larger.
    Unchanged,
    /// In the baseline, and no longer there.
    Absent,
}

impl GateReport {
    /// Every finding, the policy's own last.
    pub fn findings(&self) -> impl Iterator<Item = &GateFinding> {
        self.artifacts.iter().flat_map(|artifact| &artifact.findings).chain(&self.policy_findings)
    }
}

/// The JSON Schema of [`GateReport`].
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(GateReport).to_value()
}

/// The report as pretty JSON.
pub fn to_string(report: &GateReport) -> Result<String, DocumentError> {
    let mut text = serde_json::to_string_pretty(report).map_err(DocumentError::Serialize)?;
    text.push('\n');
    Ok(text)
}

/// Writes the report aside, then renames it.
pub fn write(report: &GateReport, path: &Path) -> Result<(), DocumentError> {
    lcr_documents::write::replace(path, to_string(report)?.as_bytes()).map_err(|source| DocumentError::io(path, source))
}

/// Reads a report back. Its verdict is computed anew from its findings; a file that says otherwise is refused.
pub fn read(path: &Path) -> Result<GateReport, DocumentError> {
    let text = fs_err::read_to_string(path).map_err(|source| DocumentError::io(path, source))?;
    parse(path, &text)
}

/// Reads a report's text; `path` is what errors name.
pub(super) fn parse(path: &Path, text: &str) -> Result<GateReport, DocumentError> {
    let report: GateReport =
        serde_json::from_str(text).map_err(|source| DocumentError::Parse { path: path.to_owned(), source })?;
    if report.schema != GATE_SCHEMA {
        return Err(DocumentError::Schema { path: path.to_owned(), expected: GATE_SCHEMA, found: report.schema });
    }
    Ok(report)
}
