//! How much the expert says in a view, and in how many chunks.
//!
//! View j gives the expert a share f of the R tokens of the target that it may say, in c chunks. A Dirichlet draw
//! splits f·R, each chunk then moves to a cut point, and what it gained or lost is made up for by the next ones. After
//! a chunk of |E| tokens the model writes |E|(1−f)/f, so that expert and model together have R tokens where no limit
//! binds. R is the whole target, or what stands in front of the answer where the expert must not give that away. Each
//! later view holds more than the ones before.

use std::collections::HashSet;

use lcr_documents::rollout::Said;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Continuation, ScaffoldOptions, Target};

/// Where the expert speaks in one rollout, were the model to write exactly its budgets. All empty: nowhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Length of each expert chunk in target tokens.
    pub expert_chunks: Vec<usize>,
    /// Tokens that the model may write after each expert chunk; as many as there are chunks. After the last chunk
    /// nothing is injected any more, so there the model may run on to the thinking budget, and the last entry is only
    /// what it would have had between two chunks.
    pub model_budgets: Vec<usize>,
    /// Target indices where the expert hands over, ascending; as many as there are chunks.
    pub boundaries: Vec<usize>,
    /// The share of the target that the expert was to have, the curriculum included. What it has differs, as chunks end
    /// at cut points.
    pub expert_share: f64,
    /// Fewest tokens of a chunk, which holds for those that start elsewhere than planned, too.
    pub minimum_chunk: usize,
    /// Fewest tokens of the first chunk.
    pub opening: usize,
    /// Target tokens that the expert may say: none of its chunks goes beyond.
    pub room: usize,
}

impl Plan {
    /// What the expert would say.
    pub fn said(&self) -> Said {
        Said { tokens: self.expert_chunks.iter().sum(), boundaries: self.boundaries.clone() }
    }
}

/// What a plan is drawn for.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Samples visited before this one.
    pub sample: usize,
    /// Scaffolded view of the group, 0 being the first.
    pub view: usize,
    /// Times that this view was drawn before.
    pub redraw: usize,
    /// Multiplies the expert's share, in [0, 1]; 1 without a curriculum.
    pub share_scale: f64,
    /// What the expert said in the views before this one, or is to say.
    pub earlier: &'a [Said],
    /// Tokens from the target's beginning that the expert may say: all of them, or those in front of the answer.
    pub room: usize,
    /// Fewest tokens of the first chunk, which is the one that the model cannot forestall by ending its thinking.
    pub opening: usize,
}

/// Draws the plan of a scaffolded view: a pure function of its arguments.
///
/// The expert's share is one of the `room`, so that views differ also where the answer stands early. Where less than
/// `minimum_chunk` tokens of the target are left by the curriculum, the plan is empty. Short targets have fewer chunks
/// than asked for. A plan that does not hold more tokens than each of the `earlier` ones is drawn again with a larger
/// share, one whose boundaries have a Jaccard similarity above `overlap_limit` with one of them with the same, up to
/// `attempts` times in all; then the least similar one of those that hold more is taken. Where none does, the first
/// chunk is made longer than what was said before.
pub fn plan(target: &Target, options: &ScaffoldOptions, request: PlanRequest) -> Plan {
    let room = request.room.min(target.len());
    let (share, cycles) = options.view(if options.varied_boundaries { request.view } else { 0 });
    let scale = if request.share_scale.is_nan() { 0.0 } else { request.share_scale.clamp(0.0, 1.0) };
    let share = share * scale;
    let minimum = options.minimum_chunk.max(1);
    let wanted = share * room as f64;
    let cycles = cycles.min(wanted.round() as usize / minimum);
    let of_target = if target.is_empty() { 0.0 } else { share * (room as f64 / target.len() as f64) };
    let empty = Plan { expert_share: of_target, minimum_chunk: minimum, room, ..Plan::default() };
    if cycles == 0 {
        return empty;
    }
    let layout = Layout { target, options, room, opening: request.opening };
    if !options.varied_boundaries {
        return Plan { expert_share: of_target, ..layout.lay_out(wanted, &vec![1.0; cycles], &vec![1.0; cycles]) };
    }
    let mut wanted = wanted;
    let mut best: Option<(bool, f64, Plan)> = None;
    for attempt in 0..options.attempts.max(1) {
        let mut generator = generator(&request, attempt);
        let weights: Vec<f64> = (0..cycles).map(|_| gamma(&mut generator, options.dirichlet)).collect();
        let factors: Vec<f64> =
            (0..cycles).map(|_| 1.0 + options.jitter * (2.0 * uniform(&mut generator) - 1.0)).collect();
        let drawn = Plan { expert_share: of_target, ..layout.lay_out(wanted, &weights, &factors) };
        let said = drawn.said();
        let grows = request.earlier.iter().all(|other| said.tokens > other.tokens);
        let overlap =
            request.earlier.iter().map(|other| overlap(&said.boundaries, &other.boundaries)).fold(0.0, f64::max);
        if grows && overlap <= options.overlap_limit {
            return drawn;
        }
        if best.as_ref().is_none_or(|(grew, least, _)| (grows, *least) > (*grew, overlap)) {
            best = Some((grows, overlap, drawn));
        }
        if !grows {
            // Cut points swallow small differences.
            wanted = (wanted + minimum as f64).min(room as f64);
        }
    }
    let most = request.earlier.iter().map(|other| other.tokens).max().unwrap_or(0);
    match best {
        // Cut points are too far apart: the first chunk alone is to hold more than the views before.
        Some((false, ..)) if request.opening <= most && most < room => {
            plan(target, options, PlanRequest { opening: most + 1, ..request })
        }
        best => best.map_or(empty, |(_, _, plan)| plan),
    }
}

/// What chunks are laid out in.
struct Layout<'a> {
    target: &'a Target,
    options: &'a ScaffoldOptions,
    room: usize,
    opening: usize,
}

impl Layout<'_> {
    /// Chunks of `wanted` tokens in all in proportion to `weights`, moved to cut points, and the model's budgets times
    /// `factors`.
    fn lay_out(&self, wanted: f64, weights: &[f64], factors: &[f64]) -> Plan {
        let Self { target, options, room, opening } = *self;
        let minimum = options.minimum_chunk.max(1);
        let share = wanted / room as f64;
        let mut left = wanted.round();
        let mut weight_left: f64 = weights.iter().sum();
        let mut start = 0;
        let mut plan = Plan { minimum_chunk: minimum, opening, room, ..Plan::default() };
        for (weight, factor) in weights.iter().zip(factors) {
            // What cut points added so far may have used up the share of the later chunks.
            let is_first = plan.expert_chunks.is_empty();
            if start >= room || (left < minimum as f64 && !is_first) {
                break;
            }
            // No chunk takes what the others need for their minimum, and none has less than its own.
            let others = (weights.len() - plan.expert_chunks.len() - 1) * minimum;
            let most = (left as usize).saturating_sub(others).max(minimum);
            let least = if is_first { opening.max(minimum) } else { minimum };
            let length = ((left * weight / weight_left).round() as usize).min(most).max(least);
            let end = target.chunk_end(start, length, least, options.hand_over).min(room);
            let length = end - start;
            let budget = (length as f64 * (1.0 - share) / share * factor).round() as usize;
            // Two steps, because `clamp` panics where the limits are the wrong way round.
            let budget = budget.min(options.maximum_model_chunk).max(options.minimum_model_chunk);
            plan.expert_chunks.push(length);
            plan.model_budgets.push(budget);
            plan.boundaries.push(end);
            left -= length as f64;
            weight_left -= weight;
            start = match options.continuation {
                Continuation::Resume => target.nearest_cut(end, end),
                Continuation::Advance | Continuation::Align => target.nearest_cut(end.saturating_add(budget), end),
            };
        }
        plan
    }
}

/// Jaccard similarity of two sets of boundaries; two empty ones are the same.
fn overlap(left: &[usize], right: &[usize]) -> f64 {
    let left: HashSet<&usize> = left.iter().collect();
    let right: HashSet<&usize> = right.iter().collect();
    let union = left.union(&right).count();
    if union == 0 { 1.0 } else { left.intersection(&right).count() as f64 / union as f64 }
}

/// A stream for each attempt at each view: the arguments are the generator's key, so that no two share a stream.
fn generator(request: &PlanRequest, attempt: u32) -> ChaCha12Rng {
    let mut key = [0; 32];
    let place = (request.redraw as u64) << 32 | request.view as u64;
    let purpose = u64::from(u32::from_le_bytes(*b"plan")) << 32;
    let words = [request.seed, request.sample as u64, place, purpose | u64::from(attempt)];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha12Rng::from_seed(key)
}

/// A number in (0, 1): 53 bits, moved up by half a step so that its logarithm is finite.
fn uniform(generator: &mut ChaCha12Rng) -> f64 {
    ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// A standard normal number (Box and Muller 1958).
fn normal(generator: &mut ChaCha12Rng) -> f64 {
    let (radius, angle) = (uniform(generator), uniform(generator));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// A Gamma(shape, 1) number (Marsaglia and Tsang 2000, with their boost below shape 1); several in proportion to their
/// sum are a Dirichlet draw.
fn gamma(generator: &mut ChaCha12Rng, shape: f64) -> f64 {
    let (boosted, factor) =
        if shape < 1.0 { (shape + 1.0, uniform(generator).powf(1.0 / shape.max(1e-6))) } else { (shape, 1.0) };
    let d = boosted - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    // One draw in twenty is refused at most, so that the limit is never met; it keeps a NaN from looping forever.
    for _ in 0..1000 {
        let x = normal(generator);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(generator).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v * factor).max(f64::MIN_POSITIVE);
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines of `line` tokens each, the last one shorter where they do not fill `length`.
    fn target(length: usize, line: usize) -> Target {
        let tokens: Vec<u32> = (0..length).map(|index| u32::from(index % line == line - 1)).collect();
        Target::new(tokens, |token| if token == 1 { ".\n" } else { " word" }.to_owned())
    }

    /// A view of a sample, the first of its group, with the whole target to say.
    fn view(seed: u64, sample: usize, view: usize) -> PlanRequest<'static> {
        let room = usize::MAX;
        PlanRequest { seed, sample, view, redraw: 0, share_scale: 1.0, earlier: &[], room, opening: 0 }
    }

    fn first(target: &Target, options: &ScaffoldOptions, index: usize) -> Plan {
        plan(target, options, view(7, 3, index))
    }

    fn tokens(plan: &Plan) -> usize {
        plan.said().tokens
    }

    #[test]
    fn even_plans_have_their_closed_form() {
        let options =
            ScaffoldOptions { varied_boundaries: false, expert_shares: vec![0.5], ..ScaffoldOptions::default() };
        // 200 tokens in lines of 10: half of them in two chunks of 50, the model writes 50·0.5/0.5 after each.
        let even = Plan {
            expert_chunks: vec![50, 50],
            model_budgets: vec![50, 50],
            boundaries: vec![50, 150],
            expert_share: 0.5,
            minimum_chunk: 4,
            opening: 0,
            room: 200,
        };
        assert_eq!(first(&target(200, 10), &options, 0), even);
        assert_eq!(plan(&target(200, 10), &options, PlanRequest { earlier: &[even.said()], ..view(99, 12, 5) }), even);
        // Resuming, the second chunk follows the first at once.
        let options = ScaffoldOptions { continuation: Continuation::Resume, ..options };
        assert_eq!(first(&target(200, 10), &options, 0).boundaries, [50, 100]);
        // Half of the share, half of the tokens, and three times the length for the model, up to its limit.
        let scaled = plan(&target(200, 10), &options, PlanRequest { share_scale: 0.5, ..view(0, 0, 0) });
        assert_eq!((scaled.expert_chunks, scaled.model_budgets), (vec![20, 30], vec![60, 64]));
    }

    #[test]
    fn the_curriculum_ends_without_an_expert() {
        let target = target(300, 12);
        let lengths = |share_scale: f64| {
            plan(&target, &ScaffoldOptions::default(), PlanRequest { share_scale, ..view(1, 0, 0) }).expert_chunks
        };
        assert!(lengths(0.0).is_empty() && lengths(f64::NAN).is_empty() && lengths(-1.0).is_empty());
        // 0.35 · 300 · 0.03 = 3.15 tokens are below the minimum of 4; 0.04 gives 4.2.
        assert!(lengths(0.03).is_empty());
        assert_eq!(lengths(0.04).len(), 1);
    }

    #[test]
    fn short_targets_have_few_chunks() {
        for length in [0, 1, 3, 11] {
            assert!(first(&target(length, 10), &ScaffoldOptions::default(), 0).expert_chunks.len() <= 1, "{length}");
        }
    }

    #[test]
    fn what_a_view_asks_for_is_what_it_gets_on_long_targets() {
        let target = target(10_000, 10);
        for (index, share, cycles) in [(0, 0.35, 2), (1, 0.60, 3)] {
            let plan = first(&target, &ScaffoldOptions::default(), index);
            let length: usize = plan.expert_chunks.iter().sum();
            assert_eq!((plan.expert_share, plan.expert_chunks.len()), (share, cycles));
            assert!((length as f64 / 10_000.0 - share).abs() < 0.001, "{length}");
        }
    }

    #[test]
    fn similar_boundaries_are_drawn_again() {
        // Few places to cut, so that draws often coincide.
        let target = target(120, 12);
        let options = ScaffoldOptions { expert_shares: vec![0.4], cycles: vec![2], ..ScaffoldOptions::default() };
        let (mut alike, mut redrawn) = (0, 0);
        for seed in 0..100 {
            let one = plan(&target, &options, view(seed, 0, 0));
            let blind = plan(&target, &options, view(seed, 0, 1));
            let other = plan(&target, &options, PlanRequest { earlier: &[one.said()], ..view(seed, 0, 1) });
            alike += usize::from(overlap(&one.boundaries, &blind.boundaries) > 0.5);
            redrawn += usize::from(overlap(&one.boundaries, &other.boundaries) > 0.5);
        }
        assert!(alike > 0, "the test has nothing to show");
        assert_eq!(redrawn, 0);
    }

    #[test]
    fn a_dirichlet_draw_has_its_mean_and_variance() {
        // Dirichlet(a, a, a): mean 1/3, variance (1/3)(2/3)/(3a+1).
        for shape in [0.5, 1.0, 4.0] {
            let mut generator = generator(&view(5, 0, 0), 0);
            let count = 20_000;
            let shares: Vec<f64> = (0..count)
                .map(|_| {
                    let drawn: Vec<f64> = (0..3).map(|_| gamma(&mut generator, shape)).collect();
                    drawn[0] / drawn.iter().sum::<f64>()
                })
                .collect();
            let mean = shares.iter().sum::<f64>() / count as f64;
            let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count as f64;
            let expected = 2.0 / 9.0 / (3.0 * shape + 1.0);
            assert!((mean - 1.0 / 3.0).abs() < 4.0 * (expected / count as f64).sqrt(), "{shape}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{shape}: variance {variance}, expected {expected}");
        }
    }

    #[test]
    fn the_draw_is_pinned() {
        // Another use of the random stream would silently change every seeded run; it must be visible here.
        let plan = plan(&target(500, 9), &ScaffoldOptions::default(), view(42, 1, 1));
        assert_eq!((plan.expert_chunks, plan.model_budgets), (vec![72, 117, 108], vec![37, 64, 54]));
    }

    #[test]
    fn the_expert_keeps_to_its_room_and_shares_count_of_it() {
        let target = target(200, 10);
        for (index, share) in [(0, 0.35), (1, 0.60)] {
            let plan = plan(&target, &ScaffoldOptions::default(), PlanRequest { room: 100, ..view(3, 0, index) });
            assert!(plan.boundaries.iter().all(|end| *end <= 100), "{plan:?}");
            assert!((plan.expert_share - share / 2.0).abs() < 1e-12 && plan.room == 100);
        }
    }

    #[test]
    fn a_redrawn_view_opens_with_more_than_was_said_before() {
        let target = target(200, 10);
        let said = Said { tokens: 70, boundaries: vec![40, 120] };
        let again = PlanRequest { redraw: 1, opening: 71, earlier: std::slice::from_ref(&said), ..view(3, 0, 1) };
        let plan = plan(&target, &ScaffoldOptions::default(), again);
        assert_eq!(plan.expert_chunks[0], 80, "the next line end");
        assert!(plan.said().goes_beyond(&said));
        assert!(!said.goes_beyond(&said) && !Said { tokens: 71, ..said.clone() }.goes_beyond(&said));
    }

    fn continuation() -> impl Strategy<Value = Continuation> {
        prop_oneof![Just(Continuation::Advance), Just(Continuation::Resume), Just(Continuation::Align)]
    }

    #[test]
    fn on_average_the_share_is_kept_although_chunks_end_at_lines() {
        for (length, line) in [(100, 12), (100, 20), (160, 20), (160, 30), (300, 30)] {
            for (index, share) in [(0, 0.35), (1, 0.60)] {
                let given: usize = (0..200)
                    .map(|seed| plan(&target(length, line), &ScaffoldOptions::default(), view(seed, 0, index)))
                    .map(|plan| tokens(&plan))
                    .sum();
                let mean = given as f64 / 200.0 / length as f64;
                assert!((mean - share).abs() < 0.06, "{length} tokens in lines of {line}, view {index}: {mean}");
            }
        }
    }

    proptest! {
        #[test]
        fn plans_keep_their_limits(
            length in prop_oneof![Just(0_usize), Just(1), Just(3), Just(10_000), 0_usize..600],
            line in 1_usize..80,
            seed: u64,
            sample in 0_usize..50,
            index in 0_usize..6,
            share_scale in 0.0_f64..=1.0,
            room in 0_usize..700,
            opening in 0_usize..100,
            continuation in continuation(),
        ) {
            let target = target(length, line);
            let options = ScaffoldOptions { continuation, ..ScaffoldOptions::default() };
            let request = PlanRequest { share_scale, room, opening, ..view(seed, sample, index) };
            let drawn = plan(&target, &options, request);
            prop_assert_eq!(&drawn, &plan(&target, &options, request));
            prop_assert_eq!(drawn.expert_chunks.len(), drawn.model_budgets.len());
            prop_assert_eq!(drawn.expert_chunks.len(), drawn.boundaries.len());
            prop_assert!(drawn.expert_chunks.len() <= options.view(index).1);
            prop_assert!(drawn.model_budgets.iter().all(|budget| (8..=64).contains(budget)));
            // The last chunk may be what is left of the room.
            let room = room.min(length);
            prop_assert!(drawn.expert_chunks.iter().zip(&drawn.boundaries).all(|(chunk, end)| *chunk >= 4 || *end == room));
            prop_assert!(drawn.expert_chunks.first().is_none_or(|chunk| *chunk >= opening.min(room)));
            let mut before = 0;
            for (chunk, end) in drawn.expert_chunks.iter().zip(&drawn.boundaries) {
                prop_assert!(*chunk > 0 && *end <= room && end - chunk >= before, "{drawn:?}");
                before = *end;
            }
        }

        #[test]
        fn views_differ_on_targets_with_room(seed: u64, sample in 0_usize..1000, line in 5_usize..25) {
            let target = target(400, line);
            let options = ScaffoldOptions::default();
            let first = plan(&target, &options, view(seed, sample, 0));
            let second = plan(&target, &options, PlanRequest { earlier: &[first.said()], ..view(seed, sample, 1) });
            prop_assert!(overlap(&first.boundaries, &second.boundaries) <= 0.5);
            prop_assert!(second.said().goes_beyond(&first.said()));
        }

        #[test]
        fn each_view_has_more_than_the_one_before_wherever_there_is_a_cut_left(
            length in 40_usize..300, line in 5_usize..40, room_share in 0.3_f64..1.0, seed: u64,
        ) {
            let target = target(length, line);
            let options = ScaffoldOptions::default();
            let room = (room_share * length as f64) as usize;
            let first = plan(&target, &options, PlanRequest { room, ..view(seed, 0, 0) });
            let second = plan(&target, &options, PlanRequest { room, earlier: &[first.said()], ..view(seed, 0, 1) });
            prop_assert!(second.said().goes_beyond(&first.said()) || tokens(&first) + 16 >= room, "{first:?} \
                {second:?}");
        }

        #[test]
        fn unchecked_options_do_not_panic(
            share in prop::num::f64::ANY, dirichlet in prop::num::f64::ANY, jitter in prop::num::f64::ANY,
            minimum in 0_usize..2000, least: u16, most: u16, cycles in prop::collection::vec(0_usize..40, 0..3),
        ) {
            let options = ScaffoldOptions {
                expert_shares: vec![share], cycles, dirichlet, jitter, minimum_chunk: minimum,
                minimum_model_chunk: least.into(), maximum_model_chunk: most.into(), ..ScaffoldOptions::default()
            };
            for index in 0..3 {
                plan(&target(200, 15), &options, PlanRequest { earlier: &[Said::default()], ..view(0, 0, index) });
            }
        }
    }
}
