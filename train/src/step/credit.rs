//! Weighs each token of a rollout.
//!
//! w = min(w_max, j·p), or j·min(w_max, p): p is large right behind a boundary with the expert and exactly zero from
//! some distance on, j is large where the model's chunk shares its words with the expert's. Injected tokens weigh
//! nothing unless `mask` is off. The weights multiply the token losses of a rollout before its advantage does; nothing
//! here knows a reward.
//!
//! - **Proximity.** p(d) = S·γ^d, and 0 where that is below τ; d is the number of tokens that the model wrote since the
//!   last one that it did not. In a naked rollout that is the end of the prompt.
//! - **Jaccard.** j = (1−λ) + 2λJ, J = |∩|/|∪| of the sets of tokens of a chunk and of the expert tokens it stands in
//!   for, without common words. J = 1/2 leaves a weight as it is. The thinking of a naked rollout stands in for nothing
//!   of the target, and neither does a last chunk that ended without a close tag: there j = 1.
//! - **Answer.** Its tokens weigh `answer_weight`: right behind the injected opener of its box, a copied answer would
//!   otherwise have the largest weight of all.
//!
//! A close tag that the model wrote itself is a token of its thinking like any other.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a model chunk is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JaccardScope {
    /// The expert tokens that it stands in for.
    #[default]
    Local,
    /// The whole target.
    Global,
}

/// What the weighted sum of a rollout's token losses is divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// The sum of its weights: every rollout counts alike, and weights tell only its own tokens apart. A factor that
    /// all of them share, such as the Jaccard similarity of a single chunk, has no effect.
    Weights,
    /// The number of its tokens with any weight.
    Tokens,
    /// The sum of the weights of all rollouts of the group that carry a loss: a rollout that is more like the expert's
    /// text counts for more than another, and a group with several of them for no more than one with a single one.
    #[default]
    Group,
    /// This number: such rollouts count for more in other groups, too.
    Constant(f64),
}

/// What `maximum_weight` bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    /// The weight, min(w_max, j·p): right behind a boundary next to nothing is left of what similarity adds.
    #[default]
    Weight,
    /// The proximity alone, j·min(w_max, p).
    Proximity,
}

/// How tokens are weighed. Check it with [`CreditOptions::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CreditOptions {
    /// Injected tokens weigh nothing. Off: each of them weighs 1, as in supervised training; the prompt still nothing.
    pub mask: bool,
    /// Weights fall with the distance from the expert. Off: p = 1 everywhere.
    pub proximity: bool,
    /// Chunks count by their similarity with the expert's. Off: j = 1 everywhere.
    pub jaccard: bool,
    /// S, the proximity weight of the first token behind a boundary.
    pub proximity_scale: f64,
    /// γ, from one token to the next.
    pub proximity_decay: f64,
    /// τ: smaller proximity weights are 0.
    pub proximity_threshold: f64,
    /// λ: 0 ignores the similarity, 1 silences chunks that share no word with the expert's.
    pub jaccard_strength: f64,
    /// What a chunk is compared with.
    pub jaccard_scope: JaccardScope,
    /// Fewer targets than this do not tell which words are common: then none is, but for punctuation.
    pub enough_targets: usize,
    /// Tokens in more than this share of the targets are common words: see [`common_tokens`]. 1 makes none common.
    pub common_share: f64,
    /// Largest weight of a token of the thinking.
    pub maximum_weight: f64,
    /// Whether it bounds the weight or its proximity.
    pub cap: Cap,
    /// Weight of each token of the answer.
    pub answer_weight: f64,
    /// What the loss is divided by.
    pub normalisation: Normalisation,
}

impl Default for CreditOptions {
    fn default() -> Self {
        Self {
            mask: true,
            proximity: true,
            jaccard: true,
            proximity_scale: 3.5,
            proximity_decay: 0.85,
            proximity_threshold: 0.1,
            jaccard_strength: 0.5,
            jaccard_scope: JaccardScope::Local,
            enough_targets: 8,
            common_share: 0.5,
            maximum_weight: 3.6,
            cap: Cap::Weight,
            answer_weight: 1.0,
            normalisation: Normalisation::default(),
        }
    }
}

/// Why tokens cannot be weighed as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`credit.{field}` is {value}, but must be {range}")]
pub struct CreditError {
    /// The setting.
    pub field: &'static str,
    /// What was given.
    pub value: f64,
    /// What is accepted.
    pub range: &'static str,
}

impl CreditOptions {
    /// Refuses settings outside their range.
    pub fn check(&self) -> Result<(), CreditError> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let weight = |value: f64| value.is_finite() && value >= 0.0;
        let constant = match self.normalisation {
            Normalisation::Constant(value) => value,
            _ => 1.0,
        };
        let settings = [
            ("proximity_scale", self.proximity_scale, positive(self.proximity_scale), "a finite number above 0"),
            ("proximity_decay", self.proximity_decay, share(self.proximity_decay), "from 0 to 1"),
            (
                "proximity_threshold",
                self.proximity_threshold,
                weight(self.proximity_threshold),
                "0 or a finite number above it",
            ),
            ("jaccard_strength", self.jaccard_strength, share(self.jaccard_strength), "from 0 to 1"),
            ("common_share", self.common_share, share(self.common_share), "from 0 to 1"),
            ("maximum_weight", self.maximum_weight, positive(self.maximum_weight), "a finite number above 0"),
            ("answer_weight", self.answer_weight, weight(self.answer_weight), "0 or a finite number above it"),
            ("normalisation.constant", constant, positive(constant), "a finite number above 0"),
        ];
        match settings.into_iter().find(|(_, _, accepted, _)| !accepted) {
            Some((field, value, _, range)) => Err(CreditError { field, value, range }),
            None => Ok(()),
        }
    }

    /// The part of the target's `tokens` that a model chunk is compared with; `stand_in` is what it stands in for.
    pub fn counterpart<'a>(&self, tokens: &'a [u32], stand_in: Range<usize>) -> &'a [u32] {
        match self.jaccard_scope {
            JaccardScope::Global => tokens,
            JaccardScope::Local => tokens.get(stand_in).unwrap_or_default(),
        }
    }
}

/// What a stretch of a rollout is to the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// What the rollout began with, anchors included: never weighs anything.
    Prompt,
    /// Expert chunks, forced tail, forced close tag, opener of the box.
    Injected,
    /// Thinking by the model.
    Model {
        /// The expert tokens that it is compared with. Where there are none, j = 1.
        expert: &'a [u32],
    },
    /// The answer by the model.
    Answer,
}

/// A stretch of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// What it is.
    pub role: Role<'a>,
    /// Its tokens.
    pub tokens: &'a [u32],
}

/// S·γ^d for the token that follows the last injected one after `distance` others; exactly 0 where that is below τ, by
/// default from 22 tokens on. 1 where the mechanism is off.
pub fn proximity(distance: usize, options: &CreditOptions) -> f64 {
    if !options.proximity {
        return 1.0;
    }
    let weight = options.proximity_scale * options.proximity_decay.powf(distance as f64);
    if weight < options.proximity_threshold { 0.0 } else { weight }
}

/// Jaccard similarity |∩|/|∪| of the sets of tokens, without `common` ones. Where nothing is left of either, nothing
/// can be said about them: 1/2, which leaves weights as they are.
pub fn jaccard(chunk: &[u32], expert: &[u32], common: &HashSet<u32, impl BuildHasher>) -> f64 {
    let set = |tokens: &[u32]| tokens.iter().copied().filter(|token| !common.contains(token)).collect::<HashSet<u32>>();
    let (chunk, expert) = (set(chunk), set(expert));
    let shared = chunk.intersection(&expert).count();
    let union = chunk.len() + expert.len() - shared;
    if union == 0 { 0.5 } else { shared as f64 / union as f64 }
}

/// Weight of every token of a rollout, in order.
pub fn token_weights(
    stretches: &[Stretch],
    options: &CreditOptions,
    common: &HashSet<u32, impl BuildHasher>,
) -> Vec<f32> {
    let mut weights = Vec::with_capacity(stretches.iter().map(|stretch| stretch.tokens.len()).sum());
    let mut distance = 0;
    for stretch in stretches {
        let count = stretch.tokens.len();
        match stretch.role {
            Role::Prompt | Role::Injected => {
                let trained = stretch.role == Role::Injected && !options.mask;
                weights.extend(std::iter::repeat_n(f32::from(u8::from(trained)), count));
                // An empty stretch injects nothing, so that it is no boundary.
                distance = if count == 0 { distance } else { 0 };
            }
            Role::Model { expert } => {
                let factor = similarity_factor(stretch.tokens, expert, options, common);
                let weight = |place| capped(factor, proximity(place, options), options) as f32;
                weights.extend((distance..distance + count).map(weight));
                distance += count;
            }
            Role::Answer => {
                weights.extend(std::iter::repeat_n(options.answer_weight as f32, count));
                distance += count;
            }
        }
    }
    weights
}

/// j = (1−λ) + 2λJ.
fn similarity_factor(
    chunk: &[u32],
    expert: &[u32],
    options: &CreditOptions,
    common: &HashSet<u32, impl BuildHasher>,
) -> f64 {
    if !options.jaccard || expert.is_empty() {
        return 1.0;
    }
    1.0 - options.jaccard_strength + 2.0 * options.jaccard_strength * jaccard(chunk, expert, common)
}

/// The weight of a token from its similarity j and its proximity p.
fn capped(similarity: f64, proximity: f64, options: &CreditOptions) -> f64 {
    match options.cap {
        Cap::Weight => options.maximum_weight.min(similarity * proximity),
        Cap::Proximity => similarity * options.maximum_weight.min(proximity),
    }
}

/// What the weighted sum of token losses of each rollout is divided by, given the weights of all rollouts of a group
/// that carry a loss. 1 where no token weighs anything: the sum is 0 then.
pub fn normalisers(group: &[&[f32]], options: &CreditOptions) -> Vec<f64> {
    let sum = |weights: &&[f32]| weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
    let divisor = |weights: &&[f32]| match options.normalisation {
        Normalisation::Weights => sum(weights),
        Normalisation::Tokens => weights.iter().filter(|weight| **weight != 0.0).count() as f64,
        Normalisation::Group => group.iter().map(sum).sum(),
        Normalisation::Constant(value) => value,
    };
    group.iter().map(divisor).map(|divisor| if divisor > 0.0 { divisor } else { 1.0 }).collect()
}

/// (Σw)²/Σw², the number of equally weighted tokens that would average as well (Kish 1965); 0 where none weighs
/// anything.
pub fn effective_tokens(weights: &[f32]) -> f64 {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let squares: f64 = weights.iter().map(|weight| f64::from(*weight).powi(2)).sum();
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

/// The common words of a dataset, which say nothing about whether two texts agree: of the vocabulary's `count` ids
/// those whose text has no letter or digit, and tokens in more than `common_share` of the `targets`. Tokens with a
/// digit are never common, as they are what mathematics is about, nor are pieces of characters (their text is the
/// replacement character). Fewer than `enough_targets` have no frequent words, since what is in all of them may be
/// their subject.
pub fn common_tokens<'a>(
    count: usize,
    targets: impl IntoIterator<Item = &'a [u32]>,
    token_text: impl Fn(u32) -> String,
    options: &CreditOptions,
) -> HashSet<u32> {
    let mut documents = 0;
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for target in targets {
        documents += 1;
        for token in target.iter().copied().collect::<HashSet<u32>>() {
            *seen.entry(token).or_default() += 1;
        }
    }
    let is_frequent = |token: &u32| {
        let share = seen.get(token).map_or(0.0, |seen| *seen as f64 / documents as f64);
        documents >= options.enough_targets && share > options.common_share
    };
    let is_common = |token: &u32| {
        let text = token_text(*token);
        let is_word = text.contains(|letter: char| letter.is_alphanumeric() || letter == char::REPLACEMENT_CHARACTER);
        !is_word || (is_frequent(token) && !text.contains(char::is_numeric))
    };
    (0..u32::try_from(count).unwrap_or(u32::MAX)).filter(is_common).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none() -> HashSet<u32> {
        HashSet::new()
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn proximity_has_its_table() {
        let options = CreditOptions::default();
        // Computed by hand: 3.5·0.85, 3.5·0.85², 3.5·0.85²¹ = 0.11531; 3.5·0.85²² = 0.09801 is below 0.1.
        for (distance, expected) in [(0, 3.5), (1, 2.975), (2, 2.52875), (21, 0.115_309_6)] {
            assert!(close(proximity(distance, &options), expected), "{distance}: {}", proximity(distance, &options));
        }
        assert!([22, 23, 1000, usize::MAX].iter().all(|distance| proximity(*distance, &options) == 0.0));
        let off = CreditOptions { proximity: false, ..options };
        assert_eq!((proximity(0, &off), proximity(500, &off)), (1.0, 1.0));
        // 2·(1/2)³ is the threshold itself, which is not below it.
        let exact = CreditOptions {
            proximity_scale: 2.0,
            proximity_decay: 0.5,
            proximity_threshold: 0.25,
            ..CreditOptions::default()
        };
        assert_eq!([2, 3, 4].map(|distance| proximity(distance, &exact)), [0.5, 0.25, 0.0]);
    }

    #[test]
    fn jaccard_is_that_of_sets() {
        assert_eq!(jaccard(&[1, 2, 2, 3], &[3, 2, 4], &none()), 0.5);
        assert_eq!(jaccard(&[1], &[1, 1], &none()), 1.0);
        assert_eq!(jaccard(&[1], &[2], &none()), 0.0);
        assert_eq!(jaccard(&[], &[2], &none()), 0.0);
        assert_eq!(jaccard(&[], &[], &none()), 0.5);
        assert_eq!(jaccard(&[9, 1], &[9, 2], &HashSet::from([9])), 0.0);
        assert_eq!(jaccard(&[9], &[9], &HashSet::from([9])), 0.5);
    }

    #[test]
    fn a_rollout_is_weighed_token_by_token() {
        let stretches = [
            Stretch { role: Role::Prompt, tokens: &[1, 2] },
            Stretch { role: Role::Injected, tokens: &[3] },
            // J = 1/3, j = 0.5 + 1/3.
            Stretch { role: Role::Model { expert: &[4, 6] }, tokens: &[4, 5] },
            Stretch { role: Role::Injected, tokens: &[7] },
            // J = 1, j = 1.5: 5.25 and 4.4625 are capped, 3.793125 too, then 3.224156.
            Stretch { role: Role::Model { expert: &[8] }, tokens: &[8, 8, 8, 8] },
            Stretch { role: Role::Injected, tokens: &[9, 9] },
            Stretch { role: Role::Answer, tokens: &[5, 5] },
        ];
        let j = 0.5 + 1.0 / 3.0;
        let expected = [0.0, 0.0, 0.0, 3.5 * j, 2.975 * j, 0.0, 3.6, 3.6, 3.6, 3.224_156, 0.0, 0.0, 1.0, 1.0];
        let found = token_weights(&stretches, &CreditOptions::default(), &none());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(close(f64::from(*found), expected), "{found} {expected}");
        }
    }

    #[test]
    fn each_mechanism_goes_off_alone() {
        let stretches = [
            Stretch { role: Role::Prompt, tokens: &[1] },
            Stretch { role: Role::Injected, tokens: &[3] },
            Stretch { role: Role::Model { expert: &[5] }, tokens: &[4, 4] },
            Stretch { role: Role::Answer, tokens: &[5] },
        ];
        let weights = |options: CreditOptions| token_weights(&stretches, &options, &none());
        let default = CreditOptions::default;
        assert_eq!(weights(default()), [0.0, 0.0, 1.75, 1.4875, 1.0]);
        assert_eq!(weights(CreditOptions { proximity: false, ..default() }), [0.0, 0.0, 0.5, 0.5, 1.0]);
        assert_eq!(weights(CreditOptions { jaccard: false, ..default() }), [0.0, 0.0, 3.5, 2.975, 1.0]);
        assert_eq!(weights(CreditOptions { mask: false, ..default() }), [0.0, 1.0, 1.75, 1.4875, 1.0]);
        let none = CreditOptions { proximity: false, jaccard: false, mask: false, ..default() };
        assert_eq!(weights(none), [0.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_cap_on_proximity_leaves_what_similarity_adds() {
        // J = 1, j = 1.5.
        let stretches = [Stretch { role: Role::Model { expert: &[8] }, tokens: &[8, 8] }];
        let weights = |cap, maximum_weight| {
            token_weights(&stretches, &CreditOptions { maximum_weight, cap, ..CreditOptions::default() }, &none())
        };
        assert_eq!(weights(Cap::Weight, 3.6), [3.6, 3.6]);
        assert_eq!(weights(Cap::Proximity, 3.6), [5.25, 4.4625]);
        assert_eq!(weights(Cap::Proximity, 3.0), [4.5, 4.4625]);
    }

    #[test]
    fn the_distance_of_a_naked_rollout_counts_from_its_prompt() {
        let thinking = vec![5; 30];
        let stretches = [
            Stretch { role: Role::Prompt, tokens: &[1; 40] },
            Stretch { role: Role::Model { expert: &[] }, tokens: &thinking },
        ];
        let weights = token_weights(&stretches, &CreditOptions::default(), &none());
        assert_eq!(weights[40], 3.5);
        assert_eq!(weights.iter().filter(|weight| **weight > 0.0).count(), 22);
    }

    #[test]
    fn parts_of_one_chunk_share_their_distance() {
        let parts = |sizes: [usize; 2]| {
            let stretches = sizes.map(|size| Stretch { role: Role::Model { expert: &[5] }, tokens: &[5; 10][..size] });
            token_weights(&stretches, &CreditOptions::default(), &none())
        };
        assert_eq!(parts([10, 0]), parts([4, 6]));
        let empty = [
            Stretch { role: Role::Model { expert: &[5] }, tokens: &[5; 4] },
            Stretch { role: Role::Injected, tokens: &[] },
            Stretch { role: Role::Model { expert: &[5] }, tokens: &[5; 6] },
        ];
        assert_eq!(token_weights(&empty, &CreditOptions::default(), &none()), parts([10, 0]));
    }

    #[test]
    fn normalisers_and_effective_tokens() {
        let weights = [0.0, 1.0, 3.0, 0.0];
        let group: [&[f32]; 3] = [&weights, &[0.5; 4], &[0.0; 3]];
        let normalisers =
            |normalisation| normalisers(&group, &CreditOptions { normalisation, ..CreditOptions::default() });
        assert_eq!(normalisers(Normalisation::Weights), [4.0, 2.0, 1.0]);
        assert_eq!(normalisers(Normalisation::Tokens), [2.0, 4.0, 1.0]);
        assert_eq!(normalisers(Normalisation::Group), [6.0; 3]);
        assert_eq!(normalisers(Normalisation::Constant(7.5)), [7.5; 3]);
        // (1+3)²/(1+9); n equal weights are n tokens.
        assert!(close(effective_tokens(&weights), 1.6));
        assert!(close(effective_tokens(&[0.3; 12]), 12.0));
        assert_eq!(effective_tokens(&[]), 0.0);
    }

    #[test]
    fn common_tokens_are_punctuation_and_frequent_words_but_no_digits() {
        let pieces = [" the", ".", " 7", " apple", "\n", " pear", "", "\u{fffd}"];
        let text = |token: u32| pieces[token as usize].to_owned();
        let often: Vec<Vec<u32>> = (0..10).map(|index| vec![0, 1, 2, 2, if index < 4 { 3 } else { 5 }, 4]).collect();
        let common = |targets: &[Vec<u32>], share: f64| {
            let options = CreditOptions { common_share: share, ..CreditOptions::default() };
            let mut found: Vec<u32> =
                common_tokens(pieces.len(), targets.iter().map(Vec::as_slice), text, &options).into_iter().collect();
            found.sort_unstable();
            found
        };
        assert_eq!(common(&often, 0.5), [0, 1, 4, 5, 6]);
        assert_eq!(common(&often, 0.6), [0, 1, 4, 6]);
        assert_eq!(common(&often, 1.0), [1, 4, 6]);
        assert_eq!(common(&often[..7], 0.5), [1, 4, 6], "too few targets to tell");
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let default = CreditOptions::default;
        assert_eq!(default().check(), Ok(()));
        let cases = [
            (CreditOptions { proximity_scale: 0.0, ..default() }, "proximity_scale"),
            (CreditOptions { proximity_decay: 1.1, ..default() }, "proximity_decay"),
            (CreditOptions { proximity_threshold: f64::NAN, ..default() }, "proximity_threshold"),
            (CreditOptions { jaccard_strength: -0.1, ..default() }, "jaccard_strength"),
            (CreditOptions { common_share: 2.0, ..default() }, "common_share"),
            (CreditOptions { maximum_weight: f64::INFINITY, ..default() }, "maximum_weight"),
            (CreditOptions { answer_weight: -1.0, ..default() }, "answer_weight"),
            (CreditOptions { normalisation: Normalisation::Constant(0.0), ..default() }, "normalisation.constant"),
        ];
        for (options, field) in cases {
            assert_eq!(options.check().expect_err("out of range").field, field);
        }
    }

    #[test]
    fn a_config_names_the_scope_and_the_normalisation() {
        let options: CreditOptions =
            toml::from_str("jaccard_scope = \"global\"\nnormalisation = { constant = 64.0 }").expect("valid");
        assert_eq!(
            (options.jaccard_scope, options.normalisation),
            (JaccardScope::Global, Normalisation::Constant(64.0))
        );
        assert_eq!(options.counterpart(&[1, 2, 3], 1..2), [1, 2, 3]);
        assert_eq!(CreditOptions::default().counterpart(&[1, 2, 3], 1..2), [2]);
        assert!(CreditOptions::default().counterpart(&[1, 2, 3], 2..9).is_empty());
        assert!(toml::from_str::<CreditOptions>("lambda = 1.0").is_err());
        let text = toml::to_string(&options).expect("serialises");
        assert_eq!(toml::from_str::<CreditOptions>(&text).expect("valid"), options);
    }

    proptest! {
        #[test]
        fn weights_keep_their_limits(
            chunks in prop::collection::vec((prop::collection::vec(0_u32..9, 0..5), prop::collection::vec(0_u32..9, 0..40), prop::collection::vec(0_u32..9, 0..9)), 0..5),
        ) {
            let stretches: Vec<Stretch> = chunks.iter().flat_map(|(injected, model, expert)| [
                Stretch { role: Role::Injected, tokens: injected },
                Stretch { role: Role::Model { expert }, tokens: model },
            ]).collect();
            let weights = token_weights(&stretches, &CreditOptions::default(), &none());
            let mut place = 0;
            for stretch in &stretches {
                let own = &weights[place..place + stretch.tokens.len()];
                place += own.len();
                match stretch.role {
                    Role::Injected => prop_assert!(own.iter().all(|weight| *weight == 0.0)),
                    _ => prop_assert!(own.is_sorted_by(|left, right| left >= right) && own.iter().all(|weight| (0.0..=3.6).contains(weight))),
                }
            }
            prop_assert_eq!(place, weights.len());
            let trained = weights.iter().filter(|weight| **weight > 0.0).count() as f64;
            prop_assert!(effective_tokens(&weights) <= trained + 1e-6);
        }

        #[test]
        fn jaccard_is_symmetric_and_a_share(left in prop::collection::vec(0_u32..12, 0..20), right in prop::collection::vec(0_u32..12, 0..20)) {
            let found = jaccard(&left, &right, &HashSet::from([3]));
            prop_assert_eq!(found, jaccard(&right, &left, &HashSet::from([3])));
            prop_assert!((0.0..=1.0).contains(&found));
        }
    }
}
