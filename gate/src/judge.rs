//! Observations, and an audit where there is one, against a policy.

use lcr_documents::audit::{Audit, Tool};
use lcr_documents::number::plain;
use lcr_scan::Scan;

use super::pin::digest_of_bytes;
use super::report::{ArtifactReport, BaselineState, GATE_SCHEMA, GateFinding, GateReport, PolicyPin, Provenance};
use super::rests;
use super::verdict::GateVerdict;
use super::waivers::Waivers;
use crate::policy::{Policy, Settings};
use crate::rules::{self, Evidence, Found, Judge, Rule};

/// One adapter, as far as it was looked at.
#[derive(Debug)]
pub struct ScannedAdapter {
    /// Folder or file.
    pub path: String,
    /// What its files hold.
    pub scan: Scan,
    /// Base and adapted model side by side, where the policy asks for that and it could be done.
    pub audit: Option<Audit>,
    /// Why the policy's comparison was not made, where it was asked for.
    pub not_compared: Option<String>,
    /// Why the adapter could not be analysed at all.
    pub error: Option<String>,
}

/// Judges every subject; `pins.policy` is filled in here, and waivers are held against `pins.date`.
pub fn judge(subjects: Vec<ScannedAdapter>, policy: &Policy, mut pins: Provenance) -> GateReport {
    pins.policy = PolicyPin { source: policy.source.clone(), sha256: policy.sha256.clone() };
    let base_digest = pins.base.as_ref().and_then(|base| base.sha256.clone());
    let mut waivers = Waivers::new(policy, &pins.date);
    let mut artifacts: Vec<ArtifactReport> =
        subjects.into_iter().map(|subject| artifact(subject, policy, base_digest.as_deref(), &mut waivers)).collect();
    artifacts.sort_by(|left, right| left.path.cmp(&right.path));
    let mut report = GateReport {
        schema: GATE_SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        policy_findings: waivers.findings(),
        pins,
        fail_on: policy.fail_on,
        artifacts,
        absent: Vec::new(),
        verdict: GateVerdict::Pass,
    };
    report.conclude();
    report
}

fn artifact(subject: ScannedAdapter, policy: &Policy, base: Option<&str>, waivers: &mut Waivers<'_>) -> ArtifactReport {
    let ScannedAdapter { path, scan, audit, not_compared, error } = subject;
    let settings = policy.at(&path);
    let evidence =
        Evidence { scan: &scan, policy, settings: &settings, base_sha256: base, not_compared: not_compared.as_deref() };
    let mut findings = of_files(&evidence, &path);
    let unanswered = audit.as_ref().map(|audit| policy.unanswered(audit)).unwrap_or_default();
    let error = error.or_else(|| (!unanswered.is_empty()).then(|| unanswered.join("; ")));
    if let Some(audit) = &audit {
        findings.extend(judge_comparison(audit, policy, &path, &scan.sha256));
    }
    for finding in &mut findings {
        waivers.cover(finding, &scan.sha256);
    }
    sort(&mut findings);
    findings.dedup();
    ArtifactReport {
        path,
        sha256: scan.sha256,
        files: scan.files,
        adapter: scan.adapter,
        statistics: None,
        compared: audit.is_some(),
        findings,
        error,
        verdict: GateVerdict::Pass,
    }
}

/// What the rules say of an adapter's files, and of what the policy restricts or asks for.
fn of_files(evidence: &Evidence<'_>, path: &str) -> Vec<GateFinding> {
    let observed = evidence.scan.observations.iter().filter_map(|seen| {
        let rule = rules::rule_of_check(seen.check);
        let is_exception = rule.judges.iter().any(|judge| match judge {
            Judge::ScanUnless(check, is_exception) => *check == seen.check && is_exception(evidence),
            _ => false,
        });
        if is_exception { None } else { Some((rule, rules::observed(rule, seen, evidence)?)) }
    });
    let restricted = rules::rules().flat_map(|rule| {
        let asked = rule.judges.iter().filter_map(|judge| match judge {
            Judge::Policy(judge) => Some(judge(evidence)),
            _ => None,
        });
        asked.flatten().map(move |found| (rule, found))
    });
    observed
        .chain(restricted)
        .map(|(rule, found)| {
            let files = rests::files(evidence.scan, rule.rests_on, &found.file, &found.further);
            let sha256 = rests::digest(&files, &evidence.scan.sha256);
            GateFinding { sha256, files, ..finding(rule, found, evidence.settings, path) }
        })
        .collect()
}

/// What the rules of a comparison say under a policy.
pub fn judge_comparison(audit: &Audit, policy: &Policy, path: &str, sha256: &str) -> Vec<GateFinding> {
    let settings = policy.at(path);
    // By the policy's limits, which may be wider or tighter than the rules' own.
    let changes = rules::compared(audit, |rule| settings.limit(rule));
    let sizes = rules::sizes(audit, &settings).into_iter().filter_map(|(rule, size)| {
        let (meaning, limit) = (rule.size()?.meaning, size.limit);
        let message = format!("{meaning}: {} (limit {})", plain(size.measured), plain(limit));
        (size.measured > limit).then(|| (rule, Found::at(&size.location, message).beyond(size.measured, limit)))
    });
    // What a comparison measures follows from every tensor and setting.
    let on_the_whole =
        |(rule, found)| GateFinding { sha256: sha256.to_owned(), ..finding(rule, found, &settings, path) };
    changes.into_iter().chain(sizes).map(on_the_whole).collect()
}

/// What a rule found, as a finding of the policy: its digest is not filled in.
fn finding(rule: &Rule, found: Found, settings: &Settings<'_>, path: &str) -> GateFinding {
    GateFinding {
        rule: rule.code.to_owned(),
        level: found.severity.unwrap_or_else(|| settings.level(rule)),
        artifact: path.to_owned(),
        fingerprint: fingerprint(rule, path, &found.file, &found.location),
        file: found.file,
        sha256: String::new(),
        files: Vec::new(),
        location: found.location,
        measured: found.measured,
        limit: found.limit,
        message: found.message,
        state: BaselineState::New,
        waiver: None,
    }
}

/// Puts findings into the order of a report: worst first.
pub fn sort(findings: &mut [GateFinding]) {
    findings.sort_by(|left, right| {
        let worst_first = right.level.cmp(&left.level);
        worst_first
            .then_with(|| (&left.rule, &left.file, &left.location).cmp(&(&right.rule, &right.file, &right.location)))
    });
}

/// What a finding has in every run alike.
pub(super) fn fingerprint(rule: &Rule, artifact: &str, file: &str, place: &str) -> String {
    digest_of_bytes([rule.code, artifact, file, place].join("\u{0}").as_bytes())
}
