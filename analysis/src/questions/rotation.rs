//! Is the change a rotation of the states? The held-out test of every layer, and what most layers say.

use lcr_documents::audit::{Answer, Depth, Seen};
use lcr_documents::number::plain;

use super::{Asked, Asking, Case, Draft};
use crate::evidence::rotation::{Law, RotationTest};

pub(super) static ASKING: Asking =
    Asking { names: &[("rotation", "Is the change a rotation?")], depth: Depth::Standard, ask };

#[expect(clippy::unnecessary_wraps, reason = "other questions run the models, which may fail")]
fn ask(case: &Case) -> Asked {
    let sites = case.evidence.forced.streams.sites.iter().enumerate();
    let tests: Vec<(usize, RotationTest)> = sites
        .filter_map(|(site, sums)| Some((site, sums.rotation.filter(|test| test.law != Law::NotResolvable)?)))
        .collect();
    if tests.is_empty() {
        let draft = Draft::unresolved("too few tokens to fit a map on half of the prompts: raise --max-prompts");
        return Ok(vec![("rotation".to_owned(), draft)]);
    }
    let count = |law: Law| tests.iter().filter(|(_, test)| test.law == law).count();
    let [turned, stretched, linear, none] = [Law::Rotation, Law::Stretch, Law::Linear, Law::None].map(count);
    let is_rotation = 2 * turned > tests.len();
    let why = format!(
        "of {} layers {turned} rotate, {stretched} stretch, {linear} change linearly otherwise, {none} by no linear law",
        tests.len()
    );
    let places = tests.iter().map(|(site, test)| {
        let law = match test.law {
            Law::Rotation => "rotation",
            Law::Stretch => "stretch",
            Law::Linear => "linear, neither rotation nor stretch",
            Law::None | Law::NotResolvable => "no linear law",
        };
        let numbers = format!(
            "{law}: {} % explained on other texts, {} % of the map antisymmetric, {} % by the best rotation, {} % by \
             the best factor",
            plain(100.0 * test.explained),
            plain(100.0 * test.antisymmetric),
            plain(100.0 * test.of_rotation),
            plain(100.0 * test.of_scaling)
        );
        Seen::at(format!("resid.{site}"), test.antisymmetric).reading(numbers)
    });
    let draft = Draft {
        score: Some(turned as f64 / tests.len() as f64),
        measured: Some(turned as f64 / tests.len() as f64),
        unit: "share of layers",
        places: places.collect(),
        ..Draft::new(if is_rotation { Answer::Yes } else { Answer::No }, why)
    };
    Ok(vec![("rotation".to_owned(), draft)])
}
