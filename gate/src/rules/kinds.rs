//! Which rules judge each kind of tensor that an adapter may carry: without its base, and beside it.

use lcr_scan::TensorKind;

use super::between_modules::{COHERENT_READS, COHERENT_WRITES};
use super::changed_modules::{WHOLE_TENSOR, ZERO_EFFECT};
use super::comparison::coverage::UNCOVERED_TENSORS;
use super::comparison::weights::{INTRUDER_DIMENSIONS, LARGER_THAN_WEIGHT, MAGNITUDE_SPIKE, VECTOR_CHANGE};
use super::explain::push;
use super::rows::{DEAD_ROWS, FLIPPED_ROWS};
use super::{Rule, rule_of_check};

/// What stands above the table.
const INTRODUCTION: &str = "\
Every kind of tensor that an adapter may carry, and the rules that look into it. Non-finite values, other dtypes and
tensors that contradict the config are found in all of them. A test holds each kind against an absurd one.

| tensor | rules of a scan | rules of a comparison |
|---|---|---|
";

/// The rules of a comparison that look into a kind; where a scan refuses it, none does.
fn compared_by(kind: TensorKind) -> Vec<&'static Rule> {
    match kind {
        TensorKind::LowRank => vec![
            &LARGER_THAN_WEIGHT,
            &MAGNITUDE_SPIKE,
            &DEAD_ROWS,
            &FLIPPED_ROWS,
            &INTRUDER_DIMENSIONS,
            &COHERENT_WRITES,
            &COHERENT_READS,
            &ZERO_EFFECT,
        ],
        TensorKind::EmbeddingLowRank => {
            vec![&LARGER_THAN_WEIGHT, &MAGNITUDE_SPIKE, &DEAD_ROWS, &FLIPPED_ROWS, &INTRUDER_DIMENSIONS]
        }
        TensorKind::Magnitude => vec![&MAGNITUDE_SPIKE, &DEAD_ROWS, &FLIPPED_ROWS, &LARGER_THAN_WEIGHT],
        TensorKind::LowRankBias => vec![&VECTOR_CHANGE],
        TensorKind::Bias => vec![&VECTOR_CHANGE, &WHOLE_TENSOR],
        TensorKind::Head | TensorKind::Embedding | TensorKind::Other => {
            vec![&WHOLE_TENSOR, &LARGER_THAN_WEIGHT, &MAGNITUDE_SPIKE, &DEAD_ROWS, &FLIPPED_ROWS, &INTRUDER_DIMENSIONS]
        }
        TensorKind::Norm => vec![&WHOLE_TENSOR, &VECTOR_CHANGE, &LARGER_THAN_WEIGHT],
        // A base with such a module is refused, or has no such module: what took no part is named.
        TensorKind::Router | TensorKind::Classifier | TensorKind::Unknown => vec![&UNCOVERED_TENSORS],
    }
}

/// The table.
pub(super) fn markdown() -> String {
    let linked =
        |codes: &mut dyn Iterator<Item = &str>| codes.map(|code| format!("[`{code}`](#{code})")).collect::<Vec<_>>();
    let mut text = INTRODUCTION.to_owned();
    for kind in TensorKind::ALL {
        let scanned = linked(&mut kind.judged_by().iter().map(|check| rule_of_check(*check).code)).join(", ");
        let compared = linked(&mut compared_by(kind).iter().map(|rule| rule.code)).join(", ");
        push(&mut text, format_args!("| {} | {scanned} | {compared} |\n", kind.name()));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_judge_without_the_base_and_beside_it() {
        for kind in TensorKind::ALL {
            assert!(!kind.judged_by().is_empty() && !compared_by(kind).is_empty(), "{kind:?}");
            assert!(markdown().contains(&format!("| {} |", kind.name())), "{kind:?}");
        }
    }
}
