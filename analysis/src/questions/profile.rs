//! Is it unlike known-good adapters? Every question's score against those of a profile.
//!
//! What random adapters cannot tell, honest ones of the same base can: how far training of their kinds goes in each
//! question. The largest deviation over all questions is ranked among theirs, so that many questions are no more chances
//! for one adapter than for the others.

use indexmap::IndexMap;
use lcr_documents::audit::{Answer, Depth, Question, Seen};
use lcr_documents::number::{percent, plain};
use lcr_documents::profile::Profile;

use super::{Asked, Asking, Case, Draft};

/// Its name.
const NAME: &str = "profile";
/// Questions listed, those in which fewest known-good adapters are as far out.
const SHOWN: usize = 8;

pub(super) static ASKING: Asking =
    Asking { names: &[(NAME, "Is it unlike known-good adapters of this base?")], depth: Depth::Standard, ask };

/// Asked when all others are answered: see [`hold_against`].
#[expect(clippy::unnecessary_wraps, reason = "other questions run the models, which may fail")]
fn ask(_: &Case) -> Asked {
    let why = "asked with `--profile FILE`, which `lcr-audit calibrate` makes of adapters that you trust";
    Ok(vec![(NAME.to_owned(), Draft::new(Answer::NotAsked, why))])
}

/// Answers whether an adapter, of which `questions` are answered, is unlike the known-good ones of a profile, more rarely
/// than `rate` by chance; each question with a score says how often a known-good adapter has one as large. `sha256` is
/// the adapter's own, which is left out of the profile where it is in it.
pub fn hold_against(questions: &mut IndexMap<String, Question>, profile: &Profile, sha256: &str, rate: f64) {
    let others = profile.without(sha256);
    let scores: IndexMap<String, f64> =
        questions.iter().filter_map(|(name, question)| Some((name.clone(), question.score?))).collect();
    for (name, score) in &scores {
        if let Some(question) = questions.get_mut(name) {
            question.p_known_good = others.p(name, *score);
        }
    }
    let mut draft = draft(&others, &scores, rate);
    if others.adapters.len() < profile.adapters.len() {
        draft.why = format!("{}; it is in the profile itself and was left out of it", draft.why);
    }
    let p = draft.p;
    questions.insert(NAME.to_owned(), Question { p, ..draft.question(ASKING.names[0].1, ASKING.depth, None) });
}

fn draft(others: &Profile, scores: &IndexMap<String, f64>, rate: f64) -> Draft {
    let count = others.adapters.len();
    let Some(standing) = others.standing(scores) else {
        return Draft::unresolved(format!("no question has scores of two of the {count} known-good adapters or more"));
    };
    let farthest = format!("{} robust σ out in `{}`", plain(standing.deviation), standing.farthest);
    let as_far = standing.as_far;
    let needed = (1.0 / rate).ceil() as usize - 1;
    let (answer, why) = if standing.p <= rate {
        (Answer::Yes, format!("{farthest}; of {count} known-good adapters {as_far} are as far out in any question"))
    } else if standing.p <= others.finest() {
        let why = format!(
            "{farthest}, farther than each of {count} known-good adapters in any question; that happens to {} of honest \
             ones, and to say less than {} takes {needed} of them",
            percent(standing.p),
            percent(rate)
        );
        (Answer::Unresolved, why)
    } else {
        (Answer::No, format!("{farthest}; of {count} known-good adapters {as_far} are as far out in some question"))
    };
    let advice = match answer {
        Answer::No => "",
        _ => "Look at that question first: no adapter that you trust is as far out in any.",
    };
    let mut places: Vec<(f64, Seen)> = scores
        .iter()
        .filter_map(|(name, score)| {
            let p = others.p(name, *score)?;
            let text = format!("{} of known-good adapters have as much", percent(p));
            Some((p, Seen::at(name, *score).reading(text)))
        })
        .collect();
    places.sort_by(|left, right| left.0.total_cmp(&right.0));
    Draft {
        measured: Some(standing.deviation),
        unit: "robust σ from known-good adapters, in the farthest question",
        p: Some(standing.p),
        places: places.into_iter().take(SHOWN).map(|(_, seen)| seen).collect(),
        advice: advice.to_owned(),
        ..Draft::new(answer, why)
    }
}

#[cfg(test)]
mod tests;
