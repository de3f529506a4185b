//! Plans where the expert speaks inside the assistant's thinking, and follows the plan while the model writes.
//!
//! Thinking is co-authored: a chunk of the expert's text, a chunk by the model that continues it, and so on; the expert
//! begins. The one idea is that everything here is a pure function of token ids: a [`Plan`] is drawn before the rollout
//! from (seed, sample, view), and what the model then wrote moves only the places where the next chunks start. So a
//! plan can be shown without a model, and a rollout can be replayed.
//!
//! **Coherence.** The expert takes over at a [cut point](Target::cuts) (a line end, in a long line a sentence end, in a
//! long sentence every sixteenth token) and never goes back behind what it has said. It hands over there or at the end
//! of a sentence, unless that would more than double a short chunk: then it stops in front of a word, which the model
//! can go on from.
//!
//! | file | |
//! |---|---|
//! | `target.rs` | the expert's thinking and its cut points |
//! | `plan.rs` | how much the expert says in each view of a group |
//! | `follow.rs` | where the expert goes on after what the model wrote |
//! | `leak.rs` | whether injected text gives the answer away |

mod follow;
mod leak;
mod plan;
mod target;

pub use follow::{chunk_is_complete, next_chunk, next_start, stand_in};
pub use leak::{LeakMode, cut_before_leak, find_leak, room, tail};
pub use plan::{Plan, PlanRequest, plan};
pub use target::{Target, check_expert_text, line_tokens};

use serde::{Deserialize, Serialize};

/// Why scaffolding cannot be done as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScaffoldError {
    /// A setting is outside its range.
    #[error("`scaffold.{field}` is {value}, but must be {range}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        range: &'static str,
    },
    /// The expert's thinking holds what only the end of the thinking or the answer may hold.
    #[error(
        "the expert's thinking holds `{found}` at byte {position}: take it out, or the thinking would end inside a \
         chunk"
    )]
    ForbiddenText {
        /// The close tag, or a box.
        found: String,
        /// Where it begins in the text.
        position: usize,
    },
}

/// Where the expert goes on in its own text after the model wrote some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// It leaves out as much as the model wrote: whole lines for whole lines, tokens for the rest.
    #[default]
    Advance,
    /// It goes on where it stopped.
    Resume,
    /// It goes on after the stretch of its text that shares most tokens with what the model wrote.
    Align,
}

/// Where the expert hands over to the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandOver {
    /// At ends of lines; within long ones as [`Target::cuts`] has it.
    Line,
    /// At ends of sentences, too: shorter chunks, and models that have to go on within a line.
    #[default]
    Sentence,
}

/// How scaffolds are planned. Check it with [`ScaffoldOptions::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaffoldOptions {
    /// The expert's share of the target in each scaffolded view, in (0, 1]. Each view beyond the list goes half of the
    /// way that is left to `largest_share`.
    pub expert_shares: Vec<f64>,
    /// Expert chunks in each view. Each view beyond the list has one more.
    pub cycles: Vec<usize>,
    /// What the shares of views beyond the list grow towards.
    pub largest_share: f64,
    /// Concentration of the Dirichlet draw that splits the share among the chunks: large values make chunks equal.
    pub dirichlet: f64,
    /// Fewest tokens of an expert chunk. A share of the target below this leaves the expert silent.
    pub minimum_chunk: usize,
    /// Fewest tokens that the model may write after an expert chunk.
    pub minimum_model_chunk: usize,
    /// Most tokens that the model may write between two expert chunks.
    pub maximum_model_chunk: usize,
    /// Model chunks are longer or shorter by up to this share, drawn uniformly.
    pub jitter: f64,
    /// Where the expert goes on.
    pub continuation: Continuation,
    /// Where it hands over.
    pub hand_over: HandOver,
    /// Two plans of a group whose sets of boundaries have a larger Jaccard similarity than this are too much alike: the
    /// later one is drawn again.
    pub overlap_limit: f64,
    /// Drawings of a plan before the best one so far is taken.
    pub attempts: u32,
    /// Tokens that a model chunk may go on to the end of its line once its budget is spent: a chunk that the expert
    /// interrupts within a line makes text that nobody writes.
    pub line_slack: usize,
    /// Of the tokens that the model wrote, the share that must be found in the target for [`Continuation::Align`] to
    /// believe that they stand for it.
    pub aligned_share: f64,
    /// How often a view is written again that did not get more of the expert than the one before: the model may end its
    /// thinking before the expert has said what was planned.
    pub redraws: usize,
    /// Off gives every view of every sample the shares and cycles of the first view, in equal chunks without jitter.
    pub varied_boundaries: bool,
    /// What happens when injected text holds the answer.
    pub leak_guard: LeakMode,
}

impl Default for ScaffoldOptions {
    fn default() -> Self {
        Self {
            expert_shares: vec![0.35, 0.60],
            cycles: vec![2, 3],
            largest_share: 0.85,
            dirichlet: 4.0,
            minimum_chunk: 4,
            minimum_model_chunk: 8,
            maximum_model_chunk: 64,
            jitter: 0.25,
            continuation: Continuation::Advance,
            hand_over: HandOver::Sentence,
            overlap_limit: 0.5,
            attempts: 32,
            line_slack: 24,
            aligned_share: 0.25,
            redraws: 1,
            varied_boundaries: true,
            leak_guard: LeakMode::Flag,
        }
    }
}

impl ScaffoldOptions {
    /// Refuses settings outside their range. The functions of this module do not panic on unchecked options, but what
    /// they return then has no meaning.
    pub fn check(&self) -> Result<(), ScaffoldError> {
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        let refusals = [
            (
                "expert_shares",
                self.expert_shares.is_empty() || !self.expert_shares.iter().all(|share| is_share(*share)),
                format!("{:?}", self.expert_shares),
                "a list of numbers above 0 and at most 1, one for each view",
            ),
            (
                "cycles",
                self.cycles.is_empty() || self.cycles.contains(&0),
                format!("{:?}", self.cycles),
                "a list of counts from 1, one for each view",
            ),
            ("largest_share", !is_share(self.largest_share), self.largest_share.to_string(), "above 0 and at most 1"),
            (
                "dirichlet",
                !(self.dirichlet.is_finite() && self.dirichlet > 0.0),
                self.dirichlet.to_string(),
                "a finite number above 0",
            ),
            ("minimum_chunk", self.minimum_chunk == 0, self.minimum_chunk.to_string(), "at least 1"),
            ("minimum_model_chunk", self.minimum_model_chunk == 0, self.minimum_model_chunk.to_string(), "at least 1"),
            (
                "maximum_model_chunk",
                self.maximum_model_chunk < self.minimum_model_chunk,
                self.maximum_model_chunk.to_string(),
                "at least `minimum_model_chunk`",
            ),
            ("jitter", !(0.0..1.0).contains(&self.jitter), self.jitter.to_string(), "at least 0 and below 1"),
            ("attempts", self.attempts == 0, self.attempts.to_string(), "at least 1"),
            (
                "aligned_share",
                !(0.0..=1.0).contains(&self.aligned_share),
                self.aligned_share.to_string(),
                "from 0 to 1",
            ),
            (
                "overlap_limit",
                !(0.0..=1.0).contains(&self.overlap_limit),
                self.overlap_limit.to_string(),
                "from 0 to 1",
            ),
        ];
        match refusals.into_iter().find(|(_, refused, _, _)| *refused) {
            Some((field, _, value, range)) => Err(ScaffoldError::OutOfRange { field, value, range }),
            None => Ok(()),
        }
    }

    /// Expert share and cycles of a view, 0 being the first scaffolded one.
    fn view(&self, view: usize) -> (f64, usize) {
        let last_share = self.expert_shares.last().copied().unwrap_or(0.0);
        let share = self.expert_shares.get(view).copied().unwrap_or_else(|| {
            let beyond = (view + 1 - self.expert_shares.len()).min(1000) as i32;
            let room = (self.largest_share - last_share).max(0.0);
            last_share + room * (1.0 - 0.5_f64.powi(beyond))
        });
        let cycles =
            self.cycles.get(view).copied().unwrap_or_else(|| {
                self.cycles.last().copied().unwrap_or(0).saturating_add(view + 1 - self.cycles.len())
            });
        (share, cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_accepted_and_settings_outside_their_range_are_named() {
        let default = ScaffoldOptions::default;
        assert_eq!(default().check(), Ok(()));
        let cases = [
            (ScaffoldOptions { expert_shares: vec![], ..default() }, "expert_shares"),
            (ScaffoldOptions { expert_shares: vec![0.3, 0.0], ..default() }, "expert_shares"),
            (ScaffoldOptions { expert_shares: vec![f64::NAN], ..default() }, "expert_shares"),
            (ScaffoldOptions { cycles: vec![2, 0], ..default() }, "cycles"),
            (ScaffoldOptions { largest_share: 1.5, ..default() }, "largest_share"),
            (ScaffoldOptions { dirichlet: 0.0, ..default() }, "dirichlet"),
            (ScaffoldOptions { dirichlet: f64::INFINITY, ..default() }, "dirichlet"),
            (ScaffoldOptions { minimum_chunk: 0, ..default() }, "minimum_chunk"),
            (ScaffoldOptions { minimum_model_chunk: 0, ..default() }, "minimum_model_chunk"),
            (ScaffoldOptions { maximum_model_chunk: 7, ..default() }, "maximum_model_chunk"),
            (ScaffoldOptions { jitter: 1.0, ..default() }, "jitter"),
            (ScaffoldOptions { attempts: 0, ..default() }, "attempts"),
            (ScaffoldOptions { aligned_share: -0.1, ..default() }, "aligned_share"),
            (ScaffoldOptions { overlap_limit: f64::NAN, ..default() }, "overlap_limit"),
        ];
        for (options, name) in cases {
            match options.check() {
                Err(ScaffoldError::OutOfRange { field, .. }) => assert_eq!(field, name),
                other => panic!("{options:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn further_views_grow_towards_the_largest_share() {
        let options = ScaffoldOptions::default();
        assert_eq!(options.view(0), (0.35, 2));
        assert_eq!(options.view(1), (0.60, 3));
        // Half of 0.25, then half of what is left: 0.60 + 0.125, + 0.0625.
        assert!((options.view(2).0 - 0.725).abs() < 1e-12 && options.view(2).1 == 4);
        assert!((options.view(3).0 - 0.7875).abs() < 1e-12 && options.view(3).1 == 5);
        assert!((options.view(usize::MAX - 1).0 - 0.85).abs() < 1e-12);
        let fixed = ScaffoldOptions { expert_shares: vec![0.9], ..options };
        assert_eq!(fixed.view(5).0, 0.9, "a share above the largest one stays");
    }

    #[test]
    fn a_config_names_what_it_sets() {
        let options: ScaffoldOptions = toml::from_str("continuation = \"align\"\nleak_guard = \"cut\"").expect("valid");
        assert_eq!((options.continuation, options.leak_guard), (Continuation::Align, LeakMode::Cut));
        assert_eq!(options.cycles, [2, 3]);
        assert!(toml::from_str::<ScaffoldOptions>("cycle = [2]").is_err());
        let text = toml::to_string(&options).expect("serialises");
        assert_eq!(toml::from_str::<ScaffoldOptions>(&text).expect("valid"), options);
    }
}
