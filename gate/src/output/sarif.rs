//! The report as SARIF 2.1.0, which code scanning services read.
//!
//! Only what the gate has to say is modelled here, in the names and the order of the standard. A binary file has no
//! lines, so a finding in one has no region: tensor, module or byte range stand as a logical location. Text by
//! strangers goes into messages, where it can neither hide, nor become a link or a placeholder; in addresses it is
//! percent-encoded.

use std::collections::BTreeMap;

use lcr_documents::DocumentError;
use lcr_documents::text::{link_component, shortened, visible};
use serde::Serialize;

use crate::report::{ArtifactReport, BaselineState, GateFinding, GateReport, Provenance};
use crate::rules::{Severity, rule};
use crate::verdict::GateVerdict;

/// Where the standard's schema is published.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Under this name readers find the same finding in the results of another run.
const FINGERPRINT: &str = "lcrAudit/v1";

/// Longest message; whoever needs the rest finds it in the report's own JSON.
const LONGEST_TEXT: usize = 4000;

/// Names of files that have lines, by their ending.
const TEXT_FILES: [&str; 12] =
    ["json", "jsonl", "jinja", "jinja2", "py", "sh", "txt", "md", "toml", "yaml", "yml", "cfg"];

/// The report as one SARIF log with one run.
pub fn sarif(report: &GateReport) -> Result<String, DocumentError> {
    let log = Log { schema: SCHEMA, version: "2.1.0", runs: [Run::of(report)] };
    let mut text = serde_json::to_string_pretty(&log).map_err(DocumentError::Serialize)?;
    text.push('\n');
    Ok(text)
}

#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
struct Run<'a> {
    tool: Tool<'a>,
    invocations: [Invocation; 1],
    artifacts: Vec<Artifact<'a>>,
    results: Vec<SarifResult<'a>>,
    properties: RunProperties<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunProperties<'a> {
    schema: &'a str,
    verdict: GateVerdict,
    fail_on: Severity,
    pins: &'a Provenance,
}

#[derive(Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver<'a> {
    name: &'a str,
    version: &'a str,
    semantic_version: &'a str,
    rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    id: &'a str,
    short_description: Text,
    full_description: Text,
    help: Text,
    default_configuration: Configuration,
    properties: RuleProperties,
}

#[derive(Serialize)]
struct Configuration {
    level: &'static str,
}

/// What GitHub sorts and filters by: it has a severity per rule, not per result, so this is the worst that the policy
/// made of the rule.
#[derive(Serialize)]
struct RuleProperties {
    tags: [&'static str; 1],
    #[serde(rename = "problem.severity")]
    problem: &'static str,
    #[serde(rename = "security-severity")]
    security: &'static str,
}

#[derive(Serialize)]
struct Text {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    exit_code: u8,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Text,
    locations: [Location; 1],
}

#[derive(Serialize)]
struct Artifact<'a> {
    location: ArtifactLocation,
    length: u64,
    /// The hash by the name of its algorithm; empty where the file was not read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hashes: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactLocation {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult<'a> {
    rule_id: &'a str,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_state: Option<BaselineState>,
    /// There even where empty: the standard wants it on every result or on none.
    suppressions: Vec<Suppression>,
    properties: ResultProperties<'a>,
}

#[derive(Serialize)]
struct ResultProperties<'a> {
    sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
}

#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    status: &'static str,
    justification: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logical_locations: Vec<LogicalLocation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    fully_qualified_name: String,
}

impl<'a> Run<'a> {
    fn of(report: &'a GateReport) -> Self {
        let levels = worst_levels(report);
        let (artifacts, indices) = artifacts(report);
        let failed = report.artifacts.iter().filter_map(|artifact| notification(artifact, &indices));
        let invocation = Invocation {
            execution_successful: report.verdict != GateVerdict::Incomplete,
            exit_code: report.verdict.exit_code(),
            tool_execution_notifications: failed.collect(),
        };
        let results = report.findings().chain(&report.absent).map(|finding| {
            let rule_index = levels.keys().position(|code| *code == finding.rule).unwrap_or_default();
            SarifResult::of(finding, rule_index, report, &indices)
        });
        let driver = Driver {
            name: &report.tool.name,
            version: &report.tool.version,
            semantic_version: &report.tool.version,
            rules: levels.iter().map(|(code, level)| Rule::of(code, *level)).collect(),
        };
        Self {
            tool: Tool { driver },
            invocations: [invocation],
            results: results.collect(),
            artifacts,
            properties: RunProperties {
                schema: &report.schema,
                verdict: report.verdict,
                fail_on: report.fail_on,
                pins: &report.pins,
            },
        }
    }
}

impl<'a> Rule<'a> {
    /// `worst` is the worst level that a finding of the rule has.
    fn of(code: &'a str, worst: Severity) -> Self {
        let (problem, security) = worst.in_code_scanning();
        let properties = RuleProperties { tags: ["security"], problem, security };
        let Some(entry) = rule(code) else {
            let unknown = || Text::plain(&format!("{code}: a rule that this version does not document"));
            let default_configuration = Configuration { level: worst.in_sarif() };
            let (short_description, full_description, help) = (unknown(), unknown(), unknown());
            return Self { id: code, short_description, full_description, help, default_configuration, properties };
        };
        let help = Text {
            text: format!("{}\n\nExample: {}\n\nTo repair or accept: {}", entry.why, entry.example, entry.accept),
            markdown: Some(format!(
                "{}\n\n**Example.** {}\n\n**To repair or accept.** {}",
                entry.why, entry.example, entry.accept
            )),
        };
        Self {
            id: code,
            short_description: Text { text: entry.title.to_owned(), markdown: None },
            full_description: Text { text: entry.why.to_owned(), markdown: None },
            help,
            default_configuration: Configuration { level: entry.level.in_sarif() },
            properties,
        }
    }
}

impl<'a> SarifResult<'a> {
    fn of(finding: &'a GateFinding, rule_index: usize, report: &GateReport, indices: &Indices) -> Self {
        let suppression = finding.waiver.as_ref().map(|waiver| Suppression {
            kind: "external",
            status: "accepted",
            justification: visible(&format!("{} ({}, until {})", waiver.reason, waiver.owner, waiver.expires)),
        });
        // What is gone must never look like what is there, whether or not the report still names its baseline.
        let is_compared = report.pins.baseline.is_some() || finding.state == BaselineState::Absent;
        Self {
            rule_id: &finding.rule,
            rule_index,
            level: finding.level.in_sarif(),
            message: Text::plain(&finding.message),
            locations: [location(finding, report, indices)],
            partial_fingerprints: BTreeMap::from([(FINGERPRINT, finding.fingerprint.as_str())]),
            baseline_state: is_compared.then_some(finding.state),
            suppressions: suppression.into_iter().collect(),
            properties: ResultProperties {
                sha256: &finding.sha256,
                measured: finding.measured.filter(|value| value.is_finite()),
                limit: finding.limit.filter(|value| value.is_finite()),
            },
        }
    }
}

impl Text {
    /// Text by someone else. In a message of the standard, braces mark placeholders and square brackets links.
    fn plain(text: &str) -> Self {
        let shown = shortened(&visible(text), LONGEST_TEXT);
        let mut plain = String::with_capacity(shown.len());
        for character in shown.chars() {
            match character {
                '{' => plain.push_str("{{"),
                '}' => plain.push_str("}}"),
                '[' => plain.push_str("\\["),
                ']' => plain.push_str("\\]"),
                other => plain.push(other),
            }
        }
        Self { text: plain, markdown: None }
    }
}

/// Position of each address in the run's list of artifacts.
type Indices = BTreeMap<String, usize>;

/// The rules used, by their codes, each with the worst level of its findings.
fn worst_levels(report: &GateReport) -> BTreeMap<&str, Severity> {
    let mut levels = BTreeMap::new();
    for finding in report.findings().chain(&report.absent) {
        let level = levels.entry(finding.rule.as_str()).or_insert(finding.level);
        *level = finding.level.max(*level);
    }
    levels
}

/// Every file once, and where each stands.
fn artifacts(report: &GateReport) -> (Vec<Artifact<'_>>, Indices) {
    let mut indices = Indices::new();
    let mut artifacts = Vec::new();
    for artifact in &report.artifacts {
        for file in &artifact.files {
            let uri = uri(&artifact.path, &file.path);
            if indices.contains_key(&uri) {
                continue;
            }
            indices.insert(uri.clone(), artifacts.len());
            let hash = Some(("sha-256", file.sha256.as_str())).filter(|(_, digest)| !digest.is_empty());
            artifacts.push(Artifact {
                location: ArtifactLocation { uri, index: None },
                length: file.bytes,
                hashes: hash.into_iter().collect(),
            });
        }
    }
    (artifacts, indices)
}

/// That an artifact could not be analysed, where it could not.
fn notification(artifact: &ArtifactReport, indices: &Indices) -> Option<Notification> {
    let error = artifact.error.as_ref()?;
    let locations = [Location::at(uri(&artifact.path, ""), indices)];
    Some(Notification { level: "error", message: Text::plain(error), locations })
}

/// Where a finding is. One about the policy stands in the policy's file.
fn location(finding: &GateFinding, report: &GateReport, indices: &Indices) -> Location {
    let uri = match finding.artifact.as_str() {
        "" if finding.file.is_empty() && report.pins.policy.source != "default" => uri(&report.pins.policy.source, ""),
        artifact => uri(artifact, &finding.file),
    };
    let mut location = Location::at(uri, indices);
    if !finding.location.is_empty() {
        let fully_qualified_name = shortened(&visible(&finding.location), LONGEST_TEXT);
        location.logical_locations.push(LogicalLocation { fully_qualified_name });
    }
    location
}

impl Location {
    fn at(uri: String, indices: &Indices) -> Self {
        let ending = uri.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
        let region = TEXT_FILES.contains(&ending.as_str()).then_some(Region { start_line: 1 });
        let artifact_location = ArtifactLocation { index: indices.get(&uri).copied(), uri };
        Self { physical_location: PhysicalLocation { artifact_location, region }, logical_locations: Vec::new() }
    }
}

/// The address of a file in an artifact, or of the artifact where no file is named: relative, unless the artifact's
/// path is not.
fn uri(artifact: &str, file: &str) -> String {
    let mut parts: Vec<&str> = components(artifact).collect();
    // An artifact that is a single file holds a file of its own name.
    if parts.last() != Some(&file) {
        parts.extend(components(file));
    }
    let path = parts.into_iter().map(link_component).collect::<Vec<_>>().join("/");
    match path.as_str() {
        _ if artifact.starts_with('/') => format!("file:///{path}"),
        "" => ".".to_owned(),
        _ => path,
    }
}

/// The parts of a path that say something.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split(std::path::is_separator).filter(|part| !part.is_empty() && *part != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded_and_never_name_a_scheme_or_a_host() {
        assert_eq!(uri("./adapters/a b", "x#y?.bin"), "adapters/a%20b/x%23y%3F.bin");
        assert_eq!(uri("javascript:alert(1)", ""), "javascript%3Aalert%281%29");
        assert_eq!(uri("//evil/é", "f"), "file:///evil/%C3%A9/f");
        assert_eq!(uri("a/one.bin", "one.bin"), "a/one.bin");
        assert_eq!(uri("", ""), ".");
    }

    #[test]
    fn messages_hold_no_links_and_no_placeholders() {
        assert_eq!(Text::plain("[a](https://b) {0}\u{202e}").text, "\\[a\\](https://b) {{0}}\\u{{202e}}");
    }
}
