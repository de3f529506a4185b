//! Where the expert goes on, given what the model really wrote.

use std::collections::HashMap;
use std::ops::Range;

use super::{Continuation, Plan, ScaffoldOptions, Target};

/// Where the next expert chunk starts: a cut point at or behind `last_end`, where the last chunk ended; `written` is
/// what the model wrote since. Where it wrote nothing, `last_end`.
///
/// - `advance`: each whole line of the model takes the place of a whole line of the target, whatever their lengths, and
///   the unfinished rest of the target's tokens as many as it has; then the nearest cut. So an expert whose next line
///   the model wrote in other words neither repeats it nor leaves out the one after. Targets of a single line count
///   tokens alone.
/// - `resume`: the first cut at or behind `last_end`: of a line in whose middle the expert stopped, the rest is the
///   model's.
/// - `align`: among the cuts, the one with the highest overlap between `written` and as many target tokens in front of
///   the cut (Jaccard similarity of multisets, the earliest of equals); the place of `resume` where less than
///   `aligned_share` of `written` is found there.
pub fn next_start(target: &Target, options: &ScaffoldOptions, last_end: usize, written: &[u32]) -> usize {
    let last_end = last_end.min(target.len());
    if written.is_empty() {
        return last_end;
    }
    match options.continuation {
        Continuation::Advance => advance(target, last_end, written),
        Continuation::Resume => target.nearest_cut(last_end, last_end),
        Continuation::Align => align(target, options.aligned_share, last_end, written)
            .unwrap_or_else(|| target.nearest_cut(last_end, last_end)),
    }
}

fn advance(target: &Target, last_end: usize, written: &[u32]) -> usize {
    let (lines, rest) = if target.has_lines() { lines_of(target, written) } else { (0, written.len()) };
    let position = target.skip_lines(last_end, lines);
    if rest == 0 { position } else { target.nearest_cut(position.saturating_add(rest), position) }
}

/// Whole lines that the model wrote, empty ones not counted, and the tokens behind the last of them.
fn lines_of(target: &Target, written: &[u32]) -> (usize, usize) {
    let (mut lines, mut rest, mut in_line) = (0, 0, false);
    for token in written {
        if !target.ends_line(*token) {
            (in_line, rest) = (true, rest + 1);
        } else if in_line {
            (lines, rest, in_line) = (lines + 1, 0, false);
        }
    }
    (lines, rest)
}

fn align(target: &Target, aligned_share: f64, last_end: usize, written: &[u32]) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for &cut in target.cuts.iter().filter(|cut| **cut > last_end) {
        let window = target.tokens.get(last_end.max(cut.saturating_sub(written.len()))..cut).unwrap_or_default();
        let shared = shared_tokens(window, written);
        let similarity = shared as f64 / (window.len() + written.len() - shared) as f64;
        let believed = shared as f64 >= aligned_share * written.len() as f64;
        if believed && best.is_none_or(|(highest, _)| similarity > highest) {
            best = Some((similarity, cut));
        }
    }
    best.map(|(_, cut)| cut)
}

/// Size of the intersection of two multisets.
fn shared_tokens(left: &[u32], right: &[u32]) -> usize {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    left.iter().for_each(|token| *counts.entry(*token).or_default() += 1);
    let mut shared = 0;
    for token in right {
        if let Some(count) = counts.get_mut(token).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    shared
}

/// The target tokens of expert chunk `cycle` (0 first) from `start`: about as many as the plan has for it, up to a cut
/// point, and within the plan's room. Empty where the plan has no such chunk or the room is used up.
pub fn next_chunk(target: &Target, options: &ScaffoldOptions, plan: &Plan, cycle: usize, start: usize) -> Range<usize> {
    let start = start.min(target.len());
    let minimum = if cycle == 0 { plan.minimum_chunk.max(plan.opening) } else { plan.minimum_chunk };
    match plan.expert_chunks.get(cycle) {
        None | Some(0) => start..start,
        Some(&wanted) => start..target.chunk_end(start, wanted, minimum, options.hand_over).min(plan.room).max(start),
    }
}

/// Whether the model's chunk is over after `written`: its budget is spent, or a line ended with no more than `jitter`
/// of the budget left, so that the expert seldom takes over in the middle of a line. The last chunk of a plan has no
/// budget: do not ask for it.
pub fn chunk_is_complete(target: &Target, options: &ScaffoldOptions, budget: usize, written: &[u32]) -> bool {
    let at_line_end = written.last().is_some_and(|token| target.ends_line(*token));
    let near = options.varied_boundaries && written.len() as f64 >= (1.0 - options.jitter) * budget as f64;
    written.len() >= budget || (near && at_line_end)
}

/// The target tokens that a model chunk stands in for, which its Jaccard similarity is taken with: from where the
/// expert ended to where it goes on, but at least as many as the model wrote (`resume` says them again). `next_start`
/// is absent after the last expert chunk, where the model stands in for all that is left.
pub fn stand_in(target: &Target, last_end: usize, next_start: Option<usize>, written: usize) -> Range<usize> {
    let last_end = last_end.min(target.len());
    let end = next_start.map_or(target.len(), |start| start.max(last_end.saturating_add(written)).min(target.len()));
    last_end..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::scaffold::{PlanRequest, plan};
    use proptest::prelude::*;

    /// Ends a line.
    const BREAK: u32 = 1000;

    /// A target whose lines have these lengths, break included; its other tokens are 0, 1, 2, ….
    fn target(lines: &[usize]) -> Target {
        let mut tokens = Vec::new();
        for length in lines {
            for _ in 1..*length {
                tokens.push(tokens.len() as u32);
            }
            tokens.push(BREAK);
        }
        Target::new(tokens, |token| if token == BREAK { "\n".to_owned() } else { format!(" {token}") })
    }

    fn options(continuation: Continuation) -> ScaffoldOptions {
        ScaffoldOptions { continuation, ..ScaffoldOptions::default() }
    }

    /// So many tokens that the target does not hold.
    fn words(count: usize) -> Vec<u32> {
        vec![2000; count]
    }

    fn line(count: usize) -> Vec<u32> {
        let mut tokens = words(count - 1);
        tokens.push(BREAK);
        tokens
    }

    #[test]
    fn advance_counts_whole_lines_as_lines() {
        let target = target(&[10, 12, 20, 10]);
        let start = |written: &[u32]| next_start(&target, &options(Continuation::Advance), 10, written);
        // One line of the model, be it shorter or longer, stands for the line from 10 to 22.
        assert_eq!((start(&line(3)), start(&line(12)), start(&line(30))), (22, 22, 22));
        assert_eq!(start(&[line(5), line(5)].concat()), 42);
        // Empty lines are none.
        assert_eq!(start(&[line(5), vec![BREAK]].concat()), 22);
        // The rest counts in tokens: 22 + 9 is nearer to 22, 22 + 11 nearer to 42.
        assert_eq!(start(&[line(5), words(9)].concat()), 22);
        assert_eq!(start(&[line(5), words(11)].concat()), 42);
        assert_eq!((start(&words(5)), start(&words(7)), start(&words(900)), start(&[])), (10, 22, 52, 10));
        assert_eq!(start(&[line(2), line(2), line(2), line(2), line(2)].concat()), 52);
    }

    #[test]
    fn a_line_in_whose_middle_the_expert_stopped_is_the_models() {
        let target = target(&[10, 12, 20, 10]);
        for continuation in [Continuation::Advance, Continuation::Resume] {
            assert_eq!(next_start(&target, &options(continuation), 14, &line(4)), 22, "{continuation:?}");
        }
        // Never back to the beginning of that line, though it is the nearest cut.
        assert_eq!(next_start(&target, &options(Continuation::Advance), 11, &words(1)), 22);
        assert_eq!(next_start(&target, &options(Continuation::Resume), 11, &words(1)), 22);
    }

    #[test]
    fn advance_without_lines_counts_tokens() {
        let target = Target::new((0..64).collect(), |token| format!(" {token}"));
        let start = |count: usize| next_start(&target, &options(Continuation::Advance), 16, &words(count));
        assert_eq!((start(8), start(9), start(16), start(100)), (16, 32, 32, 64));
    }

    #[test]
    fn resume_goes_on_where_the_expert_stopped() {
        let target = target(&[10, 12, 20]);
        assert_eq!(next_start(&target, &options(Continuation::Resume), 10, &words(40)), 10);
    }

    #[test]
    fn align_finds_what_the_model_said() {
        let target = target(&[10, 12, 20, 10]);
        let start = |written: &[u32]| next_start(&target, &options(Continuation::Align), 10, written);
        // The third line in another order, shortened.
        let said: Vec<u32> = (24..40).rev().collect();
        assert_eq!(start(&said), 42);
        assert_eq!(start(&target.tokens[10..22]), 22);
        // Nothing of the target: as resume.
        assert_eq!(start(&words(12)), 10);
        // Two of twelve tokens are too few to believe.
        assert_eq!(start(&[words(10), vec![30, 31]].concat()), 10);
    }

    #[test]
    fn chunks_follow_the_plan_from_wherever_they_start() {
        let target = target(&[10, 10, 10, 10, 10]);
        let plan = Plan { expert_chunks: vec![20, 9], room: 50, ..Plan::default() };
        assert_eq!(next_chunk(&target, &ScaffoldOptions::default(), &plan, 0, 0), 0..20);
        assert_eq!(next_chunk(&target, &ScaffoldOptions::default(), &plan, 1, 30), 30..40);
        assert_eq!(next_chunk(&target, &ScaffoldOptions::default(), &plan, 0, 40), 40..50);
        assert!(
            next_chunk(&target, &ScaffoldOptions::default(), &plan, 2, 0).is_empty()
                && next_chunk(&target, &ScaffoldOptions::default(), &plan, 0, 50).is_empty()
        );
        assert!(next_chunk(&target, &ScaffoldOptions::default(), &plan, 0, 400).is_empty());
        let narrow = Plan { room: 35, ..plan };
        assert_eq!(next_chunk(&target, &ScaffoldOptions::default(), &narrow, 0, 20), 20..35);
        assert!(next_chunk(&target, &ScaffoldOptions::default(), &narrow, 0, 40).is_empty());
    }

    #[test]
    fn the_model_may_stop_early_at_a_line_end() {
        let target = target(&[10, 10]);
        let complete = |written: &[u32]| chunk_is_complete(&target, &ScaffoldOptions::default(), 20, written);
        assert!(!complete(&line(14)) && complete(&line(15)) && !complete(&words(19)) && complete(&words(20)));
        assert!(!complete(&[]));
        let even = ScaffoldOptions { varied_boundaries: false, ..ScaffoldOptions::default() };
        assert!(!chunk_is_complete(&target, &even, 20, &line(19)));
    }

    #[test]
    fn what_a_chunk_stands_in_for() {
        let target = target(&[10, 10, 10]);
        assert_eq!(stand_in(&target, 10, Some(20), 4), 10..20);
        assert_eq!(stand_in(&target, 10, Some(10), 4), 10..14);
        assert_eq!(stand_in(&target, 10, None, 4), 10..30);
        assert_eq!(stand_in(&target, 28, Some(28), 40), 28..30);
    }

    proptest! {
        #[test]
        fn a_rollout_that_keeps_its_budgets_keeps_its_plan(
            lines in prop::collection::vec(1_usize..70, 0..20), seed: u64, view in 0_usize..4, opening in 0_usize..60,
        ) {
            let target = target(&lines);
            for continuation in [Continuation::Advance, Continuation::Resume] {
                let options = options(continuation);
                let request = PlanRequest {
                    seed, sample: 0, view, redraw: 0, share_scale: 1.0, earlier: &[], room: target.len(), opening,
                };
                let plan = plan(&target, &options, request);
                let mut start = 0;
                for cycle in 0..plan.expert_chunks.len() {
                    let chunk = next_chunk(&target, &ScaffoldOptions::default(), &plan, cycle, start);
                    prop_assert_eq!(chunk.clone(), plan.boundaries[cycle] - plan.expert_chunks[cycle]..plan.boundaries[cycle]);
                    start = next_start(&target, &options, chunk.end, &words(plan.model_budgets[cycle]));
                }
            }
        }

        #[test]
        fn the_expert_never_goes_back_and_takes_over_at_cuts(
            lines in prop::collection::vec(1_usize..70, 0..12),
            last_end in 0_usize..300,
            written in prop::collection::vec(prop_oneof![Just(BREAK), 0_u32..300, Just(2000)], 0..80),
        ) {
            let target = target(&lines);
            for continuation in [Continuation::Advance, Continuation::Resume, Continuation::Align] {
                let start = next_start(&target, &options(continuation), last_end, &written);
                prop_assert!(start >= last_end.min(target.len()) && start <= target.len());
                prop_assert!(written.iter().all(|token| *token == BREAK) || target.cuts.contains(&start), "{start}");
            }
        }
    }
}
