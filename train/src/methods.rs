//! The ways to train an adapter, one file each, on the same data, adapter and budget.
//!
//! A [`Method`] says in what it differs: which rollouts a group has, what is learned from them, and how their tokens
//! are weighed. What they share is in [`crate::step::group`] and [`crate::lcr`]. A further one is a file here and a
//! line in [`METHODS`].

mod filtered_sft;
mod grpo;
mod lcr;
mod rft;
pub mod sft;

use std::fmt::Debug;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{ConfigError, GroupOptions, TrainConfig};
use crate::step::credit::CreditOptions;

pub use self::filtered_sft::FilteredSft;
pub use self::grpo::Grpo;
pub use self::lcr::Lcr;
pub use self::rft::Rft;
pub use self::sft::Sft;

/// Every method, the default first.
pub static METHODS: [&dyn Method; 5] = [&Lcr, &Sft, &FilteredSft, &Rft, &Grpo];

/// What a step learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnsFrom {
    /// What the model wrote, alone or with the expert.
    Rollouts,
    /// The expert's traces.
    Traces,
}

/// A way to train an adapter.
pub trait Method: Debug + Send + Sync {
    /// Its name in configurations and on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in a line.
    fn about(&self) -> &'static str;

    /// What a step learns from.
    fn learns_from(&self) -> LearnsFrom {
        LearnsFrom::Rollouts
    }

    /// Rollouts of a sample without the expert.
    fn naked_views(&self, group: &GroupOptions) -> usize {
        usize::from(group.naked_first)
    }

    /// Whether the other rollouts of the group are written together with the expert; else there are none.
    fn has_scaffold(&self) -> bool {
        true
    }

    /// Whether a naked rollout that is right ends its group without a loss, where `group.early_stop` is on.
    fn skips_what_is_solved(&self) -> bool {
        false
    }

    /// Whether advantages are relative to the group; else 1 for what is right and 0 for what is not.
    fn is_relative(&self, group: &GroupOptions) -> bool {
        group.relative
    }

    /// Whether rollouts that are no better than their group's mean carry no loss.
    fn learns_positive_only(&self, group: &GroupOptions) -> bool {
        group.positive_only
    }

    /// How tokens are weighed: all that the model wrote alike, unless a method tells them apart.
    fn credit(&self, options: &CreditOptions) -> CreditOptions {
        CreditOptions { proximity: false, jaccard: false, answer_weight: 1.0, ..options.clone() }
    }

    /// Refuses a configuration that the method cannot be run with.
    fn check(&self, _: &TrainConfig) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// The method of a run; written as its name.
#[derive(Debug, Clone, Copy)]
pub struct ChosenMethod(&'static dyn Method);

impl ChosenMethod {
    /// The method of this name.
    pub fn named(name: &str) -> Option<Self> {
        METHODS.into_iter().find(|method| method.name() == name).map(Self)
    }
}

impl std::ops::Deref for ChosenMethod {
    type Target = dyn Method;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Default for ChosenMethod {
    fn default() -> Self {
        Self(METHODS[0])
    }
}

impl PartialEq for ChosenMethod {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Serialize for ChosenMethod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ChosenMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let known = METHODS.map(|method| format!("`{}`", method.name())).join(", ");
            D::Error::custom(format!("unknown method `{name}`, expected one of {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_written_as_its_name() {
        for method in METHODS {
            let chosen = ChosenMethod::named(method.name()).expect("it has its name");
            let text = serde_json::to_string(&chosen).expect("a name");
            assert_eq!(text, format!("\"{}\"", method.name()));
            assert_eq!(serde_json::from_str::<ChosenMethod>(&text).expect("known"), chosen);
        }
        let names: std::collections::BTreeSet<&str> = METHODS.iter().map(|method| method.name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["filtered-sft", "grpo", "lcr", "rft", "sft"]);
        assert_eq!(ChosenMethod::default().name(), "lcr");
    }

    #[test]
    fn an_unknown_method_is_refused_with_those_that_are_known() {
        let error = serde_json::from_str::<ChosenMethod>("\"ppo\"").expect_err("unknown").to_string();
        assert!(error.contains("`ppo`") && error.contains("`lcr`, `sft`, `filtered-sft`, `rft`, `grpo`"), "{error}");
    }
}
