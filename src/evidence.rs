//! What a comparison asks beyond numbers: the probe sets, the base's own answers to them, and the questions put to each
//! adapter.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use indexmap::IndexMap;
use lcr_analysis::comparison::{CompareOptions, Comparison};
use lcr_analysis::evidence::{BaseAnswers, Evidence, EvidenceOptions, EvidenceProgress, ProbeSet, gather, let_answer};
use lcr_analysis::questions::{Case, ask};
use lcr_analysis::selftest::trained::TrainedPlant;
use lcr_analysis::selftest::{Plant, Setup};
use lcr_documents::audit::{Asked, Depth, Question};
use lcr_documents::selftest::Payload;
use lcr_model::decoder::BoundAdapter;
use lcr_train::supervised::{SupervisedOptions, train_on_pairs};

use crate::base_cache::{BaseCache, MadeFrom};
use crate::model::ProbeArguments;
use crate::probe_sets::{ProbeSetArguments, sets};
use crate::question::{SWEEP_BUDGET, asked};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// How much is asked, and what is kept for the next time.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArguments {
    /// How much is asked about the adapter [default: standard; of batch: quick].
    #[arg(long, value_enum)]
    depth: Option<DepthArgument>,
    /// Texts tried as triggers at `--depth deep`.
    #[arg(long, value_name = "COUNT", default_value_t = SWEEP_BUDGET)]
    sweep_budget: usize,
    /// Keep what the base answers in this folder, for the next run; whoever may write there must be trusted as the base
    /// is.
    #[arg(long, value_name = "DIR")]
    pub(crate) base_cache: Option<PathBuf>,
    #[command(flatten)]
    probe_sets: ProbeSetArguments,
}

impl EvidenceArguments {
    /// What the command line asks about adapters of a base, for the report; `usual` is the depth where none is given.
    pub(crate) fn asked(
        &self,
        base: &Path,
        probes: &ProbeArguments,
        options: &CompareOptions,
        usual: Depth,
    ) -> Result<Asked> {
        let depth = self.depth.map_or(usual, Depth::from);
        Ok(Asked { sets: self.probe_sets.pins(base)?, ..asked(probes, options, depth, self.sweep_budget) })
    }
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DepthArgument {
    /// Weights, closed forms, activations and next tokens.
    Quick,
    /// Beside it what chance gives, the base's own answers on five probe sets, directions, rotation and lens.
    Standard,
    /// Beside it the search for triggers, dose, surrogate and location.
    Deep,
}

impl From<DepthArgument> for Depth {
    fn from(argument: DepthArgument) -> Self {
        match argument {
            DepthArgument::Quick => Self::Quick,
            DepthArgument::Standard => Self::Standard,
            DepthArgument::Deep => Self::Deep,
        }
    }
}

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
        let most = EvidenceOptions::default().answer_tokens;
        let cache = cache_of(pair, &sets, stops, most)?;
        let config = pair.model.decoder.config();
        if let Some(base) = cache.as_ref().and_then(|cache| cache.read(&sets, config.vocab_size)) {
            return Ok(Self { sets, base });
        }
        let mut progress = terminal.progress();
        let base = let_answer(&pair.model.decoder, &sets, stops, most, &mut |done, all| {
            progress.update("base answers", done, all);
        })?;
        cache.map_or(Ok(()), |cache| cache.keep(&base))?;
        Ok(Self { sets, base })
    }
}

/// Where the answers are kept; nowhere without a folder for it or a digest of the base.
fn cache_of(pair: &SideBySide, sets: &[ProbeSet], stops: &[u32], most: usize) -> Result<Option<BaseCache>> {
    let (Some(folder), Some(base)) = (&pair.base_cache, &pair.provenance.base) else { return Ok(None) };
    let sets = sets.iter().map(|set| (set.name.as_str(), set.prompts.as_slice(), set.answered)).collect();
    let on_cpu = pair.model.decoder.device().is_cpu();
    BaseCache::within(folder, &MadeFrom { base, on_cpu, sets, stops, most }).map(Some)
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
            stack: &self.stack,
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
        let mut questions = ask(&case, depth, &mut |name| report(name, 0, 1))?;
        if let Some(known) = &self.known_good {
            known.hold(&mut questions, &adapter.adapter().sha256);
        }
        Ok(questions)
    }

    /// Plants payloads of one kind into the base, and says which are found.
    pub(crate) fn planted(&self, plant: &Plant, terminal: &Terminal) -> Result<Payload> {
        let nothing = Asking::default();
        let asking = if plant.depth < Depth::Standard { &nothing } else { self.asking(terminal)? };
        let mut progress = terminal.progress();
        let setup = self.setup(asking, &|_, _, _| ());
        Ok(plant.weakest(&setup, &mut |done, all| progress.update(plant.name, done, all))?)
    }

    /// Teaches one kind of payload, makes it weaker and weaker, and says down to where it is found.
    pub(crate) fn planted_by_training(&self, plant: &TrainedPlant, terminal: &Terminal) -> Result<Payload> {
        let progress = RefCell::new(terminal.progress());
        let report = |phase: &str, done, all| {
            progress.borrow_mut().update(&format!("{}: {phase}", plant.name), done, all);
        };
        let setup = self.setup(self.asking(terminal)?, &report);
        let Some(lessons) = plant.lessons(&setup) else {
            bail!("{} cannot be taught: this base has no tokenizer, or its probes no such prompts", plant.name);
        };
        let width = setup.decoder.config().width;
        let options = SupervisedOptions::for_width(width, self.asked.seed);
        let pairs: Vec<(&[u32], &[u32])> =
            lessons.lessons.iter().map(|lesson| (lesson.prompt.as_slice(), lesson.answer.as_slice())).collect();
        let taught = train_on_pairs(setup.decoder, &pairs, &options, &mut |steps, adapter| -> Result<bool> {
            report("training", steps, options.steps);
            Ok(lessons.is_learned(&setup, adapter)?)
        })?;
        Ok(plant.weakest(&setup, &lessons, &taught)?)
    }

    fn setup<'a>(&'a self, asking: &'a Asking, report: &'a dyn Fn(&str, usize, usize)) -> Setup<'a> {
        Setup {
            decoder: &self.model.decoder,
            sets: &asking.sets,
            base: &asking.base,
            tokenizer: self.model.tokenizer.as_ref(),
            sweep_budget: self.asked.sweep_budget,
            report,
            seed: self.asked.seed,
        }
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
