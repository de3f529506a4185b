//! Are rows rescaled, killed or turned round? From the weights alone, by the measures of the rules on rows.
//!
//! DoRA's magnitudes scale an output channel whatever the text says and need no low-rank part that could be seen; a
//! change of low rank can do the same. No chance level is given: a random adapter's magnitudes are this one's in
//! another order.

use lcr_documents::audit::{Answer, Depth, ROW_FACTOR, ROW_GONE, Seen, WeightChange};
use lcr_documents::number::{plain, plural};

use super::{Asked, Asking, Case, Draft};

/// What is measured.
const UNIT: &str = "factor by which the norm of a row grows or shrinks";
/// Weights listed.
const SHOWN: usize = 8;

pub(super) static ASKING: Asking =
    Asking { names: &[("magnitude", "Are rows rescaled, killed or turned round?")], depth: Depth::Quick, ask };

#[expect(clippy::unnecessary_wraps, reason = "other questions run the models, which may fail")]
fn ask(case: &Case) -> Asked {
    let changes = case.weights.iter().map(|(name, change)| (name.as_str(), change));
    let draft = if case.weights.is_empty() {
        Draft::unresolved("the changes of the weights were not measured; ask with `--metrics weights`")
    } else {
        draft(changes)
    };
    Ok(vec![("magnitude".to_owned(), draft)])
}

/// What a weight's rows became, in words; nothing where it is nothing unusual.
fn said(change: &WeightChange) -> Vec<String> {
    let gone = match (change.loses_every_row(), change.loses_rows()) {
        (true, _) => Some("every row is gone".to_owned()),
        (false, true) => Some("a row is gone".to_owned()),
        (false, false) => None,
    };
    let most = change.row_rotation_deg.max;
    let turned = change.turns_rows().then(|| format!("a row turns by {} degrees", plain(most)));
    let scaled = change.row_factor(ROW_FACTOR).map(|factor| {
        let way = if change.may_only_shrink_rows() { "shrinks" } else { "grows or shrinks" };
        format!("the norm of a row {way} by a factor of {}", plain(factor))
    });
    [gone, turned, scaled].into_iter().flatten().collect()
}

/// The factor by which a row's norm changes most, either way; that of a row that is gone is as large as can be told.
fn factor(change: &WeightChange) -> f64 {
    let rows = &change.row_norm_change;
    let least = rows.min.max(ROW_GONE);
    (1.0 / (1.0 + least)).max(if change.may_only_shrink_rows() { 1.0 } else { 1.0 + rows.max_abs })
}

fn draft<'a>(changes: impl Iterator<Item = (&'a str, &'a WeightChange)> + Clone) -> Draft {
    let mut places: Vec<Seen> = changes
        .clone()
        .filter_map(|(name, change)| {
            let said = said(change);
            (!said.is_empty()).then(|| Seen::at(name, factor(change)).reading(said.join("; ")))
        })
        .collect();
    places.sort_by(|left, right| right.measured.unwrap_or(0.0).total_cmp(&left.measured.unwrap_or(0.0)));
    let measured = changes.map(|(_, change)| factor(change)).reduce(f64::max);
    let Some(first) = places.first() else {
        let most = plain(measured.unwrap_or(1.0));
        let why = format!("no row is gone or turned round, and none changes its norm by more than a factor of {most}");
        return Draft { measured, score: measured, unit: UNIT, ..Draft::new(Answer::No, why) };
    };
    let why = format!("{}: {}; {} in all", first.location, first.text, plural(places.len(), "such weight"));
    places.truncate(SHOWN);
    Draft {
        measured,
        score: measured,
        unit: UNIT,
        places,
        advice: "Find out which channels these are and what they feed; training seldom does this, and an edit does."
            .to_owned(),
        ..Draft::new(Answer::Yes, why)
    }
}

#[cfg(test)]
mod tests {
    use lcr_documents::audit::{MergeSurvival, RowNormChange, RowRotation};

    use super::*;

    fn change(min: f64, max_abs: f64, turned: f64) -> WeightChange {
        WeightChange {
            shape: [4, 4],
            kind: "dora".to_owned(),
            relative_norm: Some(0.1),
            spectral_ratio: None,
            cosine: 1.0,
            one_minus_cosine: 0.0,
            rank: 1,
            stable_rank: None,
            rankme: None,
            effective_rank: None,
            top1_share: None,
            kurtosis: None,
            row_top8_share: None,
            row_rotation_deg: RowRotation { mean: 1.0, max: turned },
            row_norm_change: RowNormChange { mean_abs: 0.01, max_abs, min },
            entry_change: None,
            output_overlap: None,
            intruder_dimensions: None,
            intruder_chance_cosine: 0.0,
            merge_survival: MergeSurvival { cosine: None, changed_share: 1.0 },
            singular_values: Vec::new(),
        }
    }

    /// ‖w'‖/‖w‖ − 1 of 2 is three times the norm, of −0.75 a quarter, of −1 nothing.
    #[test]
    fn rows_are_gone_turned_or_rescaled() {
        let of = |min, max_abs, turned| draft([("w", &change(min, max_abs, turned))].into_iter());
        for (found, measured, text) in [
            (of(-0.1, 2.0, 3.0), 3.0, "by a factor of 3"),
            (of(-0.75, 0.75, 3.0), 4.0, "shrinks by a factor of 4"),
            (of(-1.0, 1.0, 3.0), 1000.0, "a row is gone"),
            (of(-0.1, 0.2, 180.0), 1.2, "turns by 180 degrees"),
        ] {
            assert_eq!(found.answer, Answer::Yes, "{}", found.why);
            assert!((found.measured.unwrap() / measured - 1.0).abs() < 1e-9, "{:?} {measured}", found.measured);
            assert!(found.why.contains(text), "{}", found.why);
        }
        let honest = of(-0.4, 0.9, 100.0);
        assert_eq!((honest.answer, honest.places.len()), (Answer::No, 0));
    }

    #[test]
    fn the_worst_weight_is_named_first() {
        let (mild, severe) = (change(-0.1, 2.0, 3.0), change(-0.1, 9.0, 3.0));
        let found = draft([("mild", &mild), ("severe", &severe)].into_iter());
        let named: Vec<&str> = found.places.iter().map(|seen| seen.location.as_str()).collect();
        assert_eq!(named, ["severe", "mild"]);
        assert!(found.why.ends_with("2 such weights in all"), "{}", found.why);
    }
}
