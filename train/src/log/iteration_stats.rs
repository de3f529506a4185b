//! What is counted over the groups of a run between two steps of the optimiser.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::step::group::{Group, GroupOutcome, Growth, Scored};
use crate::step::rollout::View;

/// Right answers among rollouts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Right.
    pub correct: u64,
    /// Of these.
    pub of: u64,
}

/// Sums over the groups since the last optimiser step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IterationStats {
    /// Groups ended by a right naked rollout.
    pub skipped: u64,
    /// Groups in which no rollout stood out.
    pub zero_variance: u64,
    /// Accuracy by view.
    pub views: BTreeMap<String, Share>,
    /// Accuracy by leak class.
    pub leaks: BTreeMap<String, Share>,
    /// Σ R over rewarded rollouts.
    pub rewards: f64,
    /// Rewarded rollouts.
    pub rewarded: u64,
    /// Σ |A|.
    pub advantages: f64,
    /// All rollouts.
    pub rollouts: u64,
    /// Rollouts closed by force.
    pub forced: u64,
    /// Of these, the ones that were given the end of the expert's thinking.
    pub tails: u64,
    /// Σ of Jaccard similarities.
    pub jaccard: f64,
    /// Rollouts that have one.
    pub jaccards: u64,
    /// Tokens drawn, those of views that were written again included.
    pub generated: u64,
    /// What the expert said, by scaffolded view.
    pub expert: BTreeMap<String, Spoken>,
    /// Scaffolded rollouts in which the model wrote two stretches of thinking or more.
    pub interleaved: u64,
    /// Groups by whether each later view holds more of the expert: see [`Growth`].
    pub grown: u64,
    /// Of the others, those in which the expert had more to say.
    pub stalled: u64,
    /// And those in which it had not, without giving the answer away.
    pub without_room: u64,
    /// Groups of which two views have the same boundaries.
    pub identical_views: u64,
    /// Views that were written again.
    pub redrawn: u64,
}

/// Sums over the rollouts of a scaffolded view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    /// Rollouts.
    pub of: u64,
    /// Σ of the expert's planned shares of the target.
    pub planned: f64,
    /// Σ of the shares that it said in fact.
    pub injected: f64,
    /// Σ of the stretches of thinking that the model wrote.
    pub model_chunks: u64,
}

impl IterationStats {
    /// Counts a group.
    pub(crate) fn add(&mut self, group: &Group) {
        self.add_views(group);
        self.skipped += u64::from(group.outcome == GroupOutcome::Skipped);
        self.zero_variance += u64::from(group.outcome == GroupOutcome::ZeroVariance);
        for Scored { rollout, reward, advantage, jaccard, .. } in &group.members {
            let right = u64::from(rollout.correct());
            let leak = serde_json::to_value(rollout.leak).ok();
            let leak = leak.as_ref().and_then(serde_json::Value::as_str).unwrap_or("none").to_owned();
            for share in [self.views.entry(rollout.view.to_string()).or_default(), self.leaks.entry(leak).or_default()]
            {
                share.correct += right;
                share.of += 1;
            }
            self.rewards += reward.unwrap_or(0.0);
            self.rewarded += u64::from(reward.is_some());
            self.advantages += advantage.abs();
            self.rollouts += 1;
            self.forced += u64::from(rollout.forced_close);
            self.tails += u64::from(rollout.has_tail());
            self.jaccard += jaccard.unwrap_or(0.0);
            self.jaccards += u64::from(jaccard.is_some());
        }
        self.generated += group.generated();
    }

    /// Counts what the expert said in each view.
    fn add_views(&mut self, group: &Group) {
        match group.growth {
            Growth::Grown => self.grown += 1,
            Growth::Stalled => self.stalled += 1,
            Growth::NoRoom => self.without_room += 1,
            Growth::Single => {}
        }
        self.identical_views += u64::from(group.identical_views);
        self.redrawn += group.redrawn.views;
        let scaffolded = group.members.iter().map(|member| &member.rollout);
        for rollout in scaffolded.filter(|rollout| matches!(rollout.view, View::Scaffold(_))) {
            let spoken = self.expert.entry(rollout.view.to_string()).or_default();
            spoken.of += 1;
            spoken.planned += rollout.expert_share;
            spoken.injected += rollout.injected_share;
            spoken.model_chunks += rollout.model_chunks() as u64;
            self.interleaved += u64::from(rollout.model_chunks() >= 2);
        }
    }
}
