//! The report for GitLab's Code Quality: a JSON array with an object a finding.
//!
//! GitLab reads description, check, fingerprint, severity, path and first line, and drops all but the first finding of
//! a fingerprint. A binary file has no lines: everything is at the first.

use std::collections::BTreeSet;

use lcr_documents::DocumentError;
use lcr_documents::text::{shortened, visible};
use serde::Serialize;

use crate::pin::digest_of_bytes;
use crate::report::{ArtifactReport, GateFinding, GateReport};
use crate::rules::rule;

/// Longest description; whoever needs the rest finds it in the report's own JSON.
const LONGEST_TEXT: usize = 1000;

#[derive(Serialize)]
struct Issue {
    description: String,
    check_name: String,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: u32,
}

/// The report as a Code Quality report.
pub fn codequality(report: &GateReport) -> Result<String, DocumentError> {
    let findings = report.findings().map(|finding| of_finding(report, finding));
    let errors = report.artifacts.iter().filter_map(of_error);
    let mut issues: Vec<Issue> = findings.chain(errors).collect();
    let mut known = BTreeSet::new();
    for issue in &mut issues {
        // Two findings of one place must not hide each other.
        while !known.insert(issue.fingerprint.clone()) {
            issue.fingerprint = digest_of_bytes(issue.fingerprint.as_bytes());
        }
    }
    let mut text = serde_json::to_string_pretty(&issues).map_err(DocumentError::Serialize)?;
    text.push('\n');
    Ok(text)
}

fn of_finding(report: &GateReport, finding: &GateFinding) -> Issue {
    let title = rule(&finding.rule).map_or("Finding", |rule| rule.title);
    let place = if finding.location.is_empty() { String::new() } else { format!(" at {}", finding.location) };
    let accepted = match &finding.waiver {
        Some(waiver) => format!(" (waived until {} by {})", waiver.expires, waiver.owner),
        None if !finding.counts() => " (known to the baseline)".to_owned(),
        None => String::new(),
    };
    let severity = if finding.counts() { finding.level.in_code_quality(report.fail_on) } else { "info" };
    Issue {
        description: description(&format!("{title}{place}: {}{accepted}", finding.message)),
        check_name: finding.rule.clone(),
        fingerprint: finding.fingerprint.clone(),
        severity,
        location: location(&finding.artifact, &finding.file),
    }
}

/// An adapter that could not be analysed: nothing is known of it, which is no reason to let it pass.
fn of_error(artifact: &ArtifactReport) -> Option<Issue> {
    let error = artifact.error.as_ref()?;
    Some(Issue {
        description: description(&format!("Could not be analysed: {error}")),
        check_name: "not-analysed".to_owned(),
        fingerprint: digest_of_bytes(["not-analysed", &artifact.path].join("\u{0}").as_bytes()),
        severity: "blocker",
        location: location(&artifact.path, ""),
    })
}

fn description(text: &str) -> String {
    shortened(&visible(text), LONGEST_TEXT)
}

/// A path as GitLab writes them: relative, without `./`.
fn location(artifact: &str, file: &str) -> Location {
    let parts: Vec<&str> = [artifact, file].into_iter().filter(|part| !part.is_empty()).collect();
    // A lone file is its own artifact, and named twice.
    let joined = match parts.as_slice() {
        [artifact, file] if artifact.rsplit('/').next() == Some(*file) && artifact.ends_with(".safetensors") => {
            (*artifact).to_owned()
        }
        parts => parts.join("/"),
    };
    let path = joined.trim_start_matches("./");
    Location { path: if path.is_empty() { ".".to_owned() } else { visible(path) }, lines: Lines { begin: 1 } }
}
