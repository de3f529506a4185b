//! Against made-up profiles: far, as far as others, and too few of them.

use lcr_documents::audit::{Asked as AskedOf, Tool};
use lcr_documents::profile::{KnownGood, SCHEMA};

use super::*;

fn profile(scores: impl Iterator<Item = f64>) -> Profile {
    let adapter = |(at, score)| KnownGood {
        name: format!("adapter-{at}"),
        sha256: format!("{at}"),
        method: "LoRA".to_owned(),
        ranks: vec![8],
        targets: Vec::new(),
        relative_norm: None,
        scores: [("constant".to_owned(), score)].into_iter().collect(),
    };
    Profile {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: "1".to_owned() },
        date: "2026-12-01".to_owned(),
        base: String::new(),
        probes: String::new(),
        asked: AskedOf {
            sets: Vec::new(),
            metrics: Vec::new(),
            max_prompts: None,
            max_tokens: 512,
            tokens: false,
            raw: false,
            keep_sinks: false,
            subspace_dimensions: 10,
            tracked: 0,
            seed: 0,
            depth: Depth::Standard,
            sweep_budget: 0,
            stack: Vec::new(),
            profile: None,
        },
        adapters: scores.enumerate().map(adapter).collect(),
    }
}

/// What is said of an adapter with such a score in `constant`.
fn held(score: f64, known: &Profile, sha256: &str, rate: f64) -> IndexMap<String, Question> {
    let draft = Draft { score: Some(score), ..Draft::new(Answer::No, "measured") };
    let mut questions: IndexMap<String, Question> =
        [("constant".to_owned(), draft.question("?", Depth::Standard, None))].into_iter().collect();
    hold_against(&mut questions, known, sha256, rate);
    questions
}

#[test]
fn only_what_is_rarer_than_the_rate_is_unlike_them() {
    let known = profile((0..99).map(f64::from));
    let far = held(500.0, &known, "new", 0.01);
    assert_eq!((far["profile"].answer, far["profile"].p), (Answer::Yes, Some(0.01)));
    assert_eq!(far["constant"].p_known_good, Some(0.01));
    let within = held(90.5, &known, "new", 0.01);
    assert_eq!((within["profile"].answer, within["profile"].p), (Answer::No, Some(0.09)));
    assert_eq!(held(97.5, &known, "new", 0.02)["profile"].answer, Answer::Yes);
}

#[test]
fn too_few_adapters_cannot_say_yes() {
    let found = held(500.0, &profile((0..24).map(f64::from)), "new", 0.01);
    assert_eq!((found["profile"].answer, found["profile"].p), (Answer::Unresolved, Some(0.04)));
    assert!(found["profile"].why.contains("takes 99 of them"), "{}", found["profile"].why);
    assert_eq!(held(1.0, &profile(std::iter::once(1.0)), "new", 0.01)["profile"].answer, Answer::Unresolved);
}

#[test]
fn an_adapter_is_not_held_against_itself() {
    let found = held(98.0, &profile((0..99).map(f64::from)), "98", 0.01);
    assert!(found["profile"].why.ends_with("left out of it"), "{}", found["profile"].why);
    assert_eq!(found["constant"].p_known_good, Some(1.0 / 99.0));
}
