//! Compares the rollouts of a group with each other.
//!
//! A_i = (R_i − mean R)/(std R + 1e-4), with the population's standard deviation (group-relative policy optimisation,
//! Shao et al. 2024, §4.1). There is no value model: the group is its own baseline. A group whose rewards are all equal
//! teaches nothing, and its advantages are exactly 0.

use serde::{Deserialize, Serialize};

/// Keeps groups with nearly equal rewards from dividing by nothing.
const EPSILON: f64 = 1e-4;

/// Which advantages are learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageOptions {
    /// Rollouts below the mean of their group are not pushed away from. Off: they are.
    pub positive_only: bool,
}

impl Default for AdvantageOptions {
    fn default() -> Self {
        Self { positive_only: true }
    }
}

/// Advantage of each reward in its group.
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let rewards: Vec<Option<f64>> = rewards.iter().copied().map(Some).collect();
    group_advantages(&rewards)
}

/// Advantage of each reward in its group. A rollout that could not be judged has none, as has one whose reward is not
/// finite: it counts neither for the mean nor for the deviation, and its advantage is 0.
pub fn group_advantages(rewards: &[Option<f64>]) -> Vec<f64> {
    let judged: Vec<f64> = rewards.iter().copied().flatten().filter(|reward| reward.is_finite()).collect();
    // Compared as such, because the mean of equal numbers may differ from them by a rounding that 1e-4 does not hide.
    let equal = judged.windows(2).all(|pair| pair.first() == pair.last());
    if equal {
        return vec![0.0; rewards.len()];
    }
    let count = judged.len() as f64;
    let mean = judged.iter().sum::<f64>() / count;
    let deviation = (judged.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / count).sqrt();
    let advantage = |reward: &Option<f64>| match reward {
        Some(reward) if reward.is_finite() => (reward - mean) / (deviation + EPSILON),
        _ => 0.0,
    };
    rewards.iter().map(advantage).collect()
}

/// What each rollout's loss is multiplied with: its advantage, or 0 where that is not learned from.
pub fn coefficients(advantages: &[f64], options: &AdvantageOptions) -> Vec<f64> {
    advantages.iter().map(|advantage| if options.positive_only { advantage.max(0.0) } else { *advantage }).collect()
}

/// Whether a group with these [`coefficients`] is dead: there is nothing to learn from it.
pub fn is_zero_variance(coefficients: &[f64]) -> bool {
    coefficients.iter().all(|coefficient| *coefficient == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_rewards_have_their_closed_form() {
        // One of three: mean 1/3, population std √2/3.
        let deviation = 2.0_f64.sqrt() / 3.0 + 1e-4;
        let found = advantages(&[0.0, 1.0, 0.0]);
        for (found, expected) in found.iter().zip([-1.0 / 3.0, 2.0 / 3.0, -1.0 / 3.0]) {
            assert!((found - expected / deviation).abs() < 1e-12, "{found}");
        }
        // k of n right: those get √((n−k)/k) but for the 1e-4.
        let found = advantages(&[1.0, 1.0, 1.0, 0.0]);
        assert!((found[0] - (1.0_f64 / 3.0).sqrt()).abs() < 2e-4, "{found:?}");
    }

    #[test]
    fn equal_rewards_teach_exactly_nothing() {
        for rewards in [vec![], vec![1.0], vec![0.0; 5], vec![0.1; 3], vec![1.0 / 3.0; 7]] {
            assert!(advantages(&rewards).iter().all(|advantage| *advantage == 0.0), "{rewards:?}");
        }
        assert!(is_zero_variance(&advantages(&[1.0; 4])));
    }

    #[test]
    fn what_was_not_judged_changes_nothing_for_the_others() {
        let judged = advantages(&[0.0, 1.0, 0.0]);
        let all = group_advantages(&[Some(0.0), None, Some(1.0), Some(f64::NAN), Some(0.0)]);
        assert_eq!(all, [judged[0], 0.0, judged[1], 0.0, judged[2]]);
        assert_eq!(group_advantages(&[None, Some(1.0), None]), [0.0; 3]);
    }

    #[test]
    fn only_positive_advantages_propagate_unless_told_otherwise() {
        let advantages = [-0.7, 0.0, 1.4];
        assert_eq!(coefficients(&advantages, &AdvantageOptions::default()), [0.0, 0.0, 1.4]);
        assert_eq!(coefficients(&advantages, &AdvantageOptions { positive_only: false }), advantages);
        assert!(!is_zero_variance(&advantages) && is_zero_variance(&[0.0, -0.0]));
    }

    proptest! {
        #[test]
        fn advantages_are_centred_ordered_and_blind_to_a_shift(
            rewards in prop::collection::vec((-64_i32..64).prop_map(|count| f64::from(count) / 8.0), 0..20), shift in -100_i32..100,
        ) {
            let found = advantages(&rewards);
            prop_assert_eq!(found.len(), rewards.len());
            prop_assert!(found.iter().sum::<f64>().abs() < 1e-9);
            // The second moment is below 1 by the 1e-4 alone.
            let moment = found.iter().map(|advantage| advantage * advantage).sum::<f64>() / rewards.len().max(1) as f64;
            prop_assert!(moment < 1.0 && (is_zero_variance(&found) || moment > 0.99), "{moment}");
            for (left, one) in rewards.iter().zip(&found) {
                for (right, other) in rewards.iter().zip(&found) {
                    prop_assert_eq!(left < right, one < other);
                }
            }
            let shifted: Vec<f64> = rewards.iter().map(|reward| reward + f64::from(shift)).collect();
            for (one, other) in found.iter().zip(advantages(&shifted)) {
                prop_assert!((one - other).abs() < 1e-9);
            }
        }
    }
}
