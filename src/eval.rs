//! `lcr-audit eval`: naked accuracy on problems, beside another run, and perplexity on a text.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_documents::statistics::{Confidence, PairedOutcomes, wilson};
use lcr_documents::write::replace;
use lcr_model::decoder::BoundAdapter;
use lcr_train::config::BudgetOptions;
use lcr_train::evaluate::{EvaluationOptions, Outcome, Perplexity, evaluate, perplexity};
use lcr_train::step::format::{Format, FormatOptions};
use lcr_train::tasks::anchors::Anchors;
use lcr_train::tasks::dataset::Problem;
use serde::Serialize;

use crate::exit::Status;
use crate::model::{Device, Model};
use crate::terminal::Terminal;
use crate::train::open_data;

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder of the model.
    model: PathBuf,
    /// Folder of an adapter.
    adapter: Option<PathBuf>,
    /// Problems: JSON Lines, or the files of GSM8K and MATH as they are.
    #[arg(long, value_name = "FILE", required_unless_present = "text")]
    data: Option<PathBuf>,
    /// Problems to answer at most, from the first.
    #[arg(long, value_name = "COUNT")]
    max_problems: Option<usize>,
    /// Behaviour instructions drawn for each problem, as in training.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    anchors: usize,
    /// Tokens of thinking before it is closed by force.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    thinking_budget: usize,
    /// What opens the answer's box after the thinking.
    #[arg(long, value_name = "TEXT")]
    opener: Option<String>,
    /// 0 takes the likeliest token every time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Choose among the likeliest tokens that hold this share of the probability.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    top_p: f64,
    /// Choose among this many likeliest tokens.
    #[arg(long, value_name = "COUNT")]
    top_k: Option<usize>,
    /// Seed of the choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Problems that are written together; it changes no result.
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    batch: usize,
    /// Write what became of each problem here, a JSON line each.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare, problem by problem, with outcomes that `--save` wrote, or with `base`: the model without the adapter.
    #[arg(long, value_name = "FILE|base")]
    against: Option<String>,
    /// A text file to measure perplexity on.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens of the text that are read together.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    window: usize,
}

const EXAMPLES: &str = "Examples:
  lcr-audit eval models/Qwen3-0.6B --data gsm8k/test.jsonl --max-problems 200 --save base.jsonl
  lcr-audit eval models/Qwen3-0.6B lcr-run --data gsm8k/test.jsonl --max-problems 200 --against base.jsonl
  lcr-audit eval bundled/nano bundled/nano-lcr --data bundled/nano/problems/heldout.jsonl --against base
  lcr-audit eval models/Qwen3-0.6B lcr-run --text shakespeare.txt";

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Evaluation {
    model: String,
    adapter: Option<String>,
    accuracy: Option<Accuracy>,
    accuracy_by_type: indexmap::IndexMap<String, Accuracy>,
    against: Option<Comparison>,
    perplexity: Option<Perplexity>,
}

#[derive(Debug, Serialize)]
struct Accuracy {
    correct: u64,
    of: u64,
    share: f64,
    /// Wilson's interval at 95 %.
    low: f64,
    high: f64,
    forced_close: u64,
}

#[derive(Debug, Serialize)]
struct Comparison {
    with: String,
    /// Right here and wrong there.
    gained: u64,
    /// Wrong here and right there.
    lost: u64,
    /// Difference of the shares, here minus there.
    difference: f64,
    /// Tango's interval of it at 95 %.
    low: f64,
    high: f64,
    /// Two-sided exact sign test on the problems that differ.
    p_value: f64,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let model = Model::open(&arguments.model, Device::Cpu)?;
    let tokenizer = model.tokenizer.as_ref().with_context(|| {
        format!(
            "{} has no tokenizer.json, so problems cannot be read. Add the model's tokenizer.json",
            arguments.model.display()
        )
    })?;
    let variant = match &arguments.adapter {
        Some(folder) => Some(model.adapt(folder, terminal)?),
        None => None,
    };
    let mut result = Evaluation {
        model: arguments.model.display().to_string(),
        adapter: arguments.adapter.as_ref().map(|path| path.display().to_string()),
        accuracy: None,
        accuracy_by_type: indexmap::IndexMap::new(),
        against: None,
        perplexity: None,
    };
    if let Some(data) = &arguments.data {
        let dataset = open_data(data, terminal)?;
        let count = arguments.max_problems.unwrap_or(usize::MAX).min(dataset.problems.len());
        let problems = &dataset.problems[..count];
        let defaults = FormatOptions::default();
        let options = FormatOptions { opener: arguments.opener.clone().unwrap_or(defaults.opener.clone()), ..defaults };
        let format =
            Format::new(tokenizer, &options, &model.decoder.config().eos)?.within(model.decoder.config().max_positions);
        let answer = |variant: Option<&BoundAdapter>, what: &str| {
            arguments.answer(&model, variant, &format, problems, what, terminal)
        };
        let outcomes = answer(variant.as_ref(), "accuracy")?;
        if let Some(path) = &arguments.save {
            save(path, &outcomes)?;
        }
        result.accuracy = Some(accuracy(outcomes.iter())?);
        let mut kinds: Vec<&String> = outcomes.iter().map(|outcome| &outcome.kind).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let of_kind = accuracy(outcomes.iter().filter(|outcome| outcome.kind == *kind))?;
            result.accuracy_by_type.insert(kind.clone(), of_kind);
        }
        if let Some(with) = &arguments.against {
            let others = if with == "base" { answer(None, "base")? } else { load(Path::new(with))? };
            result.against = Some(compare(with, &outcomes, &others)?);
        }
    }
    if let Some(path) = &arguments.text {
        let tokens = tokenizer.encode(&read_bounded(path)?, false)?;
        result.perplexity = perplexity(&model.decoder, variant.as_ref(), &tokens, arguments.window)?;
        if result.perplexity.is_none() {
            bail!("{} has fewer than two tokens, so nothing can be predicted", path.display());
        }
    }
    if terminal.json() {
        terminal.document(&result)?;
    } else {
        terminal.result(&result.to_string())?;
    }
    Ok(Status::Done)
}

impl Arguments {
    fn answer(
        &self,
        model: &Model,
        variant: Option<&BoundAdapter>,
        format: &Format,
        problems: &[Problem],
        what: &str,
        terminal: &Terminal,
    ) -> Result<Vec<Outcome>> {
        let options = EvaluationOptions {
            budget: BudgetOptions { thinking: self.thinking_budget, ..BudgetOptions::default() },
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            anchors: self.anchors,
            seed: self.seed,
            batch: self.batch,
        };
        let mut progress = terminal.progress();
        let bank = Anchors::default();
        let done = |done| progress.update(what, done, problems.len());
        Ok(evaluate(&model.decoder, variant, format, problems, &bank, &options, done)?)
    }
}

/// A text for perplexity, unless it is longer than can be measured in reasonable time: some tokenizers take gigabytes
/// for a long word, and every token is predicted.
fn read_bounded(path: &Path) -> Result<String> {
    const MOST: u64 = 2 << 20;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(fs_err::File::open(path)?, MOST + 1), &mut text)?;
    if text.len() as u64 > MOST {
        bail!(
            "{} has more than {MOST} bytes, and a text for perplexity may have as many: give a part of it (`head -c \
             {MOST}`)",
            path.display()
        );
    }
    String::from_utf8(text)
        .with_context(|| format!("{} is not UTF-8 text. Save it with UTF-8 encoding", path.display()))
}

fn accuracy<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Result<Accuracy> {
    let (mut correct, mut of, mut forced_close) = (0, 0, 0);
    for outcome in outcomes {
        correct += u64::from(outcome.correct);
        forced_close += u64::from(outcome.forced_close);
        of += 1;
    }
    let interval = wilson(correct, of, Confidence::default()).context("there is no problem to answer")?;
    Ok(Accuracy {
        correct,
        of,
        share: correct as f64 / of as f64,
        low: interval.low,
        high: interval.high,
        forced_close,
    })
}

fn compare(with: &str, outcomes: &[Outcome], others: &[Outcome]) -> Result<Comparison> {
    let same =
        outcomes.len() == others.len() && outcomes.iter().zip(others).all(|(one, other)| one.prompt == other.prompt);
    if !same {
        bail!(
            "{with} holds outcomes of other problems ({} here, {} there). Evaluate both on the same data",
            outcomes.len(),
            others.len()
        );
    }
    let right = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.correct).collect::<Vec<bool>>();
    let paired = PairedOutcomes::count(&right(others), &right(outcomes))?;
    let interval = paired.difference_interval(Confidence::default()).context("there is no problem to compare")?;
    Ok(Comparison {
        with: with.to_owned(),
        gained: paired.second_only,
        lost: paired.first_only,
        difference: paired.difference().unwrap_or(0.0),
        low: interval.low,
        high: interval.high,
        p_value: paired.p_value(),
    })
}

fn save(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let mut lines = String::new();
    for outcome in outcomes {
        lines += &serde_json::to_string(outcome)?;
        lines.push('\n');
    }
    replace(path, lines.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn load(path: &Path) -> Result<Vec<Outcome>> {
    let text = fs_err::read_to_string(path)?;
    text.lines()
        .enumerate()
        .map(|(line, text)| {
            serde_json::from_str(text)
                .with_context(|| format!("{}: line {} is no outcome of an evaluation", path.display(), line + 1))
        })
        .collect()
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| 100.0 * share;
        let [share, low, high] = [self.share, self.low, self.high].map(percent);
        write!(f, "{} of {} right, {share:.1} % (95 %: {low:.1}–{high:.1} %)", self.correct, self.of)
    }
}

impl std::fmt::Display for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(accuracy) = &self.accuracy {
            writeln!(f, "naked accuracy   {accuracy}")?;
            if accuracy.forced_close > 0 {
                writeln!(f, "                 {} closed by force", accuracy.forced_close)?;
            }
        }
        if self.accuracy_by_type.len() > 1 {
            for (kind, accuracy) in &self.accuracy_by_type {
                writeln!(f, "  {kind:<14} {accuracy}")?;
            }
        }
        if let Some(against) = &self.against {
            let points = |share: f64| 100.0 * share;
            writeln!(
                f,
                "against {}: {:+.1} points (95 %: {:+.1} to {:+.1}), {} gained, {} lost, p = {:.2e} (exact sign test)",
                against.with,
                points(against.difference),
                points(against.low),
                points(against.high),
                against.gained,
                against.lost,
                against.p_value
            )?;
        }
        if let Some(text) = &self.perplexity {
            writeln!(
                f,
                "perplexity       {:.4} over {} tokens ({:.5} nats per token)",
                text.perplexity, text.tokens, text.mean_negative_log_likelihood
            )?;
        }
        Ok(())
    }
}
