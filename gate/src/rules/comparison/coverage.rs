//! Rules on what a comparison covers: tensors without a place, tables of another size than the base's.

use lcr_documents::audit::Audit;
use lcr_documents::number::plural;

use super::and_others;
use crate::rules::{Comparison, Found, Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[&UNCOVERED_TENSORS, &VOCABULARY_RESIZED];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Comparison, level: Severity::Deny, rests_on: RestsOn::ItsFile, ..Rule::NONE };

pub(crate) static UNCOVERED_TENSORS: Rule = Rule {
    code: "uncovered-tensors",
    title: "Tensors that took no part in the comparison",
    why: "Some of the adapter's tensors were not applied to the base, so whatever they do was not looked at. All \
          other results of the comparison are silent about them. They may belong to another architecture, or to \
          a program that loads more than this one does.",
    example: "A tensor for `visual.blocks.0.attn` has no place in the text model that was compared.",
    accept: "Compare with the base that the adapter was trained on, or remove tensors that belong to nothing. To \
             accept them, find out which program loads them, then waive the adapter by digest with an owner and \
             an expiry date.",
    judges: &[Judge::Comparison(Comparison {
        judge: uncovered_tensors,
        needs_weights: false,
        summary: "Fails when a tensor of the adapter took no part in the audit: whatever it does was not looked at.",
    })],
    ..FAMILY
};

fn uncovered_tensors(audit: &Audit, _: f64) -> Option<Found> {
    let coverage = &audit.adapter.coverage;
    let missing = coverage.uncovered();
    let first = coverage.unmatched.first();
    (missing > 0).then(|| {
        let named = first.map(|name| format!(" (first: {name})")).unwrap_or_default();
        let message = format!(
            "{} of the adapter took no part in this audit{named}. What they do was not looked at, so nothing below \
             speaks for them. Find out which program would load them before anyone uses the adapter.",
            plural(missing, "tensor"),
        );
        let location = first.map_or("adapter", String::as_str);
        Found::at(location, message).beyond(missing as f64, 0.0)
    })
}

pub(crate) static VOCABULARY_RESIZED: Rule = Rule {
    code: "vocabulary-resized",
    title: "A vocabulary of another size",
    level: Severity::Warn,
    why: "The adapter carries an embedding or output head with another number of rows than the base's: tokens were \
        added, or padding at the end of the table was cut off. Rows are compared by number, as far as both have them. \
        New rows were not looked at, and rows that are missing count as unchanged.",
    example: "`lm_head.weight` has 151669 rows, the base's table 151936.",
    accept: "Compare with the base after the same resizing, where that is published. Otherwise look at the tokenizer \
        that comes with the adapter, and waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Comparison(Comparison {
        judge: vocabulary_resized,
        needs_weights: true,
        summary: "Warns when the adapter's embedding or output head has another number of rows than the base's: \
            compared are those that both have.",
    })],
    ..FAMILY
};

fn vocabulary_resized(audit: &Audit, _: f64) -> Option<Found> {
    let tables = &audit.adapter.coverage.vocabulary;
    let table = tables.iter().max_by_key(|table| table.base_rows.abs_diff(table.adapter_rows))?;
    let (base, own) = (table.base_rows, table.adapter_rows);
    let (common, difference) = (base.min(own), base.abs_diff(own));
    let rest = if own < base {
        format!("The {} that the adapter does not have count as unchanged", plural(difference, "row"))
    } else {
        format!("The {} that only the adapter has were not looked at", plural(difference, "row"))
    };
    let message = format!(
        "This table over the vocabulary has {own} rows in the adapter and {base} in the base{}. Compared are the \
         {common} that both have, by number. {rest}.",
        and_others(tables.len()),
    );
    Some(Found::at(&table.tensor, message).beyond(difference as f64, 0.0))
}
