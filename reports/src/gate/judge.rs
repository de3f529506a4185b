//! Observations, and an audit where there is one, against a policy.

use lcr_analysis::audit::{Audit, Level, Tool};
use lcr_scan::{Observation, Scan};

use super::pin::digest_of_bytes;
use super::report::{
    ArtifactReport, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, Pins, PolicyPin, WaiverUse,
};
use crate::number::plain;
use crate::policy::{Policy, Rule, RuleLevel, SizeRule, sizes};

/// One adapter, as far as it was looked at.
#[derive(Debug)]
pub struct Subject {
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
pub fn judge(subjects: Vec<Subject>, policy: &Policy, mut pins: Pins) -> GateReport {
    pins.policy = PolicyPin { source: policy.source.clone(), sha256: policy.sha256.clone() };
    let base_digest = pins.base.as_ref().and_then(|base| base.sha256.clone());
    let mut used = vec![false; policy.waivers.len()];
    let mut artifacts: Vec<ArtifactReport> = subjects
        .into_iter()
        .map(|subject| artifact(subject, policy, base_digest.as_deref(), &pins.date, &mut used))
        .collect();
    artifacts.sort_by(|left, right| left.path.cmp(&right.path));
    let mut report = GateReport {
        schema: GATE_SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        policy_findings: waiver_findings(policy, &pins.date, &used),
        pins,
        fail_on: policy.fail_on,
        artifacts,
        absent: Vec::new(),
        verdict: GateVerdict::Pass,
    };
    report.conclude();
    report
}

fn artifact(subject: Subject, policy: &Policy, base: Option<&str>, date: &str, used: &mut [bool]) -> ArtifactReport {
    let Subject { path, scan, audit, not_compared, error } = subject;
    let judging = Judging { policy, path: &path, scan: &scan };
    let mut findings: Vec<GateFinding> =
        scan.observations.iter().filter_map(|seen| judging.observation(seen)).collect();
    findings.extend(judging.restrictions(base));
    if let Some(audit) = &audit {
        findings.extend(judge_comparison(audit, policy, &path, &scan.sha256));
    }
    if let Some(reason) = not_compared {
        findings.push(judging.finding(
            "not-compared",
            "",
            "",
            None,
            format!("the policy asks for a comparison: {reason}"),
        ));
    }
    for finding in &mut findings {
        waive(finding, &scan.sha256, policy, date, used);
    }
    findings.sort_by(|left, right| {
        (right.level, &left.rule, &left.file, &left.location).cmp(&(
            left.level,
            &right.rule,
            &right.file,
            &right.location,
        ))
    });
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

/// What is needed to make a finding of one artifact.
struct Judging<'a> {
    policy: &'a Policy,
    path: &'a str,
    scan: &'a Scan,
}

impl Judging<'_> {
    fn finding(&self, code: &str, file: &str, location: &str, measured: Option<f64>, message: String) -> GateFinding {
        let sha256 = self.scan.files.iter().find(|record| record.path == file && !record.sha256.is_empty());
        GateFinding {
            rule: code.to_owned(),
            level: self.policy.level(code, self.path),
            artifact: self.path.to_owned(),
            file: file.to_owned(),
            sha256: sha256.map_or_else(|| self.scan.sha256.clone(), |record| record.sha256.clone()),
            location: location.to_owned(),
            measured,
            limit: self.policy.limit(code, self.path),
            message,
            fingerprint: fingerprint(code, self.path, file, location),
            state: BaselineState::New,
            waiver: None,
        }
    }

    /// The finding of an observation; `None` where its number is within the limit.
    fn observation(&self, seen: &Observation) -> Option<GateFinding> {
        let code = seen.check.code();
        let finding = self.finding(code, &seen.file, &seen.place, seen.measured, seen.message.clone());
        match (finding.limit, seen.measured) {
            (Some(limit), Some(measured)) if measured <= limit => None,
            (Some(limit), Some(_)) => {
                Some(GateFinding { message: format!("{} (limit {})", seen.message, plain(limit)), ..finding })
            }
            // A rule with a limit whose number could not be had is a finding: nothing passes for want of a number.
            _ => Some(finding),
        }
    }

    /// What the policy restricts beside its rules.
    fn restrictions(&self, base: Option<&str>) -> Vec<GateFinding> {
        let mut findings = Vec::new();
        let mut push = |code, file: &str, place: &str, measured, message| {
            findings.push(self.finding(code, file, place, measured, message));
        };
        let allowed = &self.policy.allowed;
        if let Some(adapter) = &self.scan.adapter {
            if let Some(formats) = allowed.formats.as_ref().filter(|formats| !formats.contains(&adapter.format)) {
                let message = format!("the layout is {}, the policy allows {}", adapter.format, formats.join(", "));
                push("format-not-allowed", &adapter.file, "", None, message);
            }
            if let Some(targets) = &allowed.targets {
                for target in adapter.targets.iter().filter(|target| !targets.contains(target)) {
                    let message = format!("`{target}` is changed, the policy allows {}", targets.join(", "));
                    push("target-not-allowed", &adapter.file, target, None, message);
                }
            }
            let name = adapter.base_model.as_deref().unwrap_or("");
            if !self.policy.allows_base_model(name) {
                let message = format!("the config names the base `{name}`, which the policy does not list");
                push("base-model-not-allowed", &adapter.file, "", None, message);
            }
        }
        if let (Some(expected), Some(found)) = (&self.policy.base.sha256, base)
            && !expected.eq_ignore_ascii_case(found)
        {
            push("base-digest", "", "", None, format!("the base has digest {found}, the policy asks for {expected}"));
        }
        let bytes: u64 = self.scan.files.iter().map(|file| file.bytes).sum();
        if let Some(limit) = self.policy.limit("size", self.path).filter(|limit| bytes as f64 > *limit) {
            let message = format!("{bytes} bytes in {} files (limit {})", self.scan.files.len(), plain(limit));
            push("size", "", "", Some(bytes as f64), message);
        }
        findings
    }
}

/// What the rules of a comparison say under a policy.
pub fn judge_comparison(audit: &Audit, policy: &Policy, path: &str, sha256: &str) -> Vec<GateFinding> {
    let file = "";
    let make = |rule: &str, location: &str, measured: Option<f64>, limit: Option<f64>, message: String| GateFinding {
        rule: rule.to_owned(),
        level: policy.level(rule, path),
        artifact: path.to_owned(),
        file: file.to_owned(),
        sha256: sha256.to_owned(),
        location: location.to_owned(),
        measured,
        limit,
        message,
        fingerprint: fingerprint(rule, path, file, location),
        state: BaselineState::New,
        waiver: None,
    };
    // By the policy's limits, which may be wider or tighter than those that `compare` judges by.
    let mut findings: Vec<GateFinding> = crate::policy::findings(audit, |rule| policy.limit(rule, path))
        .iter()
        .map(|found| {
            let own = make(&found.rule, &found.location, found.measured, found.limit, found.message.clone());
            // A whole tensor that equals the base's is noted, and is no reason to refuse.
            let is_equal_tensor = found.level == Level::Note && found.rule == Rule::WholeTensor.code();
            GateFinding { level: if is_equal_tensor { RuleLevel::Allow } else { own.level }, ..own }
        })
        .collect();
    for size in sizes(audit, policy, path).into_iter().filter(|size| size.measured > size.limit) {
        let meaning = SizeRule::of(&size.rule).map_or("size", |rule| rule.meaning);
        let message = format!("{meaning}: {} (limit {})", plain(size.measured), plain(size.limit));
        findings.push(make(&size.rule, &size.location, Some(size.measured), Some(size.limit), message));
    }
    findings
}

/// Covers a finding by the first waiver of its rule and digest that still holds.
fn waive(finding: &mut GateFinding, artifact: &str, policy: &Policy, date: &str, used: &mut [bool]) {
    for (waiver, used) in policy.waivers.iter().zip(used) {
        let covers = waiver.rule == finding.rule
            && (waiver.sha256 == finding.sha256 || waiver.sha256 == artifact)
            && waiver.location.as_ref().is_none_or(|location| *location == finding.location);
        if !covers {
            continue;
        }
        *used = true;
        if waiver.expires.as_str() >= date && finding.waiver.is_none() {
            finding.waiver = Some(WaiverUse {
                reason: waiver.reason.clone(),
                owner: waiver.owner.clone(),
                expires: waiver.expires.clone(),
            });
        }
    }
}

/// Waivers that expired, and those that nothing needed.
fn waiver_findings(policy: &Policy, date: &str, used: &[bool]) -> Vec<GateFinding> {
    let mut findings = Vec::new();
    for (index, (waiver, used)) in policy.waivers.iter().zip(used).enumerate() {
        let expired = waiver.expires.as_str() < date;
        let (code, message) = match (expired, used) {
            (true, _) => (
                "waiver-expired",
                format!(
                    "the waiver of `{}` by {} expired on {}: {}",
                    waiver.rule, waiver.owner, waiver.expires, waiver.reason
                ),
            ),
            (false, false) => (
                "waiver-stale",
                format!(
                    "nothing needs the waiver of `{}` by {} any more (digest {}): remove it, lest it cover what comes next",
                    waiver.rule, waiver.owner, waiver.sha256
                ),
            ),
            (false, true) => continue,
        };
        let location = format!("waivers[{index}]");
        findings.push(GateFinding {
            rule: code.to_owned(),
            level: policy.level(code, ""),
            artifact: String::new(),
            file: policy.source.clone(),
            sha256: policy.sha256.clone(),
            measured: None,
            limit: None,
            message,
            fingerprint: fingerprint(code, "", &policy.source, &format!("{}:{}", waiver.rule, waiver.sha256)),
            location,
            state: BaselineState::New,
            waiver: None,
        });
    }
    findings
}

fn fingerprint(rule: &str, artifact: &str, file: &str, location: &str) -> String {
    digest_of_bytes([rule, artifact, file, location].join("\u{0}").as_bytes())
}
