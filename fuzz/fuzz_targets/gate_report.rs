//! Reports of the gate: read from JSON, or put together from any text, and written in every form.
#![no_main]

use lcr_fuzz::{Folder, outputs};
use lcr_gate::rules::Severity;
use lcr_gate::{
    ArtifactReport, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, Provenance, PolicyPin, WaiverUse, read,
};
use lcr_scan::FileRecord;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"{") {
        let Some(folder) = Folder::with(&[("gate.json", bytes)]) else { return };
        if let Ok(report) = read(&folder.path().join("gate.json")) {
            outputs::check(&report);
        }
    } else if let Ok(report) = report(&mut Unstructured::new(bytes)) {
        outputs::check(&report);
    }
});

/// Any report.
fn report(from: &mut Unstructured<'_>) -> Result<GateReport> {
    let mut artifacts = Vec::new();
    for _ in 0..from.int_in_range(0..=2)? {
        artifacts.push(ArtifactReport {
            path: text(from)?,
            sha256: text(from)?,
            files: vec![FileRecord { path: text(from)?, bytes: from.arbitrary()?, sha256: text(from)? }],
            adapter: None,
            statistics: None,
            compared: from.arbitrary()?,
            findings: findings(from)?,
            error: from.arbitrary::<bool>()?.then(|| text(from)).transpose()?,
            verdict: GateVerdict::Pass,
        });
    }
    let policy = PolicyPin { source: text(from)?, sha256: text(from)? };
    let mut report = GateReport {
        schema: GATE_SCHEMA.to_owned(),
        tool: serde_json::from_value(serde_json::json!({ "name": "lcr-audit", "version": "0" }))
            .map_err(|_| libfuzzer_sys::arbitrary::Error::IncorrectFormat)?,
        pins: Provenance { policy, date: text(from)?, ..Provenance::default() },
        fail_on: level(from)?,
        artifacts,
        policy_findings: findings(from)?,
        absent: findings(from)?,
        verdict: GateVerdict::Pass,
    };
    report.conclude();
    Ok(report)
}

fn findings(from: &mut Unstructured<'_>) -> Result<Vec<GateFinding>> {
    let count = from.int_in_range(0..=2)?;
    (0..count).map(|_| finding(from)).collect()
}

fn finding(from: &mut Unstructured<'_>) -> Result<GateFinding> {
    let number = |from: &mut Unstructured<'_>| Ok(from.arbitrary::<Option<f64>>()?.filter(|number| number.is_finite()));
    Ok(GateFinding {
        rule: text(from)?,
        level: level(from)?,
        artifact: text(from)?,
        file: text(from)?,
        sha256: text(from)?,
        files: Vec::new(),
        location: text(from)?,
        measured: number(from)?,
        limit: number(from)?,
        message: text(from)?,
        fingerprint: text(from)?,
        state: *from.choose(&[BaselineState::New, BaselineState::Unchanged, BaselineState::Absent])?,
        waiver: match from.arbitrary()? {
            false => None,
            true => Some(WaiverUse { reason: text(from)?, owner: text(from)?, expires: text(from)? }),
        },
    })
}

fn level(from: &mut Unstructured<'_>) -> Result<Severity> {
    Ok(*from.choose(&[Severity::Allow, Severity::Warn, Severity::Deny])?)
}

/// Any text; what is no UTF-8 is replaced.
fn text(from: &mut Unstructured<'_>) -> Result<String> {
    let length = usize::from(from.arbitrary::<u8>()?).min(from.len());
    Ok(String::from_utf8_lossy(from.bytes(length)?).into_owned())
}
