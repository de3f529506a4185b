//! One turn of the loop against the loss written out in f64: its value, its slope in every parameter, its divergences.
//!
//! The sequences of a step are spelled here by hand. A step of these tests moves parameters by minus their gradient.

mod progress;
mod reference;

use self::reference::{Loss, Sequence};
use super::*;
use crate::tiny::{CHAINS, Factors, THINKING, Tiny, config};

/// The model finds the answer by itself.
const RIGHT: [&str; 3] = ["<think>fgh</think>", "\nah", "\\boxed{2}<end>"];
/// What a naked rollout, and those with one and two lines of the expert, read before they write.
const PROMPTS: [&str; 3] = ["ab?\n<think>", "ab?\n<think>abc\n", "ab?\n<think>abc\nabk\n"];

fn trainer(tiny: &Tiny, config: TrainConfig) -> Trainer<'_> {
    Trainer::new(&tiny.decoder, tiny.format(), &tiny.dataset, config, tiny.adapter()).unwrap()
}

fn decayed(j: f64, count: i32) -> Vec<f64> {
    (0..count).map(|distance| j * 3.5 * 0.85_f64.powi(distance)).collect()
}

/// The three rollouts of the usual group with weights of their tokens; the advantages are to be put in.
fn usual(tiny: &Tiny, advantages: [f64; 3]) -> Vec<Sequence> {
    let model = [("fgh</think>", 1.0), ("ah</think>", 0.5 + 1.0 / 7.0), ("ah</think>", 0.5 + 1.0 / 6.0)];
    let answers = ["1}", "1}", "2}"];
    (0..3)
        .map(|view| {
            let (text, j) = model[view];
            let thinking = decayed(j, tiny.ids(text).len() as i32);
            Sequence::new(
                tiny,
                advantages[view],
                &[(PROMPTS[view], &[]), (text, &thinking), ("\\boxed{", &[]), (answers[view], &[0.5, 0.5])],
            )
        })
        .collect()
}

/// Advantages of one right rollout among three, the right one last.
fn one_of_three() -> [f64; 3] {
    let deviation = (2.0_f64 / 9.0).sqrt() + 1e-4;
    [-1.0 / 3.0 / deviation, -1.0 / 3.0 / deviation, 2.0 / 3.0 / deviation]
}

fn only_positive() -> [f64; 3] {
    [0.0, 0.0, one_of_three()[2]]
}

/// Takes one turn and holds it against `loss`: value, length of the gradient, and the way that each parameter went.
#[track_caller]
fn assert_step(tiny: &Tiny, settings: &[&str], loss: &Loss) -> Iteration {
    let mut trainer = trainer(tiny, config(settings));
    let before = Factors::of(trainer.adapter());
    let turn = trainer.turn().unwrap();
    let stepped = turn.stepped.as_ref().expect("a step");
    let expected = loss.value(tiny, &before);
    assert!((stepped.loss - expected).abs() < 1e-5, "loss {}, expected {expected}", stepped.loss);
    let after = Factors::of(trainer.adapter());
    let slope = loss.slope(tiny, &before);
    let length = slope.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
    assert!(length > 1e-3, "there is no slope to follow");
    let moved = after.parameters().zip(before.parameters()).map(|(after, before)| after - before);
    let apart = moved.zip(&slope).map(|(moved, slope)| (moved + slope).powi(2)).sum::<f64>().sqrt();
    assert!(apart < 1e-3 * length, "{settings:?}: {apart:e} from minus a slope of {length:e}");
    assert!((stepped.gradient_norm / length - 1.0).abs() < 1e-3, "{} {length}", stepped.gradient_norm);
    assert!((stepped.update_norm / length - 1.0).abs() < 1e-3, "{} {length}", stepped.update_norm);
    let trained: Vec<&Sequence> = loss.sequences.iter().filter(|sequence| sequence.advantage != 0.0).collect();
    let targets: usize = trained.iter().map(|sequence| sequence.targets().count()).sum();
    assert_eq!(stepped.weighted_tokens, targets as u64);
    let effective = trained.iter().map(|sequence| sequence.effective_tokens()).sum::<f64>() / trained.len() as f64;
    assert!((stepped.effective_tokens / effective - 1.0).abs() < 1e-5, "{} {effective}", stepped.effective_tokens);
    turn
}

#[test]
fn a_step_goes_down_the_slope_of_the_loss() {
    let tiny = Tiny::usual();
    let turn = assert_step(&tiny, &[], &Loss::of(usual(&tiny, only_positive())));
    let stepped = turn.stepped.unwrap();
    assert_eq!((stepped.scaffolded, stepped.naked), (None, None));
    assert_eq!(turn.records.len(), 3);
}

#[test]
fn a_step_makes_the_right_rollout_likelier() {
    let tiny = Tiny::usual();
    let [_, _, right] = usual(&tiny, only_positive()).try_into().ok().unwrap();
    let mut trainer = trainer(&tiny, config(&["optimizer.learning_rate=1e6"]));
    let before = right.log_probability(&tiny, &Factors::of(trainer.adapter()));
    trainer.turn().unwrap();
    let after = right.log_probability(&tiny, &Factors::of(trainer.adapter()));
    assert!(after > before + 1e-4, "{before} {after}");
}

#[test]
fn signs_and_sizes_of_advantages_enter_as_told() {
    let tiny = Tiny::usual();
    assert_step(&tiny, &["group.positive_only=false"], &Loss::of(usual(&tiny, one_of_three())));
    assert_step(&tiny, &["group.relative=false"], &Loss::of(usual(&tiny, [0.0, 0.0, 1.0])));
}

#[test]
fn the_divisor_is_the_one_that_was_chosen() {
    let tiny = Tiny::usual();
    let loss = |divisor: fn(&Sequence) -> f64| Loss { divisor, ..Loss::of(usual(&tiny, one_of_three())) };
    let all = "group.positive_only=false";
    assert_step(&tiny, &[all, "credit.normalisation=tokens"], &loss(|sequence| sequence.targets().count() as f64));
    assert_step(&tiny, &[all, "credit.normalisation={ constant = 7.0 }"], &loss(|_| 7.0));
}

#[test]
fn the_divergence_pulls_back_to_the_base() {
    let tiny = Tiny::usual();
    let plain = Loss::of(usual(&tiny, only_positive()));
    let stepped = assert_step(&tiny, &["kl.weight=2.5"], &Loss { divergence: 2.5, ..plain }).stepped.unwrap();
    assert!(
        stepped.scaffolded.is_some() && stepped.naked.is_none(),
        "what the loss needs is told, no more is measured"
    );
    // Over all sequences that carry a loss, a token as much as any other.
    let all = Loss { divergence: 0.7, ..Loss::of(usual(&tiny, one_of_three())) };
    assert_step(&tiny, &["kl.weight=0.7", "group.positive_only=false"], &all);
}

/// Scaffolded: where the step was taken. Naked: what the model wrote without the expert, the injected opener left out.
#[test]
fn divergences_are_measured_in_both_contexts() {
    let tiny = Tiny::usual();
    let mut trainer = trainer(&tiny, config(&["kl.every=2"]));
    let factors = Factors::of(trainer.adapter());
    let stepped = trainer.turn().unwrap().stepped.unwrap();
    let [naked, _, right] = usual(&tiny, only_positive()).try_into().ok().unwrap();
    for (found, sequence) in [(stepped.scaffolded.unwrap(), &right), (stepped.naked.unwrap(), &naked)] {
        let expected = sequence.divergences(&tiny, &factors);
        for (found, expected) in [found.k1, found.k3, found.exact].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
    let apart = (right.divergences(&tiny, &factors)[2] - naked.divergences(&tiny, &factors)[2]).abs();
    assert!(apart > 1e-4, "the two contexts are too much alike to tell them apart");
    // Every second step.
    let second = trainer.turn().unwrap().stepped.unwrap();
    assert_eq!((second.scaffolded, second.naked), (None, None));
    assert!(trainer.turn().unwrap().stepped.unwrap().naked.is_some());
}

#[test]
fn the_entropy_is_that_of_the_weighed_places() {
    let tiny = Tiny::usual();
    let mut trainer = trainer(&tiny, config(&[]));
    let factors = Factors::of(trainer.adapter());
    let stepped = trainer.turn().unwrap().stepped.unwrap();
    let right = &usual(&tiny, only_positive())[2];
    let entropies = right.targets().map(|target| {
        let distribution = tiny.distribution(Some(&factors), &right.tokens[..target]);
        -distribution.iter().map(|log| log.exp() * log).sum::<f64>()
    });
    let expected = entropies.sum::<f64>() / right.targets().count() as f64;
    assert!((stepped.entropy - expected).abs() < 1e-5, "{} {expected}", stepped.entropy);
}

#[test]
fn what_is_masked_learns_nothing_and_unmasked_tokens_learn() {
    let tiny = Tiny::usual();
    let unmasked = |mut sequence: Sequence| {
        let prompt = tiny.ids(PROMPTS[0]).len();
        sequence.weights.iter_mut().skip(prompt).filter(|weight| **weight == 0.0).for_each(|weight| *weight = 1.0);
        sequence
    };
    let sequences = usual(&tiny, only_positive()).into_iter().map(unmasked).collect();
    assert_step(&tiny, &["credit.mask=false"], &Loss::of(sequences));
}

/// Two groups of one step, each with a right rollout: each counts half.
#[test]
fn groups_of_a_step_share_it() {
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), (THINKING, "2")]);
    let both = [usual(&tiny, only_positive()), usual(&tiny, only_positive())].concat();
    assert_step(&tiny, &["group.per_step=2"], &Loss { groups: 2.0, ..Loss::of(both) });
    // A dead group takes no part, and leaves the other its whole weight.
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), (THINKING, "3")]);
    let turn = assert_step(&tiny, &["group.per_step=2"], &Loss::of(usual(&tiny, only_positive())));
    assert_eq!((turn.tally.zero_variance, turn.tally.skipped, turn.tally.rollouts), (1, 0, 6));
}

#[test]
fn supervised_fine_tuning_learns_the_whole_trace() {
    let trace = |tiny: &Tiny, truth: &str| {
        let text = format!("{THINKING}\n</think>\\boxed{{{truth}}}<end>");
        let weights = vec![1.0; tiny.ids(&text).len()];
        Sequence::new(tiny, 1.0, &[(PROMPTS[0], &[]), (&text, &weights)])
    };
    let tiny = Tiny::usual();
    let turn = assert_step(&tiny, &["method=sft"], &Loss::of(vec![trace(&tiny, "2")]));
    assert!(turn.groups.is_empty() && turn.records.is_empty());
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), (THINKING, "13")]);
    let both = vec![trace(&tiny, "2"), trace(&tiny, "13")];
    assert_step(&tiny, &["method=sft", "group.per_step=2"], &Loss { groups: 2.0, ..Loss::of(both) });
}

#[test]
fn filtered_fine_tuning_learns_all_words_of_a_right_rollout() {
    let tiny = Tiny::usual();
    let mut sequences = usual(&tiny, [0.0, 0.0, 1.0]);
    sequences[2].weights.iter_mut().filter(|weight| **weight > 0.0).for_each(|weight| *weight = 1.0);
    assert_step(&tiny, &["method=filtered-sft"], &Loss::of(sequences));
}

/// Without right rollouts, and where the naked one is right, nothing is learned.
#[test]
fn skipped_and_dead_groups_take_no_step() {
    for (chains, truth, settings, skipped, dead) in [
        (&RIGHT[..], "2", &[][..], 1, 0),
        (&RIGHT[..], "2", &["group.early_stop=false"][..], 0, 1),
        (&CHAINS[..], "3", &[][..], 0, 1),
    ] {
        let tiny = Tiny::new(chains, &[(THINKING, truth)]);
        let mut trainer = trainer(&tiny, config(settings));
        let before: Vec<f64> = Factors::of(trainer.adapter()).parameters().collect();
        let turn = trainer.turn().unwrap();
        assert!(turn.stepped.is_none(), "{settings:?}");
        assert_eq!((turn.groups.len(), turn.tally.rollouts), (1, 0), "counts wait for a step");
        assert!(before.into_iter().eq(Factors::of(trainer.adapter()).parameters()));
        let progress = trainer.progress();
        assert_eq!((progress.step, progress.iteration, progress.trained_tokens), (0, 1, 0));
        assert_eq!((progress.tally.skipped, progress.tally.zero_variance), (skipped, dead), "{settings:?}");
        assert_eq!(trainer.optimizer().steps(), 0);
    }
}
