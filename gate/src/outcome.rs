//! The words for an outcome, the same wherever it is said: at the terminal, on the page, in the index of adapters.

use lcr_documents::audit::{Audit, Checked, Judgement, Part, PartState};
use lcr_documents::number::{plain, plural};

/// A judgement in words.
pub fn label(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::NoObjection => "no objection",
        Judgement::LargeChangeNotJudged => "large change, not judged",
        Judgement::Warn => "warn",
        Judgement::Fail => "fail",
    }
}

/// What the judgement speaks for: `files and weights`; `nothing` where no part was judged.
pub fn scope(audit: &Audit) -> String {
    let Some(checked) = &audit.checked else { return "the numbers of the comparison".to_owned() };
    let judged: Vec<&str> =
        parts(checked).into_iter().filter(|(_, part)| part.state == PartState::Judged).map(|(name, _)| name).collect();
    let parts = match judged.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    if audit.unanswered.is_empty() { parts } else { format!("{parts}; incomplete: {}", audit.unanswered.join("; ")) }
}

/// The sizes beyond their limits that no rule judges: `next-token-kl 1.11 (limit 0.5), not judged`.
pub fn beyond_limits(audit: &Audit) -> String {
    let beyond = audit.sizes.iter().filter(|size| !size.judged && size.measured > size.limit);
    let said: Vec<String> =
        beyond.map(|size| format!("{} is {} (limit {})", size.rule, plain(size.measured), plain(size.limit))).collect();
    format!("{}, which no rule judges", said.join(", "))
}

/// The base that the adapter names, and the one that it was compared with.
pub fn trained_on(audit: &Audit) -> String {
    let compared = &audit.base.path;
    match audit.adapter.base_model.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("Adapter says: trained on {name}; compared with {compared}"),
        None => format!("Adapter does not say what it was trained on; compared with {compared}"),
    }
}

/// Each part with what was done about it: `files`, `checked, 55 rules, 0 findings`.
pub fn checked_in_words(checked: &Checked) -> Vec<(&'static str, String)> {
    parts(checked).into_iter().map(|(name, part)| (name, part_in_words(part))).collect()
}

/// The three parts of an audit, by their names: files, weights, behaviour.
pub fn parts(checked: &Checked) -> [(&'static str, &Part); 3] {
    [("files", &checked.files), ("weights", &checked.weights), ("behaviour", &checked.behaviour)]
}

/// How far a part was checked, as a sentence has it.
pub fn part_in_words(part: &Part) -> String {
    let tried = match (part.tried, part.rules) {
        (tried, rules) if tried == rules => plural(rules, "rule"),
        (tried, rules) => format!("{tried} of {}", plural(rules, "rule")),
    };
    let found = plural(part.findings, "finding");
    match part.state {
        PartState::Judged => format!("checked, {tried}, {found}"),
        PartState::Shown => "sizes shown, not judged".to_owned(),
        PartState::NotChecked if part.tried > 0 => format!("not checked but for {tried}, {found}"),
        PartState::NotChecked => "not checked".to_owned(),
    }
}
