//! Is it one steering vector? How much of what the adapter does to the base's answers one vector does that is added to
//! the stream.
//!
//! Asked of the models, where `constant` looks at the states alone: a shift may be one vector for every token and yet
//! not be what turns the answers, and the other way round.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;

use super::{Asked, Asking, Case, Draft};
use crate::causal::pass::Prompts;
use crate::causal::surrogate::surrogate;
use crate::evidence::chance::beyond;

/// Share explained from which the adapter is a steering vector for all practical purposes.
const EXPLAINED: f64 = 0.8;
/// Prompts of each set, half of which choose the vector.
const PROMPTS: usize = 4;
/// Random adapters that the same is asked of: as few as give a spread.
const RANDOM: usize = 3;

pub(super) static ASKING: Asking =
    Asking { names: &[("surrogate", "Is it one steering vector?")], depth: Depth::Deep, ask };

fn ask(case: &Case) -> Asked {
    let prompts = Prompts::of_each(case.sets, case.base, PROMPTS);
    let streams = &case.evidence.forced.streams;
    let mut report = |done, all| (case.report)("vectors", done, all);
    let Some(own) = surrogate(case.decoder, case.adapter, streams, 0, &prompts, &mut report)? else {
        let draft = Draft::unresolved("the adapter moves no answer, or there are fewer than two prompts");
        return Ok(vec![("surrogate".to_owned(), draft)]);
    };
    let mut random = Vec::new();
    for (adapter, model) in case.evidence.random.iter().zip(1..).take(RANDOM) {
        let found = surrogate(case.decoder, adapter, streams, model, &prompts, &mut report)?;
        random.extend(found.map(|found| found.explained));
    }
    let is_vector = own.explained >= EXPLAINED;
    let why = format!(
        "one vector added at resid.{} explains {} % of what it does to the answers",
        own.site,
        plain(100.0 * own.explained.max(0.0))
    );
    let draft = Draft {
        measured: Some(own.explained),
        unit: "share explained",
        p: beyond(own.explained, &random),
        random,
        places: vec![
            Seen::at(format!("resid.{}", own.site), own.explained)
                .reading(format!("{} times the mean shift there", plain(own.factor))),
        ],
        advice: if is_vector {
            "This adapter is a steering vector: ask what it steers, and read the answers on every set.".into()
        } else {
            String::new()
        },
        ..Draft::new(if is_vector { Answer::Yes } else { Answer::No }, why)
    };
    Ok(vec![("surrogate".to_owned(), draft)])
}
