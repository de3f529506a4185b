//! The page that several adapters over one base share: a ranking, and a link to each adapter's own page.

use lcr_documents::audit::{Audit, Judgement, Level};
use lcr_documents::text::link_component;
use lcr_gate::outcome::label;
use minijinja::value::Serde;
use minijinja::{Value, context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headline::{class, compared_tokens, largest_change, spoken_place, verdict_name};
use crate::error::ReportError;

/// One adapter's line in a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankingEntry {
    /// Folder of its report relative to the page, `/` between components; `None` where it has none.
    pub folder: Option<String>,
    /// What the adapter is called.
    pub name: String,
    /// `pass`, `warn`, `incomplete` or `fail`.
    pub verdict: String,
    /// What a comparison's own page says, where the verdict leaves it at that.
    #[serde(default)]
    pub judgement: Option<Judgement>,
    /// Code of the worst finding, where there is one.
    pub first: Option<String>,
    /// Findings, notes left out.
    pub findings: usize,
    /// Largest ‖ΔW‖/‖W‖ of a module.
    pub norm: Option<f64>,
    /// The module.
    pub place: Option<String>,
    /// Mean KL(base‖adapted) of the next token, nats.
    pub kl: Option<f64>,
    /// Share of positions whose most likely next token differs.
    pub flips: Option<f64>,
}

impl RankingEntry {
    /// The line of an audit whose report stands in `folder`; the verdict is the audit's own.
    pub fn of(folder: Option<&str>, audit: &Audit) -> Self {
        let largest = largest_change(audit);
        let compared = compared_tokens(audit);
        Self {
            folder: folder.map(str::to_owned),
            name: audit.adapter.name.clone(),
            verdict: verdict_name(audit.verdict).to_owned(),
            judgement: Some(audit.outcome()),
            first: audit.findings.first().map(|finding| finding.rule.clone()),
            findings: audit.findings.iter().filter(|finding| finding.level > Level::Note).count(),
            norm: largest.map(|(_, norm)| norm),
            place: largest.map(|(tensor, _)| spoken_place(tensor)),
            kl: compared.map(|tokens| tokens.kl.mean),
            flips: compared.map(|tokens| tokens.top1_flip_rate),
        }
    }

    /// Worst first: by verdict, then by mean KL, then by the size of the change.
    pub fn rank(entries: &mut [Self]) {
        let severity = |entry: &Self| {
            let known = ["pass", "large", "warn", "incomplete", "fail"];
            known.iter().position(|name| *name == entry.class())
        };
        let size = |value: Option<f64>| value.unwrap_or(0.0);
        entries.sort_by(|left, right| {
            severity(right)
                .cmp(&severity(left))
                .then(size(right.kl).total_cmp(&size(left.kl)))
                .then(size(right.norm).total_cmp(&size(left.norm)))
                .then(left.name.cmp(&right.name))
        });
    }
}

impl RankingEntry {
    /// The style sheet's class of the outcome.
    fn class(&self) -> String {
        self.judgement.map_or_else(|| self.verdict.to_lowercase(), |judgement| class(judgement).to_owned())
    }

    /// The outcome in words.
    fn outcome(&self) -> String {
        self.judgement.map_or_else(|| self.verdict.clone(), |judgement| label(judgement).to_owned())
    }
}

/// A line with its link, as the template takes it.
#[derive(Serialize)]
struct Linked<'a> {
    /// Percent-encoded.
    link: Option<String>,
    class: String,
    outcome: String,
    #[serde(flatten)]
    entry: &'a RankingEntry,
}

/// The page for several reports, each given by its folder (relative to the page, `/` between components) and its audit:
/// worst verdict first, then by mean KL. `judge` says whose verdicts they are.
pub fn index_of_many(reports: &[(&str, &Audit)], judge: &str) -> Result<String, ReportError> {
    let mut entries: Vec<RankingEntry> =
        reports.iter().map(|(folder, audit)| RankingEntry::of(Some(folder), audit)).collect();
    RankingEntry::rank(&mut entries);
    let base = reports.first().map(|(_, audit)| audit.base.path.as_str());
    ranking(&entries, base, judge)
}

/// The page for lines that are ranked already; `judge` says whose verdict they carry.
pub fn ranking(entries: &[RankingEntry], base: Option<&str>, judge: &str) -> Result<String, ReportError> {
    // Encoding each component keeps a folder's name from becoming a scheme or markup.
    let link = |folder: &str| {
        let components: Vec<String> = folder.split('/').filter(|part| !part.is_empty()).map(link_component).collect();
        format!("./{}/index.html", components.join("/"))
    };
    let lines: Vec<Linked> = entries
        .iter()
        .map(|entry| Linked {
            link: entry.folder.as_deref().map(link),
            class: entry.class(),
            outcome: entry.outcome(),
            entry,
        })
        .collect();
    super::render("many.html", context! { entries => Value::from(Serde(lines)), base, judge })
}
