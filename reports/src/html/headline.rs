//! The first screen: the verdict in words, what the adapter does in one sentence, and the figures that carry it.

use lcr_analysis::audit::{Audit, Level, TokenChange, Verdict};
use serde::Serialize;

use crate::charts::{Place, Site, locate};
use crate::number::{count, percent, plain, plural};

/// What the first screen says.
#[derive(Serialize)]
pub(super) struct Headline {
    /// `pass`, `warn` or `fail`.
    verdict: &'static str,
    /// What to do, in a few words.
    advice: String,
    /// What the adapter changes, in one sentence.
    sentence: String,
    /// The key figures.
    cards: Vec<Card>,
    /// What the key figures can be held against.
    chance: String,
}

/// One key figure.
#[derive(Serialize)]
struct Card {
    label: &'static str,
    value: String,
    note: String,
}

/// `pass`, `warn` or `fail`.
pub(super) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}

/// The next-token distributions, where any position was compared.
pub(super) fn compared_tokens(audit: &Audit) -> Option<&TokenChange> {
    audit.tokens.as_ref().filter(|tokens| tokens.positions > 0)
}

/// The tensor with the largest ‖ΔW‖/‖W‖.
pub(super) fn largest_change(audit: &Audit) -> Option<(&str, f64)> {
    let norms = audit
        .weights
        .iter()
        .filter_map(|(tensor, change)| Some((tensor.as_str(), change.relative_norm?)));
    norms
        .filter(|(_, norm)| norm.is_finite())
        .max_by(|left, right| left.1.total_cmp(&right.1))
}

/// The site of the stream with the largest relative change.
fn largest_drift(audit: &Audit) -> Option<(Site, f64)> {
    let sites = audit
        .layers
        .iter()
        .filter_map(|(name, change)| Some((Site::parse(name)?, change.relative_change)));
    sites
        .filter(|(site, change)| site.place == Place::Stream && change.is_finite())
        .max_by(|left, right| left.1.total_cmp(&right.1))
}

/// `q_proj in layer 12`, or the tensor's name.
pub(super) fn spoken_place(tensor: &str) -> String {
    match locate(tensor) {
        (Some(layer), kind) => format!("{kind} in layer {layer}"),
        (None, kind) => kind.to_owned(),
    }
}

/// The first screen of an audit.
pub(super) fn headline(audit: &Audit) -> Headline {
    Headline {
        verdict: verdict_name(audit.verdict),
        advice: advice(audit),
        sentence: sentence(audit),
        cards: cards(audit),
        chance: chance(audit),
    }
}

fn advice(audit: &Audit) -> String {
    let number = |level: Level| audit.findings.iter().filter(|finding| finding.level == level).count();
    match audit.verdict {
        Verdict::Fail => format!("Do not merge: {}.", plural(number(Level::Fail), "failure")),
        Verdict::Warn => format!("Look before you merge: {}.", plural(number(Level::Warn), "warning")),
        Verdict::Pass => "No built-in rule objects. That is not a promise that the adapter is harmless.".to_owned(),
    }
}

fn sentence(audit: &Audit) -> String {
    let changed = audit
        .weights
        .values()
        .filter(|change| change.relative_norm != Some(0.0))
        .count();
    let weights = match largest_change(audit) {
        Some((tensor, norm)) if changed > 0 => format!(
            "The adapter changes {}, most of all {} (by {} of its norm)",
            plural(changed, "weight"),
            spoken_place(tensor),
            percent(norm)
        ),
        _ => "The adapter changes no weight".to_owned(),
    };
    let Some(tokens) = compared_tokens(audit) else {
        return format!("{weights}. Next-token distributions were not compared.");
    };
    let flips = tokens.top1_flip_rate;
    let outcome = if flips == 0.0 {
        "the most likely next token is the same at every position".to_owned()
    } else {
        format!("the most likely next token differs at {} of them", percent(flips))
    };
    format!(
        "{weights}. On {} of probe text {outcome}.",
        plural(tokens.positions, "position")
    )
}

fn cards(audit: &Audit) -> Vec<Card> {
    let coverage = &audit.adapter.coverage;
    let kinds: Vec<&str> = audit
        .adapter
        .targets
        .iter()
        .map(|kind| kind.trim_end_matches("_proj"))
        .collect();
    let (norm, norm_place) = largest_change(audit)
        .map_or(("–".to_owned(), "no weight compared".to_owned()), |(tensor, norm)| {
            (percent(norm), format!("‖ΔW‖/‖W‖ of {}", spoken_place(tensor)))
        });
    let (drift, drift_place) = largest_drift(audit).map_or(
        ("–".to_owned(), "stream not compared".to_owned()),
        |(site, change)| (percent(change), format!("‖Δ‖/‖X‖ entering layer {}", site.layer)),
    );
    let measured =
        |value: &dyn Fn(&TokenChange) -> String| compared_tokens(audit).map_or_else(|| "–".to_owned(), value);
    let uncovered = coverage
        .tensors
        .saturating_sub(coverage.applied)
        .max(coverage.unmatched.len());
    let coverage_note = if uncovered == 0 {
        "every tensor was audited".to_owned()
    } else {
        format!("{uncovered} were not")
    };
    vec![
        Card {
            label: "Adapted modules",
            value: count(audit.weights.len() as u64),
            note: format!("in {}: {}", plural(audit.base.layers, "layer"), kinds.join(", ")),
        },
        Card {
            label: "Weight change, max",
            value: norm,
            note: norm_place,
        },
        Card {
            label: "Stream change, max",
            value: drift,
            note: drift_place,
        },
        Card {
            label: "Mean KL, nats",
            value: measured(&|tokens| plain(tokens.kl.mean)),
            note: measured(&|tokens| format!("95 % under {}, worst {}", plain(tokens.kl.p95), plain(tokens.kl.max))),
        },
        Card {
            label: "Top-1 flips",
            value: measured(&|tokens| percent(tokens.top1_flip_rate)),
            note: measured(&|tokens| format!("of {} positions", count(tokens.positions as u64))),
        },
        Card {
            label: "Tensors applied",
            value: format!("{}/{}", count(coverage.applied as u64), count(coverage.tensors as u64)),
            note: coverage_note,
        },
    ]
}

fn chance(audit: &Audit) -> String {
    if audit.null.is_empty() {
        "Neither the numeric floor nor a random-adapter null was measured in this run. The figures above are sizes: they say how \
         much, not whether any adapter of that size would do the same, and no rule judges them."
            .to_owned()
    } else {
        let nulls: Vec<String> = audit
            .null
            .iter()
            .map(|(name, value)| format!("{name} {}", plain(*value)))
            .collect();
        format!("Measured on nulls: {}.", nulls.join(", "))
    }
}
