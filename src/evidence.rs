//! What a comparison asks beyond numbers: the probe sets, the base's own answers to them, and the questions put to each
//! adapter.

use std::cell::RefCell;

use anyhow::Result;
use indexmap::IndexMap;
use lcr_analysis::comparison::Comparison;
use lcr_analysis::evidence::{BaseAnswers, Evidence, EvidenceOptions, EvidenceProgress, ProbeSet, gather};
use lcr_analysis::questions::{Case, ask};
use lcr_documents::audit::{Depth, Question};
use lcr_model::decoder::BoundAdapter;

use crate::probes::{ProbeOptions, ProbeSource, load};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// Prompts of each set, unless told otherwise.
const PROMPTS: usize = 16;
/// Prompts of each side of a direction: their states are cheap, for nothing is answered.
const CONTRASTS: usize = 48;
/// The sets that the base is let to answer.
const ANSWERED: [&str; 5] = ["general", "math", "identity", "refusal", "truth"];
/// The set of true and false statements, and the other whose prompts come in pairs.
const STATEMENTS: &str = "statements";
const REFUSAL: &str = "refusal";

/// What all adapters of a base are asked with; nothing, where questions are about the weights alone.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    sets: Vec<ProbeSet>,
    base: BaseAnswers,
}

impl Asking {
    /// Reads the probe sets and lets the base answer them.
    fn prepare(pair: &SideBySide, terminal: &Terminal) -> Result<Self> {
        let sets = sets(pair)?;
        let stops = pair.model.tokenizer.as_ref().map_or(&[][..], |tokenizer| tokenizer.stop_tokens());
        let mut progress = terminal.progress();
        let most = EvidenceOptions::default().answer_tokens;
        let base = BaseAnswers::decode(&pair.model.decoder, &sets, stops, most, &mut |done, all| {
            progress.update("base answers", done, all);
        })?;
        Ok(Self { sets, base })
    }
}

/// The built-in sets and, where it is another, the user's own; of a model without a tokenizer the user's own alone.
fn sets(pair: &SideBySide) -> Result<Vec<ProbeSet>> {
    let (asked, config) = (&pair.asked, pair.model.decoder.config());
    let most = asked.max_prompts.unwrap_or(PROMPTS);
    let answer = EvidenceOptions::default().answer_tokens;
    let max_tokens = asked.max_tokens.min(config.max_positions.saturating_sub(answer)).max(1);
    let own = ProbeSet {
        name: pair.probes.source.clone(),
        prompts: pair.probes.prompts.iter().map(|prompt| prompt[..prompt.len().min(max_tokens)].to_vec()).collect(),
        texts: pair.probes.texts.clone(),
        chat_template: pair.probes.chat_template,
        paired: false,
        answered: true,
    };
    let Some(tokenizer) = pair.model.tokenizer.as_ref().filter(|_| !asked.tokens) else {
        return Ok(vec![own.sampled(most)]);
    };
    let options =
        ProbeOptions { no_chat_template: asked.raw, max_prompts: None, max_tokens, vocab_size: config.vocab_size };
    let mut sets = Vec::new();
    for name in ANSWERED.into_iter().chain([STATEMENTS]) {
        let loaded = load(&ProbeSource::BuiltIn(name.to_owned()), Some(tokenizer), options)?;
        let answered = name != STATEMENTS;
        let set = ProbeSet {
            name: name.to_owned(),
            prompts: loaded.prompts,
            texts: loaded.texts,
            chat_template: loaded.chat_template,
            paired: !answered || name == REFUSAL,
            answered,
        };
        sets.push(set.sampled(if answered { most } else { CONTRASTS.min(2 * most) }));
    }
    if !ANSWERED.contains(&own.name.as_str()) {
        sets.push(own.sampled(most));
    }
    Ok(sets)
}

impl SideBySide<'_> {
    /// Asks everything that the run's depth asks about one adapter.
    pub(crate) fn questions(
        &self,
        fitted: &Fitted,
        found: &Comparison,
        terminal: &Terminal,
    ) -> Result<IndexMap<String, Question>> {
        let depth = self.asked.depth;
        let (decoder, adapter) = (&self.model.decoder, &fitted.variant);
        let nothing = Asking::default();
        let (asking, evidence) = if depth < Depth::Standard {
            (&nothing, Evidence::default())
        } else {
            let asking = self.asking(terminal)?;
            (asking, self.gathered(asking, adapter, terminal)?)
        };
        let progress = RefCell::new(terminal.progress());
        let report = |phase: &str, done, all| progress.borrow_mut().update(phase, done, all);
        let case = Case {
            decoder,
            adapter,
            tokenizer: self.model.tokenizer.as_ref(),
            sets: &asking.sets,
            base: &asking.base,
            evidence: &evidence,
            weights: &found.weights,
            coherence: &found.coherence,
            seed: self.asked.seed,
            sweep_budget: self.asked.sweep_budget,
            report: &report,
        };
        Ok(ask(&case, depth, &mut |name| report(name, 0, 1))?)
    }

    /// What adapters are asked with, made when the first one is.
    fn asking(&self, terminal: &Terminal) -> Result<&Asking> {
        if let Some(known) = self.asking.get() {
            return Ok(known);
        }
        let made = Asking::prepare(self, terminal)?;
        Ok(self.asking.get_or_init(|| made))
    }

    /// Base, adapter and random adapters on the base's answers.
    fn gathered(&self, asking: &Asking, adapter: &BoundAdapter, terminal: &Terminal) -> Result<Evidence> {
        let options = EvidenceOptions { seed: self.asked.seed, ..EvidenceOptions::default() };
        let mut progress = terminal.progress();
        let decoder = &self.model.decoder;
        Ok(gather(decoder, adapter, &asking.sets, &asking.base, options, &mut |step| match step {
            EvidenceProgress::Random(done, all) => progress.update("random adapters", done, all),
            EvidenceProgress::Layers(done, all) => progress.update("answers", done, all),
        })?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lcr_analysis::questions::QUESTIONS;
    use lcr_gate::rules::question_names;

    #[test]
    fn every_question_has_a_rule_and_every_rule_a_question() {
        let asked = QUESTIONS.iter().flat_map(|asking| asking.names).map(|(name, _)| *name);
        let asked: BTreeSet<&str> = asked.collect();
        assert_eq!(asked, question_names().collect());
        assert_eq!(asked.len(), QUESTIONS.iter().map(|asking| asking.names.len()).sum::<usize>());
    }
}
