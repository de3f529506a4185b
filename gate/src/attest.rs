//! The report as an in-toto Statement, which `cosign` and others sign: these bytes were judged so, by this policy, on
//! this day.
//!
//! Subjects are single files by their SHA-256, so that whoever holds one of them can ask for it. Nothing is signed
//! here: a statement without a signature says no more than the report that it was made from.

use lcr_documents::DocumentError;
use serde::{Deserialize, Serialize};

use super::report::{ArtifactReport, GateFinding, GateReport, Provenance, to_string};
use super::verdict::GateVerdict;
use crate::rules::Severity;

use super::pin::digest_of_bytes;

/// What a Statement is, by the standard.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What the predicate of this program's statements is; another meaning of a field is another version.
pub const PREDICATE_TYPE: &str = "urn:lcr-audit:attestation:gate:v1";

/// A file and its digest, as statements name what they speak of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatementSubject {
    /// Path of adapter or base, and the file's in it.
    pub name: String,
    /// Its digests by algorithm.
    pub digest: Digests,
}

/// Digests of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl StatementSubject {
    /// A file by its name and digest.
    pub fn new(name: String, sha256: String) -> Self {
        Self { name, digest: Digests { sha256 } }
    }
}

/// An in-toto Statement, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Always [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// Every file of the adapters and of the base.
    pub subject: Vec<StatementSubject>,
    /// Always [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// What is said of them.
    pub predicate: Predicate,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    /// Of all adapters together.
    pub verdict: GateVerdict,
    /// Lowest level that fails.
    pub fail_on: Severity,
    /// The program: name, version.
    pub tool: lcr_documents::audit::Tool,
    /// Digests of policy, base, probes, baseline and program, and the day.
    pub pins: Provenance,
    /// What was said of each adapter.
    pub adapters: Vec<Judged>,
    /// The report that this was made from.
    pub report: ReportPin,
}

/// What was said of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Its path.
    pub path: String,
    /// SHA-256 over the lines `<sha256>  <path>` of its files.
    pub sha256: String,
    /// What follows for it.
    pub verdict: GateVerdict,
    /// Whether base and adapted model were run side by side.
    pub compared: bool,
    /// Findings that count, by level.
    pub findings: Counts,
    /// Codes of the findings that fail, sorted.
    pub failing: Vec<String>,
    /// Files that were not read, and are no subject therefore.
    pub unread: Vec<String>,
    /// Why it could not be analysed, where it could not.
    pub error: Option<String>,
}

/// Numbers of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// At level deny.
    pub deny: usize,
    /// At level warn.
    pub warn: usize,
    /// At level allow.
    pub allow: usize,
    /// Covered by a waiver.
    pub waived: usize,
    /// Known to the baseline.
    pub known: usize,
}

/// The report, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPin {
    /// Its schema.
    pub schema: String,
    /// SHA-256 of its JSON as `--write json=FILE` writes it.
    pub sha256: String,
}

/// The report as a statement; `base` are the base's files, where there is one.
pub fn attest(report: &GateReport, base: Vec<StatementSubject>) -> Result<Statement, DocumentError> {
    let of_adapters = report.artifacts.iter().flat_map(subjects);
    let mut subject: Vec<StatementSubject> = of_adapters.chain(base).collect();
    subject.sort();
    subject.dedup();
    Ok(Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject,
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: Predicate {
            verdict: report.verdict,
            fail_on: report.fail_on,
            tool: report.tool.clone(),
            pins: report.pins.clone(),
            adapters: report.artifacts.iter().map(|artifact| judged(artifact, report.fail_on)).collect(),
            report: ReportPin { schema: report.schema.clone(), sha256: digest_of_bytes(to_string(report)?.as_bytes()) },
        },
    })
}

/// The statement as JSON, names of strangers escaped.
pub fn statement_to_string(statement: &Statement) -> Result<String, DocumentError> {
    let text = serde_json::to_string_pretty(statement).map_err(DocumentError::Serialize)?;
    Ok(lcr_documents::characters::visible_json(&text) + "\n")
}

/// The files of an adapter that were read.
fn subjects(artifact: &ArtifactReport) -> impl Iterator<Item = StatementSubject> {
    let read = artifact.files.iter().filter(|file| !file.sha256.is_empty());
    read.map(|file| StatementSubject::new(name_of(artifact, &file.path), file.sha256.clone()))
}

/// The path of a file as the run named it; a lone file is its own artifact.
fn name_of(artifact: &ArtifactReport, file: &str) -> String {
    let is_lone = artifact.files.len() == 1 && artifact.path.rsplit('/').next() == Some(file);
    if is_lone { artifact.path.clone() } else { format!("{}/{file}", artifact.path.trim_end_matches('/')) }
}

fn judged(artifact: &ArtifactReport, fail_on: Severity) -> Judged {
    let count =
        |belongs: &dyn Fn(&GateFinding) -> bool| artifact.findings.iter().filter(|finding| belongs(finding)).count();
    let at = |level: Severity| count(&|finding| finding.counts() && finding.level == level);
    let fails = |finding: &&GateFinding| finding.counts() && finding.level >= fail_on;
    let mut failing: Vec<String> = artifact.findings.iter().filter(fails).map(|finding| finding.rule.clone()).collect();
    failing.sort();
    failing.dedup();
    Judged {
        path: artifact.path.clone(),
        sha256: artifact.sha256.clone(),
        verdict: artifact.verdict,
        compared: artifact.compared,
        findings: Counts {
            deny: at(Severity::Deny),
            warn: at(Severity::Warn),
            allow: at(Severity::Allow),
            waived: count(&|finding| finding.waiver.is_some()),
            known: count(&|finding| finding.waiver.is_none() && !finding.counts()),
        },
        failing,
        unread: artifact.files.iter().filter(|file| file.sha256.is_empty()).map(|file| file.path.clone()).collect(),
        error: artifact.error.clone(),
    }
}
