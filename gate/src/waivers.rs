//! Waivers: which finding each covers, and what is to be said of the others.

use std::collections::BTreeMap;

use super::judge::fingerprint;
use super::report::{BaselineState, GateFinding, WaiverUse};
use crate::policy::{Policy, Waiver};
use crate::rules::{Judge, Rule, UNREAD, WaiverEvidence, refusal, refusal_of, rules};

/// Waivers that nothing needed, or that expired, that are listed one by one.
const MOST_LISTED: usize = 1_000;

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

/// The waivers of a policy on one day, and what each was good for so far.
pub(super) struct Waivers<'a> {
    policy: &'a Policy,
    date: &'a str,
    /// In the order of the policy's waivers.
    used: Vec<Use>,
}

impl<'a> Waivers<'a> {
    /// Waivers that nothing was asked of yet.
    pub(super) fn new(policy: &'a Policy, date: &'a str) -> Self {
        Self { policy, date, used: vec![Use::None; policy.waivers.len()] }
    }

    /// Covers a finding by the first waiver of its rule and digest that still holds; `artifact` is the digest of the
    /// whole.
    pub(super) fn cover(&mut self, finding: &mut GateFinding, artifact: &str) {
        let is_refused = refusal_of(finding).is_some();
        let is_whole = finding.sha256 == artifact;
        let of_files = self.policy.waivers_of(&finding.rule, &finding.sha256);
        let of_artifact = self.policy.waivers_of(&finding.rule, artifact).filter(|_| !is_whole);
        let mut found: Vec<_> = of_files.chain(of_artifact).filter(|(_, waiver)| covers(waiver, finding)).collect();
        found.sort_by_key(|(place, _)| *place);
        for (place, _) in &found {
            if let Some(used) = self.used.get_mut(*place) {
                *used = if is_refused { Use::Refused } else { (*used).max(Use::Covers) };
            }
        }
        if is_refused {
            return;
        }
        let holding = found.iter().find(|(_, waiver)| waiver.expires.as_str() >= self.date);
        finding.waiver = holding.map(|(_, waiver)| WaiverUse {
            reason: waiver.reason.clone(),
            owner: waiver.owner.clone(),
            expires: waiver.expires.clone(),
        });
    }

    /// What the rules say of the waivers themselves, when every finding was seen.
    pub(super) fn findings(&self) -> Vec<GateFinding> {
        let mut findings = Vec::new();
        let mut counts: BTreeMap<&str, (&Rule, usize)> = BTreeMap::new();
        for (waiver, used) in self.policy.waivers.iter().zip(&self.used) {
            let refused = refusal(&waiver.rule).or((*used == Use::Refused).then_some(UNREAD));
            let evidence = WaiverEvidence { waiver, refused, is_used: *used != Use::None, date: self.date };
            let Some((rule, message)) = judged(&evidence) else { continue };
            let (_, count) = counts.entry(rule.code).or_insert((rule, 0));
            *count += 1;
            if *count <= MOST_LISTED {
                let own = format!("{}:{}", waiver.rule, waiver.sha256);
                findings.push(self.finding(rule, format!("waivers[{}]", waiver.index), &own, message));
            }
        }
        for (rule, count) in counts.into_values().filter(|(_, count)| *count > MOST_LISTED) {
            let message = format!("{} more waivers, which are not listed one by one", count - MOST_LISTED);
            findings.push(self.finding(rule, "waivers".to_owned(), "more", message));
        }
        findings
    }

    /// A finding about the policy itself; `own` is what it is known by in every run.
    fn finding(&self, rule: &Rule, location: String, own: &str, message: String) -> GateFinding {
        let policy = self.policy;
        GateFinding {
            rule: rule.code.to_owned(),
            level: policy.level(rule, ""),
            artifact: String::new(),
            file: policy.source.clone(),
            sha256: policy.sha256.clone(),
            files: Vec::new(),
            measured: None,
            limit: None,
            message,
            fingerprint: fingerprint(rule, "", &policy.source, own),
            location,
            state: BaselineState::New,
            waiver: None,
        }
    }
}

/// What the first rule that objects to a waiver says of it.
fn judged(evidence: &WaiverEvidence<'_>) -> Option<(&'static Rule, String)> {
    rules().find_map(|rule| {
        let judged = rule.judges.iter().find_map(|judge| match judge {
            Judge::Waiver(judge) => judge(evidence),
            _ => None,
        });
        Some((rule, judged?))
    })
}

/// Whether a waiver of the right rule and digest is of this place, and of a number as large.
fn covers(waiver: &Waiver, finding: &GateFinding) -> bool {
    let is_there = waiver.location.as_ref().is_none_or(|location| *location == finding.location);
    let is_within = waiver.up_to.is_none_or(|most| finding.measured.is_some_and(|measured| measured <= most));
    is_there && is_within
}
