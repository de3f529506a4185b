//! The page that several adapters over one base share: a ranking, and a link to each adapter's own page.

use lcr_analysis::audit::Audit;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::headline::{compared_tokens, largest_change, spoken_place, verdict_name};
use crate::error::ReportError;
use crate::text::link_component;

/// One adapter's line.
#[derive(Serialize)]
struct Entry<'a> {
    /// Percent-encoded, so the template may take it as it is.
    link: String,
    folder: &'a str,
    name: &'a str,
    verdict: &'static str,
    /// Code of the worst finding, where there is one.
    first: Option<&'a str>,
    findings: usize,
    norm: Option<f64>,
    place: Option<String>,
    kl: Option<f64>,
    flips: Option<f64>,
}

/// The page for several reports, each given by its folder (relative to the page, `/` between components) and its audit: worst
/// verdict first, then by mean KL.
pub fn index_of_many(reports: &[(&str, &Audit)]) -> Result<String, ReportError> {
    let mut ranked: Vec<&(&str, &Audit)> = reports.iter().collect();
    ranked.sort_by(|(_, left), (_, right)| {
        right.verdict.cmp(&left.verdict).then(mean_kl(right).total_cmp(&mean_kl(left)))
    });
    let entries: Vec<Entry<'_>> = ranked.into_iter().map(|(folder, audit)| entry(folder, audit)).collect();
    let base = reports.first().map(|(_, audit)| audit.base.path.as_str());
    super::render(
        "many.html",
        context! { entries => Value::from(Serde(entries)), base, style => super::style(), script => script() },
    )
}

/// What equally bad reports are ranked by.
fn mean_kl(audit: &Audit) -> f64 {
    compared_tokens(audit).map_or(0.0, |tokens| tokens.kl.mean)
}

fn script() -> Value {
    Value::from_safe_string(include_str!("script.js").to_owned())
}

fn entry<'a>(folder: &'a str, audit: &'a Audit) -> Entry<'a> {
    // Encoding each component keeps a folder's name from becoming a scheme or markup.
    let components: Vec<String> = folder.split('/').filter(|part| !part.is_empty()).map(link_component).collect();
    let largest = largest_change(audit);
    let compared = compared_tokens(audit);
    Entry {
        link: format!("./{}/index.html", components.join("/")),
        folder,
        name: &audit.adapter.name,
        verdict: verdict_name(audit.verdict),
        first: audit.findings.first().map(|finding| finding.rule.as_str()),
        findings: audit.findings.len(),
        norm: largest.map(|(_, norm)| norm),
        place: largest.map(|(tensor, _)| spoken_place(tensor)),
        kl: compared.map(|tokens| tokens.kl.mean),
        flips: compared.map(|tokens| tokens.top1_flip_rate),
    }
}
