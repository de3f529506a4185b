//! Do adapters that are used together do what none of them does alone?
//!
//! A payload can be cut in pieces that are each harmless. For small changes divergences add as lengths do: √KL of all
//! together is at most the sum of each one's √KL, as a path is no longer than its legs (KL is half a squared length, of
//! Fisher's metric). What lies above that is a behaviour of the whole.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;
use lcr_model::decoder::{BoundAdapter, Hooks, ModelError};

use super::{Asked, Asking, Case, Draft, VISIBLE};
use crate::AuditError;
use crate::causal::pass::{Pair, Prompts, divergences};
use crate::evidence::chance::beyond_sizes;
use crate::evidence::random::random_adapter;

/// Prompts of each set.
const PROMPTS: usize = 4;
/// Stacks of random adapters, each of the same sizes.
const RANDOM: u64 = 5;
/// From so many times the divergence that the parts account for, the whole does something of its own. No population of
/// honest stacks was held against it yet.
const BEYOND_PARTS: f64 = 2.0;

pub(super) static ASKING: Asking = Asking {
    names: &[("composition", "Do the adapters of the stack do together what none does alone?")],
    depth: Depth::Standard,
    ask,
};

fn ask(case: &Case) -> Asked {
    let draft = if case.stack.is_empty() {
        Draft::new(Answer::NotAsked, "asked with `--stack OTHER`, of adapters that are used together")
    } else {
        match draft(case) {
            Err(AuditError::Model(ModelError::Overflow { .. })) => {
                Draft::unresolved("with all of them the model computes numbers that are not finite")
            }
            found => found?,
        }
    };
    Ok(vec![("composition".to_owned(), draft)])
}

/// Σ KL of every prompt, of each part and then of all together.
type Divergences = Vec<Vec<f64>>;

fn draft(case: &Case) -> Result<Draft, AuditError> {
    let parts: Vec<&BoundAdapter> = std::iter::once(case.adapter).chain(case.stack).collect();
    let prompts = Prompts::of_each(case.sets, case.base, PROMPTS);
    let own = together(case, &parts, &prompts, 0)?;
    let random = random_stacks(case, &parts, &prompts)?;
    let sets = sets_of(case, &prompts);
    let of_sets = |found: &Divergences| -> Vec<f64> { sets.iter().map(|(_, at)| beyond_parts(found, at)).collect() };
    let tokens = |at: &[usize]| -> f64 { at.iter().map(|at| case.base.of(prompts.ids[*at]).len() as f64).sum() };
    let moved = |at: &[usize]| own.last().map_or(0.0, |all| at.iter().map(|at| all[*at]).sum::<f64>()) / tokens(at);
    let visible: Vec<bool> = sets.iter().map(|(_, at)| moved(at) >= VISIBLE).collect();
    let largest = |found: &[f64]| found.iter().copied().fold(0.0, f64::max);
    let ratios = of_sets(&own);
    let mut places: Vec<(Seen, bool)> = sets
        .iter()
        .zip(ratios.iter().zip(&visible))
        .map(|((name, at), (ratio, visible))| {
            let text = format!("all together {} nats per answer token", plain(moved(at)));
            (Seen::at(*name, *ratio).reading(text), *visible)
        })
        .collect();
    places.sort_by(|left, right| right.0.measured.unwrap_or(0.0).total_cmp(&left.0.measured.unwrap_or(0.0)));
    let visible = ratios.iter().zip(&visible).filter(|(_, visible)| **visible);
    let measured = largest(&visible.map(|(ratio, _)| *ratio).collect::<Vec<_>>());
    let random: Vec<f64> = random.iter().map(|found| largest(&of_sets(found))).collect();
    let is_more = measured >= BEYOND_PARTS;
    let place = places.iter().find(|(_, visible)| *visible).map_or("no set", |(seen, _)| seen.location.as_str());
    let why = why(measured, place);
    Ok(Draft {
        measured: Some(measured),
        unit: "times what the parts account for",
        p: beyond_sizes(measured, &random),
        random,
        places: places.into_iter().map(|(seen, _)| seen).collect(),
        advice: if is_more {
            "Read the answers with all of them loaded: what appears there is in no part.".into()
        } else {
            String::new()
        },
        ..Draft::new(if is_more { Answer::Yes } else { Answer::No }, why)
    }
    .beside_chance())
}

/// What was seen, in a sentence.
fn why(measured: f64, place: &str) -> String {
    if measured >= BEYOND_PARTS {
        format!("on {place} all together do {} times what the parts account for", plain(measured))
    } else if measured > 0.0 {
        format!("all together do what the parts account for: {} times that, at most, on {place}", plain(measured))
    } else {
        "even all together hardly move an answer".to_owned()
    }
}

/// The same of stacks of random adapters, each of the sizes of these.
fn random_stacks(case: &Case, parts: &[&BoundAdapter], prompts: &Prompts) -> Result<Vec<Divergences>, AuditError> {
    let mut found = Vec::new();
    for draw in 1..=RANDOM {
        let mut drawn = Vec::with_capacity(parts.len());
        for (part, number) in parts.iter().zip(0..) {
            // Other draws for every part: the same ones in all would point the same way.
            let seed = case.seed.wrapping_add((number << 32) + draw);
            drawn.push(random_adapter(case.decoder, part, seed)?);
        }
        match together(case, &drawn.iter().collect::<Vec<_>>(), prompts, draw) {
            // Chance is told by those that can be run.
            Err(AuditError::Model(ModelError::Overflow { .. })) => {}
            stack => found.push(stack?),
        }
    }
    Ok(found)
}

/// Runs the base, each part and all of them together.
fn together(case: &Case, parts: &[&BoundAdapter], prompts: &Prompts, round: u64) -> Result<Divergences, AuditError> {
    let whole = case.decoder.stack(parts)?;
    let variants = parts.iter().copied().chain(&whole).map(Some);
    let models: Vec<Option<&BoundAdapter>> = std::iter::once(None).chain(variants).collect();
    let pairs: Vec<Pair> = (1..models.len()).map(|to| Pair { of: 0, to }).collect();
    let rounds = RANDOM as usize + 1;
    let mut report = |done: usize, all: usize| (case.report)("stack", round as usize * all + done, rounds * all);
    divergences(case.decoder, &models, &pairs, prompts, |_| Hooks::default(), &mut report)
}

/// The sets, each with the places of its prompts.
fn sets_of<'a>(case: &'a Case, prompts: &Prompts) -> Vec<(&'a str, Vec<usize>)> {
    let places = |set: usize| (0..prompts.ids.len()).filter(|at| prompts.ids[*at].set == set).collect::<Vec<_>>();
    let all = case.sets.iter().enumerate().map(|(set, found)| (found.name.as_str(), places(set)));
    all.filter(|(_, places)| !places.is_empty()).collect()
}

/// KL of all together over (Σ√KL of each)², on some prompts; 0 where nothing moves.
fn beyond_parts(found: &Divergences, prompts: &[usize]) -> f64 {
    let sum = |of: &Vec<f64>| prompts.iter().map(|at| of[*at]).sum::<f64>().max(0.0);
    let Some((whole, parts)) = found.split_last() else { return 0.0 };
    let legs = parts.iter().map(|part| sum(part).sqrt()).sum::<f64>().powi(2);
    if legs > 0.0 { sum(whole) / legs } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Legs of 0.1 and 0.2 in √nats reach (0.1 + 0.2)² = 0.09 together where they point the same way.
    #[test]
    fn parts_that_point_the_same_way_account_for_all() {
        let all = |whole: f64| vec![vec![0.01], vec![0.04], vec![whole]];
        assert!((beyond_parts(&all(0.09), &[0]) - 1.0).abs() < 1e-12);
        assert!((beyond_parts(&all(0.36), &[0]) - 4.0).abs() < 1e-12);
        assert!((beyond_parts(&all(0.05), &[0]) - 5.0 / 9.0).abs() < 1e-12, "at right angles the squares add");
    }
}
