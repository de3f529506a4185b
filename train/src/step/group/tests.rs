//! Which rollouts a group has, what each of them is worth, and which of its tokens carries how much.

use super::*;
use crate::adapter::TrainableAdapter;
use crate::tiny::{CHAINS, THINKING, Tiny, config};

/// As [`CHAINS`], but the model finds the answer by itself.
const RIGHT: [&str; 4] = ["<think>fgh</think>", "\nah", "\\boxed{2}<end>", "</think>\\boxed{"];

/// Groups by the policy of `adapter`, with their records.
fn made_by(
    adapter: &TrainableAdapter,
    tiny: &Tiny,
    config: &TrainConfig,
    share_scale: f64,
    batch: &[(u64, usize)],
) -> (Vec<Group>, Vec<RolloutRecord>) {
    let (format, anchors) = (tiny.format(), Anchors::default());
    let variant = adapter.variant(&tiny.decoder);
    let common = tiny.ids("\n").into_iter().collect();
    let maker = GroupMaker {
        decoder: &tiny.decoder,
        variant: &variant,
        format: &format,
        dataset: &tiny.dataset,
        anchors: &anchors,
        common: &common,
        config,
        share_scale,
    };
    let groups = maker.make(batch).unwrap();
    let records = groups.iter().flat_map(|group| maker.records(group).unwrap()).collect();
    (groups, records)
}

fn made(
    tiny: &Tiny,
    config: &TrainConfig,
    share_scale: f64,
    batch: &[(u64, usize)],
) -> (Vec<Group>, Vec<RolloutRecord>) {
    made_by(&tiny.adapter(), tiny, config, share_scale, batch)
}

/// The group of the first problem.
fn group(tiny: &Tiny, settings: &[&str]) -> Group {
    made(tiny, &config(settings), 1.0, &[(0, 0)]).0.remove(0)
}

fn views(group: &Group) -> Vec<String> {
    group.members.iter().map(|member| member.rollout.view.to_string()).collect()
}

fn scripts(tiny: &Tiny, group: &Group) -> Vec<String> {
    group.members.iter().map(|member| tiny.script(&member.rollout)).collect()
}

fn advantages(group: &Group) -> Vec<f64> {
    group.members.iter().map(|member| member.advantage).collect()
}

#[track_caller]
fn assert_close(found: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let found: Vec<f64> = found.into_iter().collect();
    let near = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
    assert!(near, "{found:?}\n{expected:?}");
}

#[track_caller]
fn assert_weights(member: &Scored, expected: &[f64]) {
    assert_close(member.weights.iter().map(|weight| f64::from(*weight)), expected);
}

/// Advantages of one right rollout after two wrong ones, from their definition.
fn one_of_three() -> [f64; 3] {
    let deviation = (2.0_f64 / 9.0).sqrt() + 1e-4;
    [-1.0 / 3.0 / deviation, -1.0 / 3.0 / deviation, 2.0 / 3.0 / deviation]
}

/// So many tokens that weigh `first`, then what proximity leaves of `j` in `count` tokens.
fn decayed(j: f64, count: i32) -> Vec<f64> {
    (0..count).map(|distance| j * 3.5 * 0.85_f64.powi(distance)).collect()
}

const NAKED: &str = "Model(fgh</think>) Opener(\\boxed{) Answer(1})";
const FIRST: &str = "Expert(abc↵) Model(ah</think>) Opener(\\boxed{) Answer(1})";
const SECOND: &str = "Expert(abc↵abk↵) Model(ah</think>) Opener(\\boxed{) Answer(2})";

#[test]
fn a_wrong_naked_rollout_is_followed_by_scaffolded_ones() {
    let tiny = Tiny::usual();
    let found = group(&tiny, &[]);
    assert_eq!(views(&found), ["naked", "scaffold_0", "scaffold_1"]);
    assert_eq!(scripts(&tiny, &found), [NAKED, FIRST, SECOND]);
    assert_eq!((found.iteration, found.sample, found.outcome), (0, 0, GroupOutcome::Trained));
    let rewards: Vec<_> = found.members.iter().map(|member| member.reward).collect();
    assert_eq!(rewards, [Some(0.0), Some(0.0), Some(1.0)]);
    assert_close(advantages(&found), &[0.0, 0.0, one_of_three()[2]]);
}

/// `ah</think>` shares `a` with what it stands in for: of {a, h, </think>, b, k, d, e} in the first view, without k in
/// the second.
#[test]
fn each_token_has_its_weight() {
    let tiny = Tiny::usual();
    let found = group(&tiny, &[]);
    let similarities: Vec<_> = found.members.iter().map(|member| member.jaccard).collect();
    assert_eq!(similarities, [None, Some(1.0 / 7.0), Some(1.0 / 6.0)]);
    assert_weights(&found.members[0], &[vec![0.0; 5], decayed(1.0, 4), vec![0.0, 0.5, 0.5]].concat());
    let j = |similarity: f64| 0.5 + similarity;
    assert_weights(&found.members[1], &[vec![0.0; 9], decayed(j(1.0 / 7.0), 3), vec![0.0, 0.5, 0.5]].concat());
    assert_weights(&found.members[2], &[vec![0.0; 13], decayed(j(1.0 / 6.0), 3), vec![0.0, 0.5, 0.5]].concat());
}

#[test]
fn each_part_of_a_weight_goes_off_alone() {
    let tiny = Tiny::usual();
    let j = 0.5 + 1.0 / 6.0;
    let (flat, answer) = (vec![j; 3], vec![0.5, 0.5]);
    for (off, injected, model) in [
        ("credit.mask=false", 1.0, decayed(j, 3)),
        ("credit.proximity=false", 0.0, flat),
        ("credit.jaccard=false", 0.0, decayed(1.0, 3)),
        // Of the whole target: {a, b, c, k, d, e} and {h, </think>}.
        ("credit.jaccard_scope=global", 0.0, decayed(0.5 + 1.0 / 8.0, 3)),
    ] {
        let found = group(&tiny, &[off]);
        assert_eq!(scripts(&tiny, &found), [NAKED, FIRST, SECOND], "{off}");
        assert_close(advantages(&found), &[0.0, 0.0, one_of_three()[2]]);
        let expected = [vec![0.0; 5], vec![injected; 8], model, vec![injected], answer.clone()].concat();
        assert_weights(&found.members[2], &expected);
    }
}

#[test]
fn a_forced_ending_carries_no_weight() {
    let tiny = Tiny::new(&["\na\n", "<think>ff", "\\boxed{1}"], &[(THINKING, "2")]);
    let settings = ["budget.thinking=10", "budget.tail=3", "credit.jaccard=false", "group.size=2"];
    let found = group(&tiny, &settings);
    let forced = "Tail(be↵) Close(</think>) Opener(\\boxed{) Answer(1})";
    let naked = "Model(ffffffffff) Close(</think>) Opener(\\boxed{) Answer(1})";
    assert_eq!(scripts(&tiny, &found), [naked.to_owned(), format!("Expert(abc↵) Model(a↵a↵a↵) {forced}")]);
    assert_weights(&found.members[1], &[vec![0.0; 9], decayed(1.0, 6), vec![0.0; 5], vec![0.5, 0.5]].concat());
    let unmasked = group(&tiny, &[&settings[..], &["credit.mask=false"]].concat());
    let expected = [vec![0.0; 5], vec![1.0; 4], decayed(1.0, 6), vec![1.0; 5], vec![0.5, 0.5]].concat();
    assert_weights(&unmasked.members[1], &expected);
    let off = group(&tiny, &["budget.thinking=10", "budget.forced_close=false"]);
    assert!(scripts(&tiny, &off).iter().all(|script| !script.contains("Close") && !script.contains("Answer")));
}

#[test]
fn a_right_naked_rollout_ends_its_group() {
    let tiny = Tiny::new(&RIGHT, &[(THINKING, "2")]);
    let found = group(&tiny, &[]);
    assert_eq!((views(&found), found.outcome), (vec!["naked".to_owned()], GroupOutcome::Skipped));
    assert_eq!((found.members[0].reward, found.members[0].advantage), (Some(1.0), 0.0));
    // Not even where its reward alone would count.
    let alone = group(&tiny, &["group.relative=false"]);
    assert_eq!((alone.members.len(), alone.outcome), (1, GroupOutcome::Skipped));
    assert_eq!(advantages(&alone), [0.0]);
    let on = group(&tiny, &["group.early_stop=false"]);
    assert_eq!(views(&on), ["naked", "scaffold_0", "scaffold_1"]);
    assert_eq!((advantages(&on), on.outcome), (vec![0.0; 3], GroupOutcome::ZeroVariance));
    let absolute = group(&tiny, &["group.early_stop=false", "group.relative=false"]);
    assert_eq!((advantages(&absolute), absolute.outcome), (vec![1.0; 3], GroupOutcome::Trained));
}

#[test]
fn without_a_naked_rollout_all_have_the_expert() {
    let tiny = Tiny::usual();
    let shares = ["group.naked_first=false", "scaffold.expert_shares=[0.25, 0.5, 0.75]", "scaffold.cycles=[1, 1, 1]"];
    let found = group(&tiny, &shares);
    assert_eq!(views(&found), ["scaffold_0", "scaffold_1", "scaffold_2"]);
    let third = "Expert(abc↵abk↵abd↵) Model(ah</think>) Opener(\\boxed{) Answer(2})";
    assert_eq!(scripts(&tiny, &found), [FIRST, SECOND, third]);
    // A right scaffolded rollout in the first place ends nothing.
    let right = group(&Tiny::new(&RIGHT, &[(THINKING, "2")]), &shares);
    assert_eq!((right.members.len(), right.outcome), (3, GroupOutcome::ZeroVariance));
}

#[test]
fn negative_advantages_propagate_only_where_told() {
    let tiny = Tiny::usual();
    assert_close(advantages(&group(&tiny, &["group.positive_only=false"])), &one_of_three());
    assert_eq!(advantages(&group(&tiny, &["group.relative=false"])), [0.0, 0.0, 1.0]);
    // Nobody is right: there is nothing to compare.
    let wrong = group(&Tiny::new(&CHAINS, &[(THINKING, "3")]), &["group.positive_only=false"]);
    assert_eq!((advantages(&wrong), wrong.outcome), (vec![0.0; 3], GroupOutcome::ZeroVariance));
}

#[test]
fn filtered_fine_tuning_keeps_right_rollouts_and_weighs_their_tokens_alike() {
    let tiny = Tiny::usual();
    let found = group(&tiny, &["method=filtered-sft"]);
    assert_eq!(scripts(&tiny, &found), [NAKED, FIRST, SECOND]);
    assert_eq!(advantages(&found), [0.0, 0.0, 1.0]);
    assert_weights(&found.members[2], &[vec![0.0; 13], vec![1.0; 3], vec![0.0], vec![1.0; 2]].concat());
    // A right naked rollout is kept, though nothing follows it.
    let right = group(&Tiny::new(&RIGHT, &[(THINKING, "2")]), &["method=filtered-sft"]);
    assert_eq!((views(&right), right.outcome), (vec!["naked".to_owned()], GroupOutcome::Trained));
    assert_eq!(advantages(&right), [1.0]);
}

#[test]
fn rejection_sampling_keeps_right_rollouts_of_the_model_alone() {
    let found = group(&Tiny::new(&RIGHT, &[(THINKING, "2")]), &["method=rft", "group.size=3"]);
    assert_eq!(views(&found), ["naked", "naked_1", "naked_2"]);
    assert_eq!(advantages(&found), [1.0; 3]);
    let wrong = group(&Tiny::new(&RIGHT, &[(THINKING, "3")]), &["method=rft", "group.size=3"]);
    assert_eq!(advantages(&wrong), [0.0; 3]);
}

/// 1 and 2 are equally likely behind the opener, so that answers differ between rollouts.
#[test]
fn policy_optimisation_is_naked_and_learns_from_both_signs() {
    let tiny = Tiny::new(&["<think>fgh</think>", "\\boxed{1}", "\\boxed{2}"], &[(THINKING, "2")]);
    let settings = ["method=grpo", "group.size=8", "sampling.top_k=2", "sampling.temperature=0.2"];
    let found = group(&tiny, &settings);
    let names: Vec<String> = (1..8).map(|index| format!("naked_{index}")).collect();
    assert_eq!(views(&found), [&["naked".to_owned()], &names[..]].concat());
    let answers: Vec<f64> =
        found.members.iter().map(|member| f64::from(u8::from(member.rollout.answer.as_deref() == Some("2")))).collect();
    let mean = answers.iter().sum::<f64>() / 8.0;
    assert!(mean > 0.0 && mean < 1.0, "the test has nothing to show: another seed is needed");
    let deviation = (answers.iter().map(|answer| (answer - mean).powi(2)).sum::<f64>() / 8.0).sqrt();
    let expected: Vec<f64> = answers.iter().map(|answer| (answer - mean) / (deviation + 1e-4)).collect();
    assert_close(advantages(&found), &expected);
    assert_weights(&found.members[0], &[vec![0.0; 5], vec![1.0; 4], vec![0.0], vec![1.0; 2]].concat());
    let absolute = group(&tiny, &[&settings[..], &["group.relative=false"]].concat());
    assert_eq!(advantages(&absolute), answers);
}

#[test]
fn what_leaks_may_be_dropped_and_what_cannot_be_judged_has_no_reward() {
    let mut tiny = Tiny::new(&CHAINS, &[("abc\nk\n2\nabd\nab", "2")]);
    let rewards = |group: &Group| group.members.iter().map(|member| member.reward).collect::<Vec<_>>();
    let flagged = group(&tiny, &[]);
    assert_eq!((flagged.members[2].rollout.leak, rewards(&flagged)[2]), (Leak::Scaffold, Some(1.0)));
    let dropped = group(&tiny, &["scaffold.leak_guard=drop"]);
    assert_eq!(rewards(&dropped), [Some(0.0), Some(0.0), None]);
    assert_eq!((advantages(&dropped), dropped.outcome), (vec![0.0; 3], GroupOutcome::ZeroVariance));
    let absolute = group(&tiny, &["scaffold.leak_guard=drop", "group.relative=false"]);
    assert_eq!(advantages(&absolute), [0.0; 3]);
    tiny.dataset.problems[0].ground_truth.clear();
    assert_eq!(rewards(&group(&tiny, &[])), [None; 3]);
}

#[test]
fn the_curriculum_takes_the_experts_words_away() {
    let tiny = Tiny::usual();
    let none = made(&tiny, &config(&[]), 0.0, &[(0, 0)]).0.remove(0);
    assert_eq!(scripts(&tiny, &none), [NAKED; 3]);
    assert!(none.members.iter().all(|member| member.rollout.expert_share == 0.0));
    let half = made(&tiny, &config(&["scaffold.minimum_chunk=2"]), 0.5, &[(0, 0)]).0.remove(0);
    assert_eq!(half.members[2].rollout.expert_share, 0.25);
    // The second view holds more than the first also where the curriculum leaves them the same share.
    let expert = |view: usize| half.members[view].rollout.said().tokens;
    assert_eq!((expert(1), expert(2)), (4, 8));
}

#[test]
fn draws_depend_on_seed_sample_and_view_alone() {
    let tiny = Tiny::new(&[], &[(THINKING, "2"), ("abk\nabe", "1")]);
    let hot = |settings: &[&str]| config(&[&["sampling.top_k=0", "method=grpo", "group.size=2"], settings].concat());
    let tokens = |config: &TrainConfig, batch: &[(u64, usize)]| -> Vec<Vec<u32>> {
        let (groups, _) = made(&tiny, config, 1.0, batch);
        groups.iter().flat_map(|group| &group.members).map(|member| member.rollout.tokens.clone()).collect()
    };
    let both = tokens(&hot(&[]), &[(4, 0), (5, 1)]);
    assert_eq!(tokens(&hot(&[]), &[(5, 1)]), both[2..]);
    assert_ne!(both[0], both[1], "two views");
    assert_ne!(tokens(&hot(&["seed=4"]), &[(4, 0)]), both[..2]);
    assert_ne!(tokens(&hot(&[]), &[(6, 0)]), both[..2]);
    let scaffolded = config(&["sampling.top_k=0", "scaffold.expert_shares=[0.25, 0.25]"]);
    let views = tokens(&scaffolded, &[(4, 0)]);
    assert_ne!(views[1][9..], views[2][9..], "two views with the same words of the expert");
    assert_ne!(views[0][5], views[1][9], "the first words of a naked and a scaffolded view of one number");
}

#[test]
fn a_sharp_distribution_leaves_no_choice() {
    let tiny = Tiny::usual();
    for sharp in ["sampling.top_p=1e-9", "sampling.temperature=0.01"] {
        assert_eq!(scripts(&tiny, &group(&tiny, &["sampling.top_k=0", sharp])), [NAKED, FIRST, SECOND], "{sharp}");
    }
    let hot = ["sampling.top_k=0", "sampling.temperature=3.0"];
    assert_ne!(scripts(&tiny, &group(&tiny, &hot)), [NAKED, FIRST, SECOND]);
    let single = ["sampling.top_k=1", "sampling.temperature=3.0"];
    assert_eq!(scripts(&tiny, &group(&tiny, &single)), [NAKED, FIRST, SECOND]);
}

/// The adapter makes 2 likelier behind the opener than 1, which the base prefers.
#[test]
fn the_policy_writes_and_not_the_base() {
    let tiny = Tiny::usual();
    let mut adapter = tiny.adapter();
    let [opener, two] = ["\\boxed{", "2"].map(|text| tiny.ids(text)[0] as usize);
    // Of A the first row, of B the first column.
    for ((_, values), place) in adapter.parameters_mut().zip([opener, 2 * two]) {
        values.fill(0.0);
        values[place] = 2.0;
    }
    let found = made_by(&adapter, &tiny, &config(&[]), 1.0, &[(0, 0)]).0.remove(0);
    assert_eq!(scripts(&tiny, &found), ["Model(fgh</think>) Opener(\\boxed{) Answer(2})"]);
    assert_eq!(found.outcome, GroupOutcome::Skipped);
}

#[test]
fn plans_differ_between_visits() {
    let tiny = Tiny::new(&CHAINS, &[("ab\nac\nad\nae\naf\nag\nab\nac\nad\nae\naf\nag", "2")]);
    let many = config(&["scaffold.cycles=[2, 2]", "scaffold.minimum_chunk=3", "scaffold.dirichlet=1.0"]);
    let batch: Vec<(u64, usize)> = (0..8).map(|iteration| (iteration, 0)).collect();
    let (groups, _) = made(&tiny, &many, 1.0, &batch);
    let first = |group: &Group| group.members[2].rollout.spans[1].tokens.len();
    assert!(groups.iter().any(|group| first(group) != first(&groups[0])), "the same chunks in every visit");
}

#[test]
fn a_record_says_who_said_what_and_what_it_weighs() {
    let tiny = Tiny::usual();
    let (groups, records) = made(&tiny, &config(&["group.positive_only=false"]), 1.0, &[(7, 0)]);
    assert_eq!(records.iter().map(|record| record.view.as_str()).collect::<Vec<_>>(), views(&groups[0]));
    let record = &records[2];
    assert_eq!((record.iteration, record.sample, record.prompt.as_str()), (7, 0, "ab?"));
    assert_eq!((record.correct, record.reward, record.leak, record.forced_close), (true, 1.0, Leak::None, false));
    assert_close([record.advantage, records[0].advantage], &[one_of_three()[2], one_of_three()[0]]);
    assert_eq!((record.target_answer.as_str(), record.generated_answer.as_deref()), ("2", Some("2")));
    assert_eq!((record.jaccard, record.expert_share), (Some(1.0 / 6.0), 0.5));
    let counts = record.token_counts;
    assert_eq!((counts.prompt, counts.expert, counts.model, counts.forced, counts.answer), (5, 8, 3, 1, 2));
    let texts: String = record.segments.iter().map(|segment| segment.text.as_str()).collect();
    assert_eq!(texts, "ab?\n<think>abc\nabk\nah</think>\\boxed{2}");
    for segment in &record.segments {
        let own = matches!(segment.tag, SegmentTag::Model | SegmentTag::Answer);
        assert_eq!((segment.source == Source::Model, segment.masked), (own, !own));
        let written = if own { segment.token_count } else { 0 };
        assert_eq!((segment.weights.len(), segment.pieces.len()), (written, written));
    }
    assert_close(record.segments[2].weights.iter().map(|weight| f64::from(*weight)), &decayed(0.5 + 1.0 / 6.0, 3));
    assert_eq!(record.segments[2].pieces, ["a", "h", "</think>"]);
    let (_, records) = made(&tiny, &config(&["credit.mask=false"]), 1.0, &[(7, 0)]);
    let masked: Vec<bool> = records[2].segments.iter().map(|segment| segment.masked).collect();
    assert_eq!(masked, [true, false, false, false, false]);
}
