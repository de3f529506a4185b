//! Where does the behaviour sit? The adapter taken apart, and what each part of it does alone and what is lost without
//! it.
//!
//! It describes and does not accuse: `yes` says that a few layers do nearly all of it, so that they can be looked at,
//! or left out.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;

use super::{Asked, Asking, Case, Draft};
use crate::AuditError;
use crate::causal::location::{Part, PartMap, PartShare, map_parts, restored_together};
use crate::causal::pass::Prompts;

/// Prompts that are looked at, those that moved most.
const PROMPTS: usize = 6;
/// Share of the answers' change that the layers named must restore together.
const ENOUGH: f64 = 0.8;
/// Share of the model's layers up to which they are few.
const FEW: f64 = 0.25;
/// Sizes of a group of layers that are tried.
const SIZES: [usize; 7] = [1, 2, 3, 4, 6, 8, 12];
/// Layers and kinds listed.
const SHOWN: usize = 8;
/// Divergence in nats per answer token under which there is nothing to locate.
const NOTHING: f64 = 1e-6;

pub(super) static ASKING: Asking =
    Asking { names: &[("location", "Where does the behaviour sit?")], depth: Depth::Deep, ask };

fn ask(case: &Case) -> Asked {
    Ok(vec![("location".to_owned(), draft(case)?)])
}

fn draft(case: &Case) -> Result<Draft, AuditError> {
    let prompts = Prompts::moved_most(case.sets, case.base, &case.evidence.forced, PROMPTS);
    let moved: f64 = prompts.ids.iter().map(|id| case.evidence.forced.answers[0][id.set][id.prompt].total()).sum();
    let nothing = || Draft::unresolved("no answer moves, so there is nothing to locate");
    if moved <= NOTHING * prompts.answer_tokens() as f64 {
        return Ok(nothing());
    }
    let mut report = |done, all| (case.report)("parts", done, all);
    let Some(map) = map_parts(case.decoder, case.adapter, &prompts, &mut report)? else { return Ok(nothing()) };
    let ordered = by_share(&map.layers);
    let parts: Vec<Part> = ordered.iter().map(|share| share.part.clone()).collect();
    let mut sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size < parts.len()).collect();
    sizes.push(parts.len());
    let choices: Vec<&[Part]> = sizes.iter().map(|size| &parts[..*size]).collect();
    let together = restored_together(case.decoder, case.adapter, &choices, &prompts, &mut report)?;
    let Some(together) = together else { return Ok(nothing()) };
    let enough = sizes.iter().zip(&together).find(|(_, restored)| **restored >= ENOUGH);
    let places = places(&map, &ordered);
    // All parts together are the adapter, so that there is a size that is enough.
    let Some((size, restored)) = enough else { return Ok(nothing()) };
    let layers = case.decoder.layers().len().max(1);
    let measured = *size as f64 / layers as f64;
    let named = parts[..*size].iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let is_few = measured <= FEW || *size == 1;
    let (answer, why) = if is_few {
        (Answer::Yes, format!("{named} of {layers} layers alone restore {} % of it", plain(100.0 * restored)))
    } else {
        (
            Answer::No,
            format!(
                "it is spread: {size} of {layers} layers are needed to restore {} % of it",
                plain(100.0 * restored)
            ),
        )
    };
    Ok(Draft {
        measured: Some(measured),
        unit: "share of the layers",
        places,
        advice: if is_few {
            "Look at these layers first, or see what is left without them.".into()
        } else {
            String::new()
        },
        ..Draft::new(answer, why)
    })
}

/// What the parts do, the largest first; what they restore alone decides, and where that is little, what is lost
/// without them.
fn by_share(shares: &[PartShare]) -> Vec<PartShare> {
    let mut ordered = shares.to_vec();
    let weight = |share: &PartShare| share.restored.max(0.0) + share.lost.max(0.0);
    ordered.sort_by(|left, right| weight(right).total_cmp(&weight(left)));
    ordered
}

/// The map: layers, kinds, and where the adapted state at the prompt's end does most.
fn places(map: &PartMap, layers: &[PartShare]) -> Vec<Seen> {
    let percent = |share: f64| plain((1000.0 * share).round() / 10.0);
    let of_part = |share: &PartShare| {
        let text =
            format!("alone restores {} %; without it {} % is lost", percent(share.restored), percent(share.lost));
        Seen::at(share.part.to_string(), share.restored).reading(text)
    };
    let kinds = by_share(&map.kinds);
    let mut places: Vec<Seen> = layers.iter().take(SHOWN).chain(kinds.iter().take(SHOWN)).map(of_part).collect();
    let best = map.patched.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1));
    places.extend(best.map(|(site, restored)| {
        let text =
            format!("the adapted state at the prompt's end, put into the base, restores {} %", percent(*restored));
        Seen::at(format!("resid.{site}"), *restored).reading(text)
    }));
    places
}
