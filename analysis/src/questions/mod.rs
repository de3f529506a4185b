//! Questions about an adapter, one file each: how it is asked, what chance gives, when the answer is yes.
//!
//! A question reads what was gathered about the adapter, or asks the models itself, and drafts its answer; what all
//! drafts of a run claim is then held against how many were made ([`ask`]). A further question is a file here and a
//! line in [`QUESTIONS`].

mod answers;
mod composition;
mod constant;
mod direction;
mod effect;
mod erasure;
mod hidden;
mod location;
mod magnitude;
mod one_answer;
mod profile;
mod rotation;
mod subject;
mod surrogate;
mod trigger;

use std::fmt;

use indexmap::IndexMap;
use lcr_documents::audit::{Answer, Coherence, Depth, Question, Seen, WeightChange};
use lcr_documents::number::plural;
use lcr_documents::statistics::median;
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::tokenizer::Tokenizer;

use crate::AuditError;
use crate::evidence::chance::holm;
use crate::evidence::{BaseAnswers, Evidence, ProbeSet};

pub use self::profile::hold_against;

/// Chance alone may answer yes to any question of a run as often as this.
pub const RATE: f64 = 0.01;

/// Nats per answer token that a set of answers must move by to be judged by a ratio: a thousandfold of nothing is
/// nothing. On answers that a base is sure of random adapters move next to nothing, and an honest adapter of a small
/// model was a hundred times as far above them without a token that changed.
const VISIBLE: f64 = 0.05;

/// A single try this rare is not called chance, though all of them together may be.
const NEAR: f64 = 0.05;

/// Every question, in the order in which a reader is told.
pub static QUESTIONS: &[&Asking] = &[
    &effect::ASKING,
    &answers::ASKING,
    &one_answer::ASKING,
    &erasure::ASKING,
    &trigger::ASKING,
    &constant::ASKING,
    &direction::ASKING,
    &rotation::ASKING,
    &magnitude::ASKING,
    &composition::ASKING,
    &hidden::ASKING,
    &surrogate::ASKING,
    &location::ASKING,
    &profile::ASKING,
    &subject::ASKING,
];

/// A question, or several of one kind: how they are called and how they are asked.
#[derive(Debug)]
pub struct Asking {
    /// Names in the report, each with the question in plain words.
    pub names: &'static [(&'static str, &'static str)],
    /// The depth that asks them.
    pub depth: Depth,
    /// Asks.
    pub ask: fn(&Case) -> Asked,
}

/// Drafts by the question's name, or why the models could not be asked.
pub type Asked = Result<Vec<(String, Draft)>, AuditError>;

/// All that a question may look at.
pub struct Case<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// The adapter.
    pub adapter: &'a BoundAdapter,
    /// Other adapters that it is used together with.
    pub stack: &'a [BoundAdapter],
    /// The base's tokenizer, if it has one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The probes; none at depth `quick`, whose questions are about the weights alone.
    pub sets: &'a [ProbeSet],
    /// What the base answered to them; nothing at depth `quick`.
    pub base: &'a BaseAnswers,
    /// What was gathered from them; nothing at depth `quick`, not even random adapters.
    pub evidence: &'a Evidence,
    /// What changed in the weights.
    pub weights: &'a IndexMap<String, WeightChange>,
    /// Whether modules agree on a direction.
    pub coherence: &'a Coherence,
    /// Seed of every random choice.
    pub seed: u64,
    /// Texts that are tried as triggers.
    pub sweep_budget: usize,
    /// Told how far a long question has come: what it does, how many of how many.
    pub report: &'a dyn Fn(&str, usize, usize),
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets: Vec<&str> = self.sets.iter().map(|set| set.name.as_str()).collect();
        let adapter = &self.adapter.adapter().path;
        f.debug_struct("Case").field("adapter", adapter).field("sets", &sets).finish_non_exhaustive()
    }
}

impl Case<'_> {
    /// The index of a set by its name.
    pub fn set(&self, name: &str) -> Option<usize> {
        self.sets.iter().position(|set| set.name == name)
    }
}

/// An answer before all tries are counted.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The answer, where chance alone does not speak against it.
    pub answer: Answer,
    /// What was seen, in a sentence.
    pub why: String,
    /// The number judged and what it is a number of.
    pub measured: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// What arithmetic alone gives.
    pub floor: Option<f64>,
    /// What random adapters give.
    pub random: Vec<f64>,
    /// What rows paired at random give.
    pub permuted: Option<f64>,
    /// 95 % over prompts.
    pub interval: Option<[f64; 2]>,
    /// How often chance alone would give as much in one try.
    pub p: Option<f64>,
    /// The number that adapters are held against each other by: larger, the less one looks like one that only does its
    /// work.
    pub score: Option<f64>,
    /// Where.
    pub places: Vec<Seen>,
    /// What to do next.
    pub advice: String,
}

impl Draft {
    /// An answer with a reason and nothing else yet.
    pub fn new(answer: Answer, why: impl Into<String>) -> Self {
        Self {
            answer,
            why: why.into(),
            measured: None,
            unit: "",
            floor: None,
            random: Vec::new(),
            permuted: None,
            interval: None,
            p: None,
            score: None,
            places: Vec::new(),
            advice: String::new(),
        }
    }

    /// It cannot be told, and why.
    pub fn unresolved(why: impl Into<String>) -> Self {
        Self::new(Answer::Unresolved, why)
    }

    /// The same, but for a yes that no random adapter could be held against.
    #[must_use]
    pub fn beside_chance(self) -> Self {
        if self.answer != Answer::Yes || self.p.is_some() {
            return self;
        }
        let why = format!("{}; random adapters gave nothing to hold it against", self.why);
        Self { answer: Answer::Unresolved, why, advice: String::new(), ..self }
    }

    /// The same, saying how many random adapters it was not held against.
    fn without(self, overflowed: usize) -> Self {
        if overflowed == 0 || self.random.is_empty() {
            return self;
        }
        let left = plural(overflowed, "random adapter");
        Self { why: format!("{}; {left} left out, whose numbers overflow", self.why), ..self }
    }

    /// The number over the median of random adapters.
    pub fn times_random(&self) -> Option<f64> {
        let middle = median(&self.random).filter(|middle| *middle > 0.0)?;
        self.measured.map(|measured| measured / middle)
    }

    fn question(self, asks: &str, depth: Depth, p: Option<f64>) -> Question {
        let is_chance = self.answer == Answer::Yes && p.is_some_and(|p| p > RATE);
        // What a single try would have called rare is not ruled out by counting all of them.
        let is_near = is_chance && self.p.is_some_and(|single| single <= NEAR);
        let (answer, added) = match (is_near, is_chance) {
            (true, _) => (Answer::Unresolved, "; chance is not ruled out once all questions count as tried"),
            (false, true) => (Answer::No, "; random adapters of this size give as much"),
            (false, false) => (self.answer, ""),
        };
        let advice = if answer == self.answer { self.advice.clone() } else { String::new() };
        let why = format!("{}{added}", self.why);
        Question {
            asks: asks.to_owned(),
            answer,
            depth,
            times_random: self.times_random(),
            why,
            measured: self.measured,
            unit: self.unit.to_owned(),
            floor: self.floor,
            random: self.random,
            permuted: self.permuted,
            interval: self.interval,
            p,
            score: self.score.filter(|score| score.is_finite()),
            p_known_good: None,
            places: self.places,
            advice,
        }
    }
}

/// Asks every question of a depth; those of deeper ones are listed as not asked. `report` is told which is asked.
///
/// # Errors
/// Where the models cannot be run.
pub fn ask(case: &Case, depth: Depth, report: &mut dyn FnMut(&str)) -> Result<IndexMap<String, Question>, AuditError> {
    let mut found = ask_some(case, |asking| asking.depth <= depth, report)?;
    found.extend(not_asked(depth));
    Ok(found)
}

/// Asks the questions that are wanted, and holds their answers against how many those are. `report` is told which is
/// asked.
///
/// # Errors
/// Where the models cannot be run.
pub fn ask_some(
    case: &Case,
    is_wanted: impl Fn(&Asking) -> bool,
    report: &mut dyn FnMut(&str),
) -> Result<IndexMap<String, Question>, AuditError> {
    let mut drafts: Vec<(String, &'static Asking, Draft)> = Vec::new();
    for asking in QUESTIONS.iter().filter(|asking| is_wanted(asking)) {
        if let Some((name, _)) = asking.names.first() {
            report(name);
        }
        let asked = (asking.ask)(case)?.into_iter();
        drafts.extend(asked.map(|(name, draft)| (name, *asking, draft.without(case.evidence.overflowed))));
    }
    let p = holm(&drafts.iter().map(|(_, _, draft)| draft.p).collect::<Vec<_>>());
    let answered = drafts.into_iter().zip(p).map(|((name, asking, draft), p)| {
        let question = draft.question(&asking.asks(&name), asking.depth, p);
        (name, question)
    });
    Ok(answered.collect())
}

/// The questions of deeper depths.
pub fn not_asked(depth: Depth) -> impl Iterator<Item = (String, Question)> {
    let deeper = QUESTIONS.iter().filter(move |asking| asking.depth > depth);
    deeper.flat_map(|asking| {
        asking.names.iter().map(|(name, asks)| {
            let why = format!("asked with `--depth {}`", asking.depth.as_str());
            ((*name).to_owned(), Draft::new(Answer::NotAsked, why).question(asks, asking.depth, None))
        })
    })
}

impl Asking {
    /// Whether it asks one of these questions.
    pub fn is_one_of(&self, names: &[&str]) -> bool {
        self.names.iter().any(|(known, _)| names.contains(known))
    }

    /// The question in plain words; for a set of the user's own, about that set.
    fn asks(&self, name: &str) -> String {
        let known = self.names.iter().find(|(known, _)| *known == name);
        known.map_or_else(
            || {
                let set = name.split_once('.').map_or(name, |(_, set)| set);
                format!("Does it change answers on {set} more than elsewhere?")
            },
            |(_, asks)| (*asks).to_owned(),
        )
    }
}
