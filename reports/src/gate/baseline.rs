//! A baseline: an earlier report whose findings are known, so that only what is new fails the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::report::{BaselineState, GateFinding, GateReport, read};
use crate::error::ReportError;
use crate::policy::hexadecimal;

/// An earlier report's findings.
#[derive(Debug)]
pub struct Baseline {
    /// SHA-256 of the file.
    pub sha256: String,
    findings: Vec<GateFinding>,
}

impl Baseline {
    /// Reads an earlier `gate.json`.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        use sha2::Digest;
        let report = read(path)?;
        let bytes = fs_err::read(path).map_err(|source| ReportError::io(path, source))?;
        let findings = report.findings().cloned().collect();
        Ok(Self { sha256: hexadecimal(&sha2::Sha256::digest(&bytes)), findings })
    }
}

/// Marks what the baseline knows, lists what is gone, and concludes anew.
///
/// A finding is known only on the same bytes: whoever replaces one bad file by another has made a new finding.
pub fn apply_baseline(report: &mut GateReport, baseline: &Baseline) {
    let known: BTreeMap<&str, BTreeSet<&str>> = baseline.findings.iter().fold(BTreeMap::new(), |mut known, finding| {
        known.entry(finding.fingerprint.as_str()).or_insert_with(BTreeSet::new).insert(finding.sha256.as_str());
        known
    });
    let artifacts = report.artifacts.iter_mut().flat_map(|artifact| &mut artifact.findings);
    for finding in artifacts.chain(&mut report.policy_findings) {
        let digests = known.get(finding.fingerprint.as_str());
        if digests.is_some_and(|digests| digests.contains(finding.sha256.as_str())) {
            finding.state = BaselineState::Unchanged;
        }
    }
    let present: BTreeSet<String> = report.findings().map(|finding| finding.fingerprint.clone()).collect();
    report.absent = baseline
        .findings
        .iter()
        .filter(|finding| !present.contains(&finding.fingerprint))
        .map(|finding| GateFinding { state: BaselineState::Absent, ..finding.clone() })
        .collect();
    report.pins.baseline = Some(baseline.sha256.clone());
    report.conclude();
}
