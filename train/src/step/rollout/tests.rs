//! Who says what, token by token, on a model whose every word is known beforehand.

use lcr_model::sampling::SamplingOptions;

use super::*;
use crate::config::TrainConfig;
use crate::tiny::{CHAINS, THINKING, Tiny, config};

/// Two expert chunks of four tokens, with so many of the model in between; the budget behind the last says nothing.
fn two_chunks(between: usize) -> Plan {
    Plan {
        expert_chunks: vec![4, 4],
        model_budgets: vec![between, 30],
        expert_share: 0.5,
        minimum_chunk: 4,
        room: usize::MAX,
        ..Plan::default()
    }
}

/// One expert chunk.
fn one_chunk(length: usize) -> Plan {
    let (expert_chunks, model_budgets) = (vec![length], vec![8]);
    Plan { expert_chunks, model_budgets, expert_share: 0.25, minimum_chunk: 4, room: usize::MAX, ..Plan::default() }
}

fn greedy() -> Sampler {
    Sampler::new(SamplingOptions::default()).unwrap()
}

/// A rollout of the first problem by the base; the likeliest token every time.
fn rollout_within(tiny: &Tiny, config: &TrainConfig, plan: Option<Plan>, max_positions: usize) -> Rollout {
    let format = tiny.format();
    let problem = &tiny.dataset.problems[0];
    let target = format.target(problem).unwrap();
    let rules = Rules { format: &format, budget: &config.budget, scaffold: &config.scaffold, max_positions };
    let mut session = Session::new(&tiny.decoder, None);
    let prompt = format.prompt(None, &problem.prompt).unwrap();
    assert_eq!(tiny.text(&prompt), "ab?\n<think>");
    let sequence = read_prompts(&mut session, std::slice::from_ref(&prompt)).unwrap()[0];
    let view = if plan.is_some() { View::Scaffold(0) } else { View::Naked(0) };
    let member =
        Member::new(rules, Sample { problem, target: &target }, sequence, &prompt, view, plan, greedy()).unwrap();
    let rollout = generate(&mut session, vec![member]).unwrap().remove(0);
    assert!(session.is_empty(), "what a finished rollout has read is freed");
    rollout
}

fn rollout(tiny: &Tiny, config: &TrainConfig, plan: Option<Plan>) -> Rollout {
    rollout_within(tiny, config, plan, 128)
}

fn stand_ins(rollout: &Rollout) -> Vec<Option<Range<usize>>> {
    let model = rollout.spans.iter().filter(|span| span.tag == SegmentTag::Model);
    model.map(|span| span.replaced_span.clone()).collect()
}

#[test]
fn a_naked_rollout_holds_nothing_of_the_expert() {
    let tiny = Tiny::usual();
    let found = rollout(&tiny, &config(&[]), None);
    assert_eq!(tiny.script(&found), "Model(fgh</think>) Opener(\\boxed{) Answer(1})");
    assert_eq!((found.view, found.answer.as_deref(), found.judgement), (View::Naked(0), Some("1"), Judgement::Wrong));
    assert_eq!((found.generated(), found.forced_close, found.leak, found.expert_share), (6, false, Leak::None, 0.0));
    assert_eq!(stand_ins(&found), [None]);
    assert!(!found.correct());
    // Its stretches follow one another and cover all.
    let ends: Vec<usize> = found.spans.iter().map(|span| span.tokens.end).collect();
    assert_eq!(ends, [5, 9, 10, 12]);
    assert_eq!(found.tokens.len(), 12);
}

#[test]
fn the_expert_begins_and_its_hint_makes_the_answer_right() {
    let tiny = Tiny::usual();
    let found = rollout(&tiny, &config(&[]), Some(one_chunk(8)));
    assert_eq!(tiny.script(&found), "Expert(abc↵abk↵) Model(ah</think>) Opener(\\boxed{) Answer(2})");
    assert!(found.correct());
    assert_eq!((found.view, found.generated(), found.expert_share), (View::Scaffold(0), 5, 0.25));
    assert_eq!(stand_ins(&found), [Some(8..16)], "behind the last expert chunk it stands for all that is left");
    let without = rollout(&tiny, &config(&[]), Some(one_chunk(4)));
    assert_eq!(tiny.script(&without), "Expert(abc↵) Model(ah</think>) Opener(\\boxed{) Answer(1})");
}

/// One line of the model for one line of the expert, then lines without end until the budget is spent.
#[test]
fn expert_and_model_take_turns_and_a_spent_budget_is_closed_by_force() {
    let tiny = Tiny::new(&["\na\n", "\\boxed{1}"], &[(THINKING, "2")]);
    let spent = config(&["budget.thinking=15", "budget.tail=3"]);
    let found = rollout(&tiny, &spent, Some(two_chunks(2)));
    // 4 + 2 + 4 + 5 tokens of thinking; the tail does not count.
    let before = "Expert(abc↵) Model(a↵) Expert(abd↵) Model(a↵a↵a)";
    assert_eq!(tiny.script(&found), format!("{before} Tail(be↵) Close(</think>) Opener(\\boxed{{) Answer(1}})"));
    assert!(found.forced_close);
    assert_eq!(stand_ins(&found), [Some(4..8), Some(12..16)]);
    assert_eq!(found.generated(), 9);
    let tailless = rollout(&tiny, &config(&["budget.thinking=15", "budget.tail=0"]), Some(two_chunks(2)));
    assert_eq!(tiny.script(&tailless), format!("{before} Close(</think>) Opener(\\boxed{{) Answer(1}})"));
    let off = config(&["budget.thinking=15", "budget.forced_close=false"]);
    let unclosed = rollout(&tiny, &off, Some(two_chunks(2)));
    assert_eq!(tiny.script(&unclosed), before);
    assert_eq!((unclosed.forced_close, unclosed.answer.as_deref()), (false, None));
    assert_eq!(unclosed.judgement, Judgement::Invalid(Invalid::NoBox));
}

#[test]
fn a_naked_rollout_is_closed_by_force_without_a_tail() {
    let tiny = Tiny::new(&["<think>ff", "\\boxed{1}"], &[(THINKING, "2")]);
    let found = rollout(&tiny, &config(&["budget.thinking=5", "budget.tail=3"]), None);
    assert_eq!(tiny.script(&found), "Model(fffff) Close(</think>) Opener(\\boxed{) Answer(1})");
    assert!(found.forced_close);
    assert_eq!(stand_ins(&found), [None]);
    let off = rollout(&tiny, &config(&["budget.thinking=5", "budget.forced_close=false"]), None);
    assert_eq!((tiny.script(&off).as_str(), off.forced_close), ("Model(fffff)", false));
}

#[test]
fn where_the_expert_goes_on_follows_the_option() {
    let tiny = Tiny::new(&["\na\n", "\\boxed{1}"], &[(THINKING, "2")]);
    let resumed = config(&["budget.thinking=11", "scaffold.continuation=resume"]);
    let found = rollout(&tiny, &resumed, Some(two_chunks(2)));
    assert!(tiny.script(&found).starts_with("Expert(abc↵) Model(a↵) Expert(abk↵) Model(a)"), "{}", tiny.script(&found));
    assert_eq!(stand_ins(&found), [Some(4..6), Some(8..16)]);
}

#[test]
fn the_expert_waits_for_the_end_of_a_line_but_not_for_ever() {
    // A line of three tokens with a budget of one.
    let tiny = Tiny::new(&["\nah\n", "\\boxed{1}"], &[(THINKING, "2")]);
    let found = rollout(&tiny, &config(&["budget.thinking=12"]), Some(two_chunks(1)));
    assert!(
        tiny.script(&found).starts_with("Expert(abc↵) Model(ah↵) Expert(abd↵) Model(a)"),
        "{}",
        tiny.script(&found)
    );
    // A line without end: the budget and 24 tokens more.
    let tiny = Tiny::new(&["\nahh", "\\boxed{1}"], &[(THINKING, "2")]);
    let resumed = config(&["budget.thinking=34", "scaffold.continuation=resume"]);
    let found = rollout(&tiny, &resumed, Some(two_chunks(2)));
    let endless = format!("Expert(abc↵) Model(a{}) Expert(abk↵)", "h".repeat(25));
    assert!(tiny.script(&found).starts_with(&endless), "{}", tiny.script(&found));
}

#[test]
fn an_answer_ends_with_its_box_its_budget_or_the_turn() {
    let answer = |chains: &[&str], settings: &[&str]| {
        let tiny = Tiny::new(chains, &[(THINKING, "2")]);
        let found = rollout(&tiny, &config(settings), None);
        let answer = tiny.script(&found).split_once("Answer(").unwrap().1.trim_end_matches(')').to_owned();
        (answer, found.answer, found.judgement)
    };
    let thinking = "<think>f</think>";
    let (text, found, judgement) = answer(&[thinking, "\\boxed{{1}}"], &[]);
    assert_eq!((text.as_str(), found.as_deref(), judgement), ("{1}}", Some("{1}"), Judgement::Wrong));
    let unclosed = Judgement::Invalid(Invalid::Unclosed);
    // Braces behind a backslash are none; without an end, six tokens are the budget.
    assert_eq!(answer(&[thinking, "\\boxed{\\}\\"], &[]), ("\\}\\}\\}".to_owned(), None, unclosed));
    assert_eq!(answer(&[thinking, "\\boxed{11"], &["budget.answer=3"]), ("111".to_owned(), None, unclosed));
    assert_eq!(answer(&[thinking, "\\boxed{1<end>"], &[]), ("1<end>".to_owned(), None, unclosed));
}

#[test]
fn without_the_answer_turn_the_model_opens_its_box_itself() {
    let off = ["budget.answer_turn=false"];
    let tiny = Tiny::usual();
    let found = rollout(&tiny, &config(&off), None);
    assert_eq!(tiny.script(&found), "Model(fgh</think>) Answer(\\boxed{1}<end>)");
    assert_eq!((found.answer.as_deref(), found.judgement), (Some("1"), Judgement::Wrong));
    assert_eq!(found.generated(), 8);
    // Without an end it has the budget of an answer, counted from the close tag.
    let tiny = Tiny::new(&["<think>fgh</think>\\boxed{1}ee"], &[(THINKING, "1")]);
    let found = rollout(&tiny, &config(&["budget.answer_turn=false", "budget.answer=5"]), None);
    assert_eq!(tiny.script(&found), "Model(fgh</think>) Answer(\\boxed{1}ee)");
    assert!(found.correct());
    let tiny = Tiny::new(&["<think>f</think>gg"], &[(THINKING, "1")]);
    let boxless = rollout(&tiny, &config(&off), None);
    assert_eq!(tiny.script(&boxless), "Model(f</think>) Answer(gggggg)");
    assert_eq!(boxless.judgement, Judgement::Invalid(Invalid::NoBox));
}

/// The share of `k` is 1/35 at the opener, which is just enough for the hint: a token read twice would lose it.
#[test]
fn every_token_is_read_once() {
    let tiny = Tiny::new(&["\naa", "\\boxed{1}", "2}"], &[(THINKING, "2")]);
    let answer = |thinking: usize| {
        let settings = config(&["budget.tail=0", &format!("budget.thinking={thinking}")]);
        rollout(&tiny, &settings, Some(one_chunk(8))).answer
    };
    assert_eq!((answer(28).as_deref(), answer(29).as_deref()), (Some("2"), Some("1")));
}

/// As above, so that a second box holds another answer.
#[test]
fn two_different_boxes_are_wrong() {
    let chains = ["\naa", "</think>\\boxed{1}\\boxed{", "2}"];
    let tiny = Tiny::new(&chains, &[(THINKING, "2")]);
    let settings = config(&["budget.tail=0", "budget.thinking=28", "budget.answer_turn=false"]);
    let found = rollout(&tiny, &settings, Some(one_chunk(8)));
    assert!(tiny.script(&found).ends_with("Answer(\\boxed{2}\\boxed{1})"), "{}", tiny.script(&found));
    assert_eq!((found.answer.as_deref(), found.judgement), (None, Judgement::Wrong));
}

#[test]
fn a_turn_that_ends_while_thinking_has_no_answer() {
    let tiny = Tiny::new(&["<think>f<end>"], &[(THINKING, "2")]);
    let found = rollout(&tiny, &config(&[]), None);
    assert_eq!((tiny.script(&found).as_str(), found.forced_close), ("Model(f<end>)", false));
    assert_eq!((found.answer.as_deref(), found.judgement), (None, Judgement::Invalid(Invalid::NoBox)));
}

#[test]
fn a_rollout_ends_where_the_positions_do() {
    let tiny = Tiny::usual();
    let found = rollout_within(&tiny, &config(&[]), None, 8);
    assert_eq!((tiny.script(&found).as_str(), found.tokens.len()), ("Model(fgh)", 8));
}

#[test]
fn an_answer_in_an_expert_chunk_is_told_and_cut_as_asked() {
    let tiny = Tiny::new(&CHAINS, &[("abc\n2\nabd\nabe", "2")]);
    for (mode, expert, leak) in
        [("flag", "abc↵2↵", Leak::Scaffold), ("off", "abc↵2↵", Leak::None), ("cut", "abc↵", Leak::None)]
    {
        let guarded = config(&[&format!("scaffold.leak_guard={mode}")]);
        let found = rollout(&tiny, &guarded, Some(one_chunk(6)));
        assert!(tiny.script(&found).starts_with(&format!("Expert({expert}) Model(ah</think>)")), "{mode}");
        assert_eq!(found.leak, leak, "{mode}");
    }
}

#[test]
fn an_answer_in_the_tail_is_told_and_cut_as_asked() {
    let tiny = Tiny::new(&["\na\n", "\\boxed{1}"], &[("abc\nabd\nabe\n2", "2")]);
    for (mode, tail, leak) in
        [("flag", "Tail(2↵) ", Leak::Tail), ("off", "Tail(2↵) ", Leak::None), ("cut", "", Leak::None)]
    {
        let guarded = config(&["budget.thinking=6", "budget.tail=2", &format!("scaffold.leak_guard={mode}")]);
        let found = rollout(&tiny, &guarded, Some(one_chunk(4)));
        let expected = format!("Expert(abc↵) Model(a↵) {tail}Close(</think>) Opener(\\boxed{{) Answer(1}})");
        assert_eq!((tiny.script(&found), found.leak), (expected, leak), "{mode}");
    }
    // Of both, the chunk counts.
    let tiny = Tiny::new(&["\na\n", "\\boxed{1}"], &[("2\nabd\nabe\n2", "2")]);
    let found = rollout(&tiny, &config(&["budget.thinking=8", "budget.tail=2"]), Some(one_chunk(6)));
    assert!(tiny.script(&found).contains("Tail(2↵)"), "{}", tiny.script(&found));
    assert_eq!(found.leak, Leak::Scaffold);
}

/// Hot enough that what follows is seldom what is likeliest: a draw shows context and random stream.
#[test]
fn a_batch_changes_no_rollout() {
    let tiny = Tiny::new(&CHAINS, &[(THINKING, "2"), ("abk\nab", "1")]);
    let (format, config) = (tiny.format(), config(&["budget.thinking=20"]));
    let rules = Rules { format: &format, budget: &config.budget, scaffold: &config.scaffold, max_positions: 128 };
    let targets: Vec<Target> = tiny.dataset.problems.iter().map(|problem| format.target(problem).unwrap()).collect();
    let texts = ["a", "ab?\nabc"];
    let prompts: Vec<Vec<u32>> = texts.iter().map(|text| format.prompt(None, text).unwrap()).collect();
    let member = |index: usize, sequence: SequenceId, seed: u64| {
        let sample = Sample { problem: &tiny.dataset.problems[index], target: &targets[index] };
        let options = SamplingOptions { temperature: 2.0, top_k: None, top_p: 1.0, seed };
        let plan = (seed > 1).then(|| two_chunks(2));
        let sampler = Sampler::new(options).unwrap();
        Member::new(rules, sample, sequence, &prompts[index], View::Naked(0), plan, sampler).unwrap()
    };
    let wanted = [(0, 1), (1, 1), (0, 2), (1, 3)];
    let mut session = Session::new(&tiny.decoder, None);
    let roots = read_prompts(&mut session, &prompts).unwrap();
    assert_eq!(roots.iter().map(|root| session.len(*root)).collect::<Vec<_>>(), [2, 8]);
    let members = wanted.iter().map(|(index, seed)| member(*index, session.fork(roots[*index]), *seed)).collect();
    let together = generate(&mut session, members).unwrap();
    for ((index, seed), found) in wanted.into_iter().zip(&together) {
        let mut session = Session::new(&tiny.decoder, None);
        let root = read_prompts(&mut session, &prompts[index..=index]).unwrap()[0];
        let alone = generate(&mut session, vec![member(index, root, seed)]).unwrap().remove(0);
        assert_eq!((&alone.tokens, &alone.spans), (&found.tokens, &found.spans), "{index} {seed}");
    }
}

#[test]
fn views_have_their_names() {
    let names = [View::Naked(0), View::Naked(2), View::Scaffold(0), View::Scaffold(1)].map(|view| view.to_string());
    assert_eq!(names, ["naked", "naked_2", "scaffold_0", "scaffold_1"]);
}
