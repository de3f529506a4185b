//! A line of a batch: what was seen of one adapter, and what follows from that.
//!
//! A folder of results may have been in other hands: a cache, an artifact of another job. So nothing that follows is
//! believed. The findings of the files are judged again from a scan, those of the comparison from the adapter's stored
//! report, whose digest the line holds; a line that says anything else is refused. What cannot be known here is whether
//! the stored report says what a comparison would give: whoever can write a report and its line can make it up
//! (LIMITS.md).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lcr_documents::audit::{self, Audit};
use lcr_gate::policy::Policy;
use lcr_gate::{ArtifactReport, GateVerdict, Provenance, ScannedAdapter, digest_of_bytes, judge, judge_audit};
use lcr_reports::html::RankingEntry;
use lcr_scan::{Observation, Scan, WeightStatistics};
use serde::{Deserialize, Serialize};

/// Folder of the reports in that of a batch.
pub(crate) const REPORTS: &str = "reports";

/// One adapter's result: a line of results.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BatchLine {
    /// What the gate says.
    pub(crate) artifact: ArtifactReport,
    /// Its line in the ranking.
    pub(crate) ranking: RankingEntry,
    /// What both follow from.
    pub(crate) evidence: Evidence,
}

/// What was seen of an adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// Of its files.
    pub(crate) observations: Vec<Observation>,
    /// Why it was not compared, where it was not.
    pub(crate) not_compared: Option<String>,
    /// SHA-256 of its `report.json`, where it was compared.
    pub(crate) report: Option<String>,
}

impl BatchLine {
    /// Judges an adapter; gives its report, where it was compared, as it belongs into the batch's folder. `page` says
    /// whether that has a page to link to.
    pub(crate) fn of(
        subject: ScannedAdapter,
        page: bool,
        policy: &Policy,
        pins: &Provenance,
    ) -> Result<(Self, Option<Audit>)> {
        let mut audit = subject.audit.clone();
        if let Some(audit) = &mut audit {
            judge_audit(audit, subject.scan.clone(), policy, pins.clone());
        }
        let digest = |audit: &Audit| -> Result<String> {
            Ok(digest_of_bytes(lcr_documents::audit::json::to_string(audit)?.as_bytes()))
        };
        let evidence = Evidence {
            observations: subject.scan.observations.clone(),
            not_compared: subject.not_compared.clone(),
            report: audit.as_ref().map(digest).transpose()?,
        };
        let folder = (page && audit.is_some()).then(|| report_folder(&subject.path, &subject.scan.sha256));
        let report = judge(vec![subject], policy, pins.clone());
        let Some(artifact) = report.artifacts.into_iter().next() else { bail!("a judgement without its adapter") };
        let ranking = ranking(&artifact, folder.as_deref(), audit.as_ref());
        Ok((Self { artifact, ranking, evidence }, audit))
    }

    /// Where the adapter's report stands in the batch's folder.
    pub(crate) fn report_folder(&self) -> String {
        report_folder(&self.artifact.path, &self.artifact.sha256)
    }

    /// What the line says was scanned.
    pub(crate) fn scan(&self) -> Scan {
        Scan {
            files: self.artifact.files.clone(),
            sha256: self.artifact.sha256.clone(),
            adapter: self.artifact.adapter.clone(),
            weights: WeightStatistics::default(),
            observations: self.evidence.observations.clone(),
        }
    }

    /// The subject that this line is about, made of a scan and of the report in the batch's folder; an error says what
    /// does not fit.
    ///
    /// `pins` is what the report must rest on, the policy's digest among it.
    pub(crate) fn subject(&self, scan: Scan, folder: &Path, pins: &Provenance) -> Result<ScannedAdapter> {
        let (path, error) = (self.artifact.path.clone(), self.artifact.error.clone());
        let audit = match &self.evidence.report {
            Some(sha256) => Some(self.audit(sha256, folder, pins)?),
            // What is no adapter is not compared, and needs no reason.
            None if scan.adapter.is_some() && error.is_none() && self.evidence.not_compared.is_none() => {
                bail!("it says neither what a comparison gave nor why there was none")
            }
            None => None,
        };
        Ok(ScannedAdapter { path, scan, audit, not_compared: self.evidence.not_compared.clone(), error })
    }

    /// The stored report, if it is the one that the line pins and of this adapter over this base.
    fn audit(&self, sha256: &str, folder: &Path, pins: &Provenance) -> Result<Audit> {
        let (path, bytes) = self.stored(folder)?;
        if digest_of_bytes(&bytes) != sha256 {
            bail!("{} is not the report that the line was made from", path.display());
        }
        let audit = lcr_documents::audit::json::parse(&path, &bytes)?;
        let base = pins.base.clone().unwrap_or_default();
        let expected = audit::Provenance {
            tool: None,
            base: base.sha256,
            tokenizer: base.tokenizer,
            template: base.template,
            adapter: Some(self.artifact.sha256.clone()),
            probes: pins.probes.as_ref().map(|probes| probes.sha256.clone()).unwrap_or_default(),
            policy: Some(pins.policy.sha256.clone()),
            date: None,
        };
        // Neither the build that made it nor the day is part of what it is about.
        let found = audit.provenance.clone().map(|found| audit::Provenance { tool: None, date: None, ..found });
        if found != Some(expected) || audit.asked != pins.asked || audit.adapter.path != self.artifact.path {
            bail!("{} is a report on something else", path.display());
        }
        Ok(audit)
    }

    fn stored(&self, folder: &Path) -> Result<(PathBuf, Vec<u8>)> {
        let mut path = folder.to_owned();
        for part in self.report_folder().split('/') {
            path.push(part);
            // A link there may lead to another adapter's report.
            if path.symlink_metadata().is_ok_and(|known| known.is_symlink()) {
                bail!("{} is a link", path.display());
            }
        }
        path.push("report.json");
        let bytes = lcr_documents::read::plain(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, bytes))
    }

    /// What does not fit between this line and the one that its evidence gives.
    pub(crate) fn difference(&self, again: &Self) -> Option<&'static str> {
        let (left, right) = (&self.artifact, &again.artifact);
        let is_ranked_alike = RankingEntry { folder: None, ..self.ranking.clone() }
            == RankingEntry { folder: None, ..again.ranking.clone() };
        match () {
            () if left.findings != right.findings => Some("its findings do not follow from what was seen"),
            () if left.verdict != right.verdict => Some("its verdict does not follow from its findings"),
            () if left != right => Some("its facts are not those of the files"),
            () if self.evidence.report != again.evidence.report => {
                Some("its report does not say what follows from the report's own numbers")
            }
            () if self.evidence != again.evidence => Some("what it says was seen is not what the files hold"),
            () if !is_ranked_alike => Some("its line of the ranking is not that of the report"),
            () => None,
        }
    }
}

/// Where an adapter's report stands in the batch's folder. Its name tells adapters of one name apart, and those of the
/// same bytes.
fn report_folder(path: &str, sha256: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let name: String =
        last_part(path).chars().map(|character| if plain(character) { character } else { '_' }).take(64).collect();
    let own = digest_of_bytes(format!("{sha256}  {path}").as_bytes());
    format!("{REPORTS}/{}-{}", name.trim_start_matches('.'), own.get(..16).unwrap_or("0"))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The adapter's line in the ranking, under the gate's verdict.
fn ranking(artifact: &ArtifactReport, folder: Option<&str>, audit: Option<&Audit>) -> RankingEntry {
    let own = audit.map(|audit| RankingEntry::of(folder, audit));
    let counted: Vec<_> = artifact.findings.iter().filter(|finding| finding.counts()).collect();
    let verdict = match artifact.verdict {
        GateVerdict::Pass => "pass",
        GateVerdict::Incomplete => "incomplete",
        GateVerdict::Fail => "fail",
    };
    RankingEntry {
        folder: folder.map(str::to_owned),
        name: last_part(&artifact.path).to_owned(),
        verdict: verdict.to_owned(),
        // Of an adapter that passes, the page says more: that it was warned of, or that its change is large and not
        // judged.
        judgement: own.as_ref().filter(|_| artifact.verdict == GateVerdict::Pass).and_then(|own| own.judgement),
        first: counted.first().map(|finding| finding.rule.clone()),
        findings: counted.len(),
        norm: own.as_ref().and_then(|own| own.norm),
        place: own.as_ref().and_then(|own| own.place.clone()),
        kl: own.as_ref().and_then(|own| own.kl),
        flips: own.as_ref().and_then(|own| own.flips),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_stands_under_a_plain_name_of_its_own() {
        let (one, two) = (report_folder("a/x", "00"), report_folder("b/x", "00"));
        assert!(one.starts_with("reports/x-") && one != two, "{one} {two}");
        assert_ne!(one, report_folder("a/x", "01"));
        for hostile in ["a/..", "a/../x", "a/ ", "javascript:alert(1)", "a/\u{202e}x", "a/.hidden", ""] {
            let folder = report_folder(hostile, "00");
            let name = folder.strip_prefix("reports/").expect("below reports");
            assert!(name.chars().all(|own| own.is_ascii_alphanumeric() || "-_.".contains(own)), "{name}");
            assert!(!name.starts_with('.'), "{name}");
        }
    }
}
