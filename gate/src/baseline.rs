//! A baseline: an earlier report whose findings are known, so that only what is new fails the gate.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use lcr_documents::DocumentError;

use super::pin::digest_of_bytes;
use super::report::{BaselineState, GateFinding, GateReport, parse};
use crate::rules::refusal_of;

/// An earlier report's findings.
#[derive(Debug)]
pub struct Baseline {
    /// SHA-256 of the file.
    pub sha256: String,
    findings: Vec<GateFinding>,
}

impl Baseline {
    /// Reads an earlier `gate.json`.
    pub fn open(path: &Path) -> Result<Self, DocumentError> {
        let text = fs_err::read_to_string(path).map_err(|source| DocumentError::io(path, source))?;
        let report = parse(path, &text)?;
        let of_artifacts = report.artifacts.into_iter().flat_map(|artifact| artifact.findings);
        // What a waiver covered then has a day on which it ends; a baseline has none.
        let findings = of_artifacts.chain(report.policy_findings).filter(|finding| finding.waiver.is_none()).collect();
        Ok(Self { sha256: digest_of_bytes(text.as_bytes()), findings })
    }
}

/// Whether a known finding covers one of the same rule, adapter, file and place: on the same bytes, and not beyond its
/// number.
fn covers(known: &GateFinding, finding: &GateFinding) -> bool {
    let is_within = match (known.measured, finding.measured) {
        (Some(known), Some(measured)) => measured <= known,
        (None, None) => true,
        _ => false,
    };
    is_within && known.sha256 == finding.sha256 && refusal_of(finding).is_none()
}

/// Marks what the baseline knows, lists what is gone, and concludes anew.
///
/// A finding is known only on the same bytes: whoever replaces one bad file by another has made a new finding.
pub fn apply_baseline(report: &mut GateReport, baseline: Baseline) {
    let mut known: HashMap<&str, Vec<&GateFinding>> = HashMap::new();
    for finding in &baseline.findings {
        known.entry(finding.fingerprint.as_str()).or_default().push(finding);
    }
    let artifacts = report.artifacts.iter_mut().flat_map(|artifact| &mut artifact.findings);
    for finding in artifacts.chain(&mut report.policy_findings) {
        let same = known.get(finding.fingerprint.as_str()).into_iter().flatten();
        if same.into_iter().any(|known| covers(known, finding)) {
            finding.state = BaselineState::Unchanged;
        }
    }
    let present: HashSet<&str> = report.findings().map(|finding| finding.fingerprint.as_str()).collect();
    let gone = baseline.findings.into_iter().filter(|finding| !present.contains(finding.fingerprint.as_str()));
    report.absent = gone.map(|finding| GateFinding { state: BaselineState::Absent, ..finding }).collect();
    report.pins.baseline = Some(baseline.sha256);
    report.conclude();
}
