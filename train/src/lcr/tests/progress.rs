//! What a run visits, counts and remembers from turn to turn.

use super::*;
use crate::log::iteration_stats::Share;

const TWO: [(&str, &str); 2] = [(THINKING, "2"), ("abc\nabk\nabd\nabc", "2")];

/// Steps that move nothing, so that every turn writes the same.
const STILL: &str = "optimizer.learning_rate=0.0";

fn visited(turn: &Iteration) -> Vec<(u64, usize)> {
    turn.groups.iter().map(|group| (group.iteration, group.sample)).collect()
}

#[test]
fn every_pass_visits_every_sample_until_the_limit() {
    let tiny = Tiny::new(&CHAINS, &TWO);
    let mut trainer = trainer(&tiny, config(&["group.per_step=3", "stop.samples=5", STILL]));
    assert_eq!(trainer.done(), 0.0);
    let first = visited(&trainer.turn().unwrap());
    assert_eq!((trainer.done(), trainer.progress().epoch, trainer.progress().position), (0.6, 1, 1));
    let second = visited(&trainer.turn().unwrap());
    assert_eq!((trainer.done(), trainer.progress().epoch, trainer.progress().position), (1.0, 2, 1));
    let all = [first, second].concat();
    assert_eq!(all.iter().map(|(iteration, _)| *iteration).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let order = |epoch| tiny.dataset.balanced_order(3, epoch);
    let expected = [order(0), order(1), order(2)].concat();
    assert_eq!(all.iter().map(|(_, sample)| *sample).collect::<Vec<_>>(), expected[..5]);
    let after = trainer.turn().unwrap();
    assert!(after.groups.is_empty() && after.stepped.is_none());
    assert_eq!((trainer.progress().step, trainer.progress().iteration), (2, 5));
}

/// 6 + 5 + 5 tokens written, 19 trained on.
#[test]
fn tokens_count_towards_their_limit() {
    let tiny = Tiny::usual();
    let mut trainer = trainer(&tiny, config(&["stop.samples=0", "stop.tokens=100", STILL]));
    trainer.turn().unwrap();
    let progress = trainer.progress();
    assert_eq!((progress.generated_tokens, progress.trained_tokens, progress.correct_rollouts), (16, 19, 1));
    assert_eq!(trainer.done(), 0.35);
    trainer.turn().unwrap();
    trainer.turn().unwrap();
    assert_eq!(
        (trainer.progress().iteration, trainer.done()),
        (3, 1.0),
        "it may end behind its limit, and is then done"
    );
    assert_eq!(trainer.progress().correct_rollouts, 3);
}

#[test]
fn a_step_tells_what_was_counted_since_the_last() {
    // The second problem has no right rollout: its group is dead.
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), (THINKING, "3")]);
    let mut trainer = trainer(&tiny, config(&["stop.samples=8", STILL]));
    let mut turns = Vec::new();
    while trainer.done() < 1.0 {
        turns.push(trainer.turn().unwrap());
    }
    let dead_before = |step: usize| turns[..step].iter().rev().take_while(|turn| turn.stepped.is_none()).count() as u64;
    for (place, turn) in turns.iter().enumerate().filter(|(_, turn)| turn.stepped.is_some()) {
        let (tally, groups) = (&turn.tally, 1 + dead_before(place));
        assert_eq!(
            (tally.skipped, tally.zero_variance, tally.rollouts, tally.rewarded),
            (0, groups - 1, 3 * groups, 3 * groups)
        );
        let share = |name: &str| tally.views[name];
        assert_eq!(share("naked"), Share { correct: 0, of: groups });
        assert_eq!(share("scaffold_1"), Share { correct: 1, of: groups });
        assert_eq!(tally.leaks["none"], Share { correct: 1, of: 3 * groups });
        assert_eq!((tally.views.len(), tally.leaks.len(), tally.rewards), (3, 1, 1.0));
        assert!((tally.advantages - one_of_three()[2]).abs() < 1e-9);
        assert_eq!((tally.forced, tally.jaccards, tally.generated), (0, 2 * groups, 16 * groups));
        assert!((tally.jaccard - groups as f64 * (1.0 / 7.0 + 1.0 / 6.0)).abs() < 1e-9);
    }
    assert_eq!(turns.iter().filter(|turn| turn.stepped.is_some()).count(), 4);
    let told: u64 = turns.iter().map(|turn| turn.tally.rollouts).sum();
    assert_eq!(told + trainer.progress().tally.rollouts, 24);
}

#[test]
fn the_size_of_advantages_is_told_whatever_their_sign() {
    let tiny = Tiny::usual();
    let turn = trainer(&tiny, config(&["group.positive_only=false"])).turn().unwrap();
    let expected: f64 = one_of_three().iter().map(|advantage| advantage.abs()).sum();
    assert!((turn.tally.advantages - expected).abs() < 1e-9, "{} {expected}", turn.tally.advantages);
}

#[test]
fn the_curriculum_follows_the_share_of_the_run() {
    let tiny = Tiny::usual();
    let mut trainer = trainer(&tiny, config(&["curriculum.end=0.5", "stop.samples=2", STILL]));
    let mut shares = || -> Vec<f64> {
        let turn = trainer.turn().unwrap();
        turn.groups[0].members.iter().map(|member| member.rollout.expert_share).collect()
    };
    assert_eq!(shares(), [0.0, 0.25, 0.5]);
    // Half of the way from 1 to 0.5.
    assert_eq!(shares(), [0.0, 0.75 * 0.25, 0.75 * 0.5]);
}

#[test]
fn the_learning_rate_follows_the_share_of_the_run() {
    let tiny = Tiny::usual();
    let settings = ["optimizer.schedule=cosine", "optimizer.learning_rate=1e-3", "stop.samples=4"];
    let mut trainer = trainer(&tiny, config(&settings));
    for step in 0..4 {
        let found = trainer.turn().unwrap().stepped.unwrap().learning_rate;
        let expected = 1e-3 * 0.5 * (1.0 + (std::f64::consts::PI * f64::from(step) / 4.0).cos());
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}

#[test]
fn a_dry_run_changes_nothing_and_shows_what_will_be() {
    let tiny = Tiny::new(&CHAINS, &TWO);
    let mut trainer = trainer(&tiny, config(&["group.per_step=2"]));
    let (groups, records) = trainer.dry_run().unwrap();
    assert_eq!((groups.len(), records.len()), (1, 3));
    assert_eq!(trainer.progress(), &Progress::default());
    let turn = trainer.turn().unwrap();
    assert_eq!(records, turn.records[..3]);
    let mut supervised = super::trainer(&tiny, config(&["method=sft"]));
    assert!(supervised.dry_run().unwrap().0.is_empty());
}

#[test]
fn thinking_beyond_the_positions_is_refused_with_its_line() {
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), (&"abc\n".repeat(40), "2")]);
    let refused = Trainer::new(&tiny.decoder, tiny.format(), &tiny.dataset, config(&[]), tiny.adapter());
    match refused.unwrap_err() {
        TrainError::ThinkingTooLong { line, positions, .. } => assert_eq!((line, positions), (2, 128)),
        other => panic!("{other}"),
    }
}

/// A run that goes on from another's progress, adapter and moments takes the same next step.
#[test]
fn a_resumed_run_goes_on_as_the_other_would() {
    let tiny = Tiny::new(&CHAINS, &TWO);
    let settings = config(&["optimizer.learning_rate=1.0", "optimizer.betas=[0.5, 0.5]", "stop.samples=6"]);
    let mut straight = trainer(&tiny, settings.clone());
    for _ in 0..3 {
        straight.turn().unwrap();
    }
    let (progress, adapter, moments) =
        (straight.progress().clone(), straight.adapter().clone(), straight.optimizer().clone());
    let mut resumed = trainer(&tiny, settings);
    resumed
        .resume(progress, adapter, |optimizer| -> Result<(), TrainError> {
            *optimizer = moments;
            Ok(())
        })
        .unwrap();
    let [one, other] = [&mut straight, &mut resumed].map(|trainer| {
        let turn = trainer.turn().unwrap();
        let step = turn.stepped.unwrap();
        (turn.records, step.loss, step.gradient_norm, Factors::of(trainer.adapter()).parameters().collect::<Vec<_>>())
    });
    assert_eq!(one, other);
    assert_eq!(straight.progress(), resumed.progress());
}
