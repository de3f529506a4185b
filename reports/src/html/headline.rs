//! The first screen: the verdict in words, what the adapter does in one sentence, and the figures that carry it.

use lcr_documents::audit::{Audit, Judgement, Level, Part, PartState, TokenChange, Verdict};
use lcr_documents::number::{count, percent, plain, plural};
use lcr_formats::module::ModulePath;
use lcr_gate::outcome;
use lcr_gate::rules::{FLIPPED_TOKENS, NEXT_TOKEN_KL, Rule, WEIGHT_CHANGE};
use serde::Serialize;

use crate::charts::{Place, Site, entering};

/// What the first screen says.
#[derive(Serialize)]
pub(super) struct Headline {
    /// Class of the verdict.
    class: &'static str,
    /// The verdict in words.
    label: &'static str,
    /// What it speaks for, where nothing stands against the adapter.
    scope: Option<String>,
    /// What to do, in a few words.
    advice: String,
    /// Which parts were looked at.
    chips: Vec<Chip>,
    /// The base that the adapter names, and the one that it was compared with.
    trained_on: String,
    /// What the adapter changes, in plain words.
    sentences: Vec<String>,
    /// The key figures.
    cards: Vec<Card>,
    /// What the key figures can be held against.
    chance: String,
}

/// How one part was looked at.
#[derive(Serialize)]
struct Chip {
    part: &'static str,
    words: String,
    /// `clear`, `findings` or `open`, which is what was not judged.
    class: &'static str,
}

/// One key figure.
#[derive(Serialize)]
struct Card {
    label: &'static str,
    value: String,
    note: String,
    /// What the figure is held against, or that it is held against nothing.
    scale: Option<String>,
    /// Whether it is beyond that.
    over: bool,
}

impl Card {
    fn new(label: &'static str, value: String, note: String) -> Self {
        Self { label, value, note, scale: None, over: false }
    }

    /// With the limit that a rule has for it, written like the figure itself.
    fn beside(self, audit: &Audit, rule: &Rule, write: impl Fn(f64) -> String) -> Self {
        let Some(size) = audit.sizes.iter().find(|size| size.rule == rule.code) else { return self };
        let over = size.measured > size.limit;
        let limit = if over { "over the limit of" } else { "limit" };
        let judged = if size.judged { "judged by" } else { "not judged, see" };
        Self { scale: Some(format!("{limit} {}, {judged} {}", write(size.limit), rule.code)), over, ..self }
    }
}

/// `pass`, `warn` or `fail`.
pub(super) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}

/// The style sheet's class of a judgement.
pub(super) fn class(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::NoObjection => "pass",
        Judgement::LargeChangeNotJudged => "large",
        Judgement::Warn => "warn",
        Judgement::Fail => "fail",
    }
}

/// The next-token distributions, where any position was compared.
pub(super) fn compared_tokens(audit: &Audit) -> Option<&TokenChange> {
    audit.tokens.as_ref().filter(|tokens| tokens.positions > 0)
}

/// The tensor with the largest ‖ΔW‖/‖W‖.
pub(super) fn largest_change(audit: &Audit) -> Option<(&str, f64)> {
    let norms = audit.weights.iter().filter_map(|(tensor, change)| Some((tensor.as_str(), change.relative_norm?)));
    norms.filter(|(_, norm)| norm.is_finite()).max_by(|left, right| left.1.total_cmp(&right.1))
}

/// The site of the stream with the largest relative change.
fn largest_drift(audit: &Audit) -> Option<(Site, f64)> {
    let sites = audit.layers.iter().filter_map(|(name, change)| Some((Site::parse(name)?, change.relative_change)));
    sites
        .filter(|(site, change)| site.place == Place::Stream && change.is_finite())
        .max_by(|left, right| left.1.total_cmp(&right.1))
}

/// `q_proj in layer 12`, or the tensor's name.
pub(super) fn spoken_place(tensor: &str) -> String {
    match ModulePath::parse(tensor) {
        ModulePath { layer: Some(layer), kind, .. } => format!("{kind} in layer {layer}"),
        ModulePath { kind, .. } => kind.to_owned(),
    }
}

/// The first screen of an audit.
pub(super) fn headline(audit: &Audit) -> Headline {
    let outcome = audit.outcome();
    Headline {
        class: class(outcome),
        label: outcome::label(outcome),
        scope: (outcome == Judgement::NoObjection).then(|| outcome::scope(audit)),
        advice: advice(audit),
        chips: chips(audit),
        trained_on: outcome::trained_on(audit),
        sentences: sentences(audit),
        cards: cards(audit),
        chance: chance(audit),
    }
}

fn advice(audit: &Audit) -> String {
    let number = |level: Level| audit.findings.iter().filter(|finding| finding.level == level).count();
    match audit.verdict {
        Verdict::Warn if audit.adapter.zero_effect => {
            format!("This adapter has no effect: {}.", plural(number(Level::Warn), "warning"))
        }
        Verdict::Fail => format!("Do not merge: {}.", plural(number(Level::Fail), "failure")),
        Verdict::Warn => format!("Look before you merge: {}.", plural(number(Level::Warn), "warning")),
        Verdict::Pass if audit.outcome() == Judgement::LargeChangeNotJudged => {
            format!("Evaluate the adapted model before you merge: {}.", outcome::beyond_limits(audit))
        }
        Verdict::Pass => {
            "No rule objects to what was checked. That is not a promise that the adapter is harmless.".to_owned()
        }
    }
}

fn chips(audit: &Audit) -> Vec<Chip> {
    let Some(checked) = &audit.checked else { return Vec::new() };
    let class = |part: &Part| match part.state {
        _ if part.findings > 0 => "findings",
        PartState::Judged => "clear",
        PartState::Shown | PartState::NotChecked => "open",
    };
    let parts = outcome::parts(checked).into_iter();
    parts.map(|(name, part)| Chip { part: name, words: outcome::part_in_words(part), class: class(part) }).collect()
}

/// What the numbers mean if a reader takes in nothing else: weights, then states, then what comes out.
fn sentences(audit: &Audit) -> Vec<String> {
    if audit.adapter.zero_effect {
        let nothing = "The adapter changes nothing: with it loaded, every weight is as it is in the base.".to_owned();
        let outcome = compared_tokens(audit).map(next_token);
        return std::iter::once(nothing).chain(outcome).collect();
    }
    let outcome = compared_tokens(audit).map_or_else(
        || {
            "Next-token distributions were not computed in this run, so nothing is known of what the model would say."
                .to_owned()
        },
        next_token,
    );
    [Some(weights_moved(audit)), states_moved(audit), Some(outcome)].into_iter().flatten().collect()
}

fn weights_moved(audit: &Audit) -> String {
    if audit.weights.is_empty() {
        return "No weight matrix was compared.".to_owned();
    }
    let changed = audit.weights.values().filter(|change| change.relative_norm != Some(0.0)).count();
    match largest_change(audit) {
        Some((tensor, norm)) if changed > 0 => format!(
            "The adapter changes {}; most of all {}, by {} of its size.",
            weights_in_words(changed),
            spoken_place(tensor),
            percent(norm)
        ),
        Some(_) => "The adapter changes no weight matrix.".to_owned(),
        None => format!("The adapter changes {}.", weights_in_words(changed)),
    }
}

fn weights_in_words(number: usize) -> String {
    if number == 1 { "1 weight matrix".to_owned() } else { format!("{} weight matrices", count(number as u64)) }
}

/// Where the stream is changed most.
fn states_moved(audit: &Audit) -> Option<String> {
    let (site, change) = largest_drift(audit)?;
    let place = entering(audit, site.layer);
    Some(if change > 0.0 {
        format!("Inside the model, the hidden states change by up to {} of their size ({place}).", percent(change))
    } else {
        "Inside the model, no hidden state changes.".to_owned()
    })
}

/// What the model would say instead, and how sure it is of it.
fn next_token(tokens: &TokenChange) -> String {
    let positions = plural(tokens.positions, "position");
    let flips = tokens.top1_flip_rate;
    if flips == 0.0 {
        return format!("The most likely next token is the same at every one of {positions} of probe text.");
    }
    let (base, adapted) = (tokens.entropy.base, tokens.entropy.adapted);
    // A tenth of a nat: less is not worth a word here, and stands in the table below.
    let surer = match adapted - base {
        difference if difference >= 0.1 => ", and the adapted model is less sure of it",
        difference if difference <= -0.1 => ", and the adapted model is surer of it",
        _ => "",
    };
    let entropy = if surer.is_empty() {
        String::new()
    } else {
        format!(" (mean entropy {} → {} nats)", plain(base), plain(adapted))
    };
    format!("The most likely next token differs at {} of {positions} of probe text{surer}{entropy}.", percent(flips))
}

fn cards(audit: &Audit) -> Vec<Card> {
    let coverage = &audit.adapter.coverage;
    let kinds: Vec<&str> = audit.adapter.targets.iter().map(|kind| kind.trim_end_matches("_proj")).collect();
    let (norm, norm_place) = largest_change(audit)
        .map_or(("–".to_owned(), "not computed".to_owned()), |(tensor, norm)| {
            (percent(norm), format!("‖ΔW‖/‖W‖ of {}", spoken_place(tensor)))
        });
    let (drift, drift_place) = largest_drift(audit)
        .map_or(("–".to_owned(), "not computed".to_owned()), |(site, change)| {
            (percent(change), format!("‖Δ‖/‖X‖ {}", entering(audit, site.layer)))
        });
    let measured =
        |value: &dyn Fn(&TokenChange) -> String| compared_tokens(audit).map_or_else(|| "–".to_owned(), value);
    let noted = |value: &dyn Fn(&TokenChange) -> String| {
        compared_tokens(audit).map_or_else(|| "not computed".to_owned(), value)
    };
    let uncovered = coverage.uncovered();
    let coverage_note = match (uncovered, coverage.set_aside.len()) {
        (0, 0) => "every tensor took part in the comparison".to_owned(),
        (0, aside) => format!("{} of a classification head set aside", plural(aside, "tensor")),
        _ => format!("{uncovered} took no part"),
    };
    vec![
        Card::new(
            "Adapted modules",
            if audit.weights.is_empty() { "–".to_owned() } else { count(audit.weights.len() as u64) },
            format!("in {}: {}", plural(audit.base.layers, "layer"), kinds.join(", ")),
        ),
        Card::new("Weight change, max", norm, norm_place).beside(audit, &WEIGHT_CHANGE, percent),
        Card::new("Stream change, max", drift, drift_place),
        Card::new(
            "Mean KL, nats",
            measured(&|tokens| plain(tokens.kl.mean)),
            noted(&|tokens| format!("95 % under {}, worst {}", plain(tokens.kl.p95), plain(tokens.kl.max))),
        )
        .beside(audit, &NEXT_TOKEN_KL, plain),
        Card::new(
            "Top-1 flips",
            measured(&|tokens| percent(tokens.top1_flip_rate)),
            noted(&|tokens| format!("of {} positions", count(tokens.positions as u64))),
        )
        .beside(audit, &FLIPPED_TOKENS, percent),
        Card::new(
            "Tensors applied",
            format!("{}/{}", count(coverage.applied as u64), count(coverage.tensors as u64)),
            coverage_note,
        ),
    ]
}

fn chance(audit: &Audit) -> String {
    if audit.questions.values().any(|question| !question.random.is_empty()) {
        "The figures above are sizes. Whether any adapter of this size would do the same is said beside each question."
            .to_owned()
    } else {
        "Neither the numeric floor nor random adapters were measured in this run. The figures above are sizes: they \
         say how much, not whether any adapter of that size would do the same."
            .to_owned()
    }
}
