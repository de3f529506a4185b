//! Which rules judge each kind of tensor that an adapter may carry: without its base, and beside it.

use lcr_scan::TensorKind;

use super::push;
use crate::policy::Rule;

/// What stands above the table.
const INTRODUCTION: &str = "\
Every kind of tensor that an adapter may carry, and the rules that look into it. Non-finite values, other dtypes and
tensors that contradict the config are found in all of them. A test holds each kind against an absurd one.

| tensor | rules of a scan | rules of a comparison |
|---|---|---|
";

/// The rules of a comparison that look into a kind; where a scan refuses it, none does.
fn compared_by(kind: TensorKind) -> &'static [Rule] {
    use Rule::{
        CoherentReads, CoherentWrites, DeadRows, FlippedRows, IntruderDimensions, LargerThanWeight, MagnitudeSpike,
        UncoveredTensors, VectorChange, WholeTensor, ZeroEffect,
    };
    match kind {
        TensorKind::LowRank => &[
            LargerThanWeight,
            MagnitudeSpike,
            DeadRows,
            FlippedRows,
            IntruderDimensions,
            CoherentWrites,
            CoherentReads,
            ZeroEffect,
        ],
        TensorKind::EmbeddingLowRank => &[LargerThanWeight, MagnitudeSpike, DeadRows, FlippedRows, IntruderDimensions],
        TensorKind::Magnitude => &[MagnitudeSpike, DeadRows, FlippedRows, LargerThanWeight],
        TensorKind::LowRankBias => &[VectorChange],
        TensorKind::Bias => &[VectorChange, WholeTensor],
        TensorKind::Head | TensorKind::Embedding | TensorKind::Other => {
            &[WholeTensor, LargerThanWeight, MagnitudeSpike, DeadRows, FlippedRows, IntruderDimensions]
        }
        TensorKind::Norm => &[WholeTensor, VectorChange, LargerThanWeight],
        // A base with such a module is refused, or has no such module: what took no part is named.
        TensorKind::Router | TensorKind::Classifier | TensorKind::Unknown => &[UncoveredTensors],
    }
}

/// The table.
pub(super) fn markdown() -> String {
    let linked =
        |codes: &mut dyn Iterator<Item = &str>| codes.map(|code| format!("[`{code}`](#{code})")).collect::<Vec<_>>();
    let mut text = INTRODUCTION.to_owned();
    for kind in TensorKind::ALL {
        let scanned = linked(&mut kind.judged_by().iter().map(|check| check.code())).join(", ");
        let compared = linked(&mut compared_by(kind).iter().map(|rule| rule.code())).join(", ");
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
