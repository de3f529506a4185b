//! Is it one steering vector? How much of what the adapter does to the base's answers one vector does that is added to
//! the stream.
//!
//! Asked of the models, where `constant` looks at the states alone: a shift may be one vector for every token and yet
//! not be what turns the answers, and the other way round. Random adapters are asked where a yes hangs on them.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;
use lcr_model::decoder::ModelError;

use super::{Asked, Asking, Case, Draft};
use crate::AuditError;
use crate::causal::pass::Prompts;
use crate::causal::surrogate::surrogate;
use crate::evidence::chance::beyond_shares;

/// Share explained from which the adapter is a steering vector for all practical purposes.
const EXPLAINED: f64 = 0.8;
/// Prompts of each set, half of which choose the vector.
const PROMPTS: usize = 4;

pub(super) static ASKING: Asking =
    Asking { names: &[("surrogate", "Is it one steering vector?")], depth: Depth::Deep, ask };

fn ask(case: &Case) -> Asked {
    let draft = match draft(case) {
        Err(AuditError::Model(ModelError::Overflow { .. })) => {
            Draft::unresolved("with a vector that is as large added, the model computes numbers that are not finite")
        }
        found => found?,
    };
    Ok(vec![("surrogate".to_owned(), draft)])
}

fn draft(case: &Case) -> Result<Draft, AuditError> {
    let prompts = Prompts::of_each(case.sets, case.base, PROMPTS);
    let streams = &case.evidence.forced.streams;
    let mut report = |done, all| (case.report)("vectors", done, all);
    let Some(own) = surrogate(case.decoder, case.adapter, streams, 0, &prompts, &mut report)? else {
        return Ok(Draft::unresolved("the adapter moves no answer, or there are fewer than two prompts"));
    };
    let is_vector = own.explained >= EXPLAINED;
    // Random adapters cost five times as much, and a no stands without them.
    let beside = if is_vector { case.evidence.random.as_slice() } else { &[] };
    let (mut random, mut overflowed) = (Vec::new(), 0);
    for (adapter, model) in beside.iter().zip(1..) {
        match surrogate(case.decoder, adapter, streams, model, &prompts, &mut report) {
            Err(AuditError::Model(ModelError::Overflow { .. })) => overflowed += 1,
            found => random.extend(found?.map(|found| found.explained)),
        }
    }
    // Of a bias every random change is a vector as well, and no null.
    let is_its_form = !random.is_empty() && random.iter().all(|random| *random >= EXPLAINED);
    let why = format!(
        "one vector added at resid.{} explains {} % of what it does to the answers",
        own.site,
        plain(100.0 * own.explained.max(0.0))
    );
    let draft = Draft {
        measured: Some(own.explained),
        score: Some(own.explained),
        unit: "share explained",
        p: if is_its_form { None } else { beyond_shares(own.explained, &random) },
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
    let draft = if is_its_form { draft } else { draft.beside_chance() };
    Ok(draft.without(overflowed))
}
