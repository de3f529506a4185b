//! Observations, and an audit where there is one, against a policy.

use std::collections::BTreeMap;

use lcr_documents::audit::{Audit, Level, Tool};
use lcr_documents::number::plain;
use lcr_scan::{Check, Observation, Scan};

use super::pin::digest_of_bytes;
use super::report::{
    ArtifactReport, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, Pins, PolicyPin, WaiverUse,
};
use super::rests;
use crate::policy::{Policy, Rule, RuleLevel, Settings, SizeRule, UNREAD, Waiver, refusal, refusal_of, sizes};

/// Waivers that nothing needed, or that expired, that are listed one by one.
const MOST_WAIVERS: usize = 1_000;

/// What a waiver was found to be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// No finding is of its rule and digest.
    None,
    /// It covers a finding.
    Covers,
    /// It is of a finding that cannot be waived.
    Refused,
}

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
    let mut used = vec![Use::None; policy.waivers.len()];
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

fn artifact(subject: Subject, policy: &Policy, base: Option<&str>, date: &str, used: &mut [Use]) -> ArtifactReport {
    let Subject { path, scan, audit, not_compared, error } = subject;
    let judging = Judging { policy, settings: policy.at(&path), path: &path, scan: &scan };
    let mut findings: Vec<GateFinding> =
        scan.observations.iter().filter_map(|seen| judging.observation(seen)).collect();
    findings.extend(judging.restrictions(base));
    if let Some(audit) = &audit {
        findings.extend(judge_comparison(audit, policy, &path, &scan.sha256));
    }
    if let Some(reason) = not_compared {
        findings.push(judging.finding(
            "not-compared",
            About::default(),
            format!("the policy asks for a comparison: {reason}"),
        ));
    }
    for finding in &mut findings {
        waive(finding, &scan.sha256, policy, date, used);
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

/// Puts findings into the order of a report: worst first.
pub fn sort(findings: &mut [GateFinding]) {
    findings.sort_by(|left, right| {
        let worst_first = right.level.cmp(&left.level);
        worst_first
            .then_with(|| (&left.rule, &left.file, &left.location).cmp(&(&right.rule, &right.file, &right.location)))
    });
}

/// What is needed to make a finding of one artifact.
struct Judging<'a> {
    policy: &'a Policy,
    settings: Settings<'a>,
    path: &'a str,
    scan: &'a Scan,
}

/// What a finding is about.
#[derive(Clone, Copy, Default)]
struct About<'a> {
    /// File; the whole artifact where it is empty.
    file: &'a str,
    place: &'a str,
    measured: Option<f64>,
    /// Further files that it rests on.
    further: &'a [String],
}

impl<'a> About<'a> {
    fn file(file: &'a str, place: &'a str) -> Self {
        Self { file, place, ..Self::default() }
    }
}

impl Judging<'_> {
    fn finding(&self, code: &str, about: About<'_>, message: String) -> GateFinding {
        let files = rests::files(self.scan, code, about.file, about.further);
        GateFinding {
            rule: code.to_owned(),
            level: self.settings.level(code),
            artifact: self.path.to_owned(),
            file: about.file.to_owned(),
            sha256: rests::digest(&files, &self.scan.sha256),
            files,
            location: about.place.to_owned(),
            measured: about.measured,
            limit: self.settings.limit(code),
            message,
            fingerprint: fingerprint(code, self.path, about.file, about.place),
            state: BaselineState::New,
            waiver: None,
        }
    }

    /// The finding of an observation; `None` where its number is within the limit.
    fn observation(&self, seen: &Observation) -> Option<GateFinding> {
        let code = seen.check.code();
        let named = self.scan.adapter.as_ref().and_then(|adapter| adapter.base_model.as_deref());
        if seen.check == Check::BaseNameMismatch && named.is_some_and(|name| self.policy.is_name_of_base(name)) {
            return None;
        }
        let about = About { measured: seen.measured, further: &seen.rests_on, ..About::file(&seen.file, &seen.place) };
        let finding = self.finding(code, about, seen.message.clone());
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
        let mut push = |code, about, message| findings.push(self.finding(code, about, message));
        let allowed = &self.policy.allowed;
        if let Some(adapter) = &self.scan.adapter {
            let file = adapter.file.as_str();
            if let Some(formats) = allowed.formats.as_ref().filter(|formats| !formats.contains(&adapter.format)) {
                let message = format!("the layout is {}, the policy allows {}", adapter.format, formats.join(", "));
                push("format-not-allowed", About::file(file, ""), message);
            }
            if let Some(targets) = &allowed.targets {
                for target in adapter.targets.iter().filter(|target| !targets.contains(target)) {
                    let message = format!("`{target}` is changed, the policy allows {}", targets.join(", "));
                    push("target-not-allowed", About::file(file, target), message);
                }
            }
            let name = adapter.base_model.as_deref().unwrap_or("");
            if !self.policy.allows_base_model(name) {
                let message = format!("the config names the base `{name}`, which the policy does not list");
                push("base-model-not-allowed", About::file(file, ""), message);
            }
            let revision = adapter.revision.as_deref();
            if !self.policy.allows_revision(revision) {
                let asked = revision.map_or("none, which means `main`".to_owned(), |name| format!("`{name}`"));
                let message = format!("the revision that the config names is {asked}: the policy does not list it");
                push("revision-not-allowed", About::file(file, ""), message);
            }
        }
        if let (Some(expected), Some(found)) = (&self.policy.base.sha256, base)
            && !expected.eq_ignore_ascii_case(found)
        {
            let message = format!("the base has digest {found}, the policy asks for {expected}");
            push("base-digest", About::default(), message);
        }
        let bytes: u64 = self.scan.files.iter().map(|file| file.bytes).sum();
        if let Some(limit) = self.settings.limit("size").filter(|limit| bytes as f64 > *limit) {
            let message = format!("{bytes} bytes in {} files (limit {})", self.scan.files.len(), plain(limit));
            push("size", About { measured: Some(bytes as f64), ..About::default() }, message);
        }
        findings
    }
}

/// What the rules of a comparison say under a policy.
pub fn judge_comparison(audit: &Audit, policy: &Policy, path: &str, sha256: &str) -> Vec<GateFinding> {
    let file = "";
    let settings = policy.at(path);
    let make = |rule: &str, location: &str, measured: Option<f64>, limit: Option<f64>, message: String| GateFinding {
        rule: rule.to_owned(),
        level: settings.level(rule),
        artifact: path.to_owned(),
        file: file.to_owned(),
        sha256: sha256.to_owned(),
        // What a comparison measures follows from every tensor and setting.
        files: Vec::new(),
        location: location.to_owned(),
        measured,
        limit,
        message,
        fingerprint: fingerprint(rule, path, file, location),
        state: BaselineState::New,
        waiver: None,
    };
    // By the policy's limits, which may be wider or tighter than those that `compare` judges by.
    let mut findings: Vec<GateFinding> = crate::policy::findings(audit, |rule| settings.limit(rule))
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
fn waive(finding: &mut GateFinding, artifact: &str, policy: &Policy, date: &str, used: &mut [Use]) {
    let is_refused = refusal_of(finding).is_some();
    let is_whole = finding.sha256 == artifact;
    let of_files = policy.waivers_of(&finding.rule, &finding.sha256);
    let of_artifact = policy.waivers_of(&finding.rule, artifact).filter(|_| !is_whole);
    let mut found: Vec<_> = of_files.chain(of_artifact).filter(|(_, waiver)| covers(waiver, finding)).collect();
    found.sort_by_key(|(place, _)| *place);
    for (place, _) in &found {
        if let Some(used) = used.get_mut(*place) {
            *used = if is_refused { Use::Refused } else { (*used).max(Use::Covers) };
        }
    }
    if is_refused {
        return;
    }
    finding.waiver = found.iter().find(|(_, waiver)| waiver.expires.as_str() >= date).map(|(_, waiver)| WaiverUse {
        reason: waiver.reason.clone(),
        owner: waiver.owner.clone(),
        expires: waiver.expires.clone(),
    });
}

/// Whether a waiver of the right rule and digest is of this place, and of a number as large.
fn covers(waiver: &Waiver, finding: &GateFinding) -> bool {
    let is_there = waiver.location.as_ref().is_none_or(|location| *location == finding.location);
    let is_within = waiver.up_to.is_none_or(|most| finding.measured.is_some_and(|measured| measured <= most));
    is_there && is_within
}

/// Waivers that cannot cover anything, those that expired, and those that nothing needed.
fn waiver_findings(policy: &Policy, date: &str, used: &[Use]) -> Vec<GateFinding> {
    let mut findings = Vec::new();
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    for (waiver, used) in policy.waivers.iter().zip(used) {
        let Waiver { rule, owner, sha256, expires, .. } = waiver;
        let refused = refusal(rule).or((*used == Use::Refused).then_some(UNREAD));
        let (code, message) = if let Some(reason) = refused {
            ("waiver-refused", format!("`{rule}` cannot be waived: {reason}. The waiver by {owner} covers nothing"))
        } else if expires.as_str() < date {
            ("waiver-expired", format!("the waiver of `{rule}` by {owner} expired on {expires}: {}", waiver.reason))
        } else if *used == Use::None {
            let up_to = waiver.up_to.map(|most| format!(", up to {}", plain(most))).unwrap_or_default();
            let message = format!(
                "nothing needs the waiver of `{rule}` by {owner} any more (digest {sha256}{up_to}): remove it, lest it cover what comes \
                 next"
            );
            ("waiver-stale", message)
        } else {
            continue;
        };
        let count = listed.entry(code).or_default();
        *count += 1;
        if *count > MOST_WAIVERS {
            *left_out.entry(code).or_default() += 1;
            continue;
        }
        let own = format!("{rule}:{sha256}");
        findings.push(of_policy(policy, code, format!("waivers[{}]", waiver.index), &own, message));
    }
    for (code, count) in left_out {
        let message = format!("{count} more waivers, which are not listed one by one");
        findings.push(of_policy(policy, code, "waivers".to_owned(), "more", message));
    }
    findings
}

/// A finding about the policy itself.
fn of_policy(policy: &Policy, code: &str, location: String, own: &str, message: String) -> GateFinding {
    GateFinding {
        rule: code.to_owned(),
        level: policy.level(code, ""),
        artifact: String::new(),
        file: policy.source.clone(),
        sha256: policy.sha256.clone(),
        files: Vec::new(),
        measured: None,
        limit: None,
        message,
        fingerprint: fingerprint(code, "", &policy.source, own),
        location,
        state: BaselineState::New,
        waiver: None,
    }
}

fn fingerprint(rule: &str, artifact: &str, file: &str, location: &str) -> String {
    digest_of_bytes([rule, artifact, file, location].join("\u{0}").as_bytes())
}
