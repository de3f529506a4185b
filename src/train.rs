//! `lcr-audit train`: teach a model with expert traces, or with one of the methods that LCR is measured against.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, ValueEnum};
use lcr_documents::statistics::{Confidence, wilson};
use lcr_train::adapter::TrainableAdapter;
use lcr_train::config::TrainConfig;
use lcr_train::evaluate::{EvaluationOptions, evaluate};
use lcr_train::lcr::{Iteration, Trainer};
use lcr_train::log::StepRecord;
use lcr_train::log::preview::{PreviewOptions, preview};
use lcr_train::methods::{ChosenMethod, METHODS};
use lcr_train::run::{Ending, Event, RunRequest, run as run_training};
use lcr_train::state::Interrupt;
use lcr_train::step::format::Format;
use lcr_train::step::group::GroupOutcome;
use lcr_train::tasks::anchors::Anchors;
use lcr_train::tasks::dataset::Dataset;

use crate::bundled::Bundle;
use crate::exit::Status;
use crate::model::{Device, Model};
use crate::terminal::Terminal;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder of the model to teach [default: the bundled nano reasoner].
    #[arg(long, value_name = "FOLDER", requires = "data")]
    base: Option<PathBuf>,

    /// Problems with expert traces: JSON Lines, or the files of GSM8K and MATH as they are [default: the bundled
    /// problems].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Folder for the adapter, the logs and the rollouts.
    #[arg(long, value_name = "FOLDER", default_value = "lcr-run")]
    out: PathBuf,

    /// Go on where the run in the folder was interrupted, bit for bit.
    #[arg(long)]
    resume: bool,

    /// Settings in TOML; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the plan and the token weights of one sample, and train nothing.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    method: MethodArguments,

    #[command(flatten)]
    adapter: AdapterArguments,

    /// Problems to measure naked accuracy on before and after [default: the bundled held-out ones for the bundled
    /// base].
    #[arg(long, value_name = "FILE")]
    heldout: Option<PathBuf>,

    /// Held-out problems to measure; 0 measures nothing.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    heldout_count: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Method")]
struct MethodArguments {
    /// How to train.
    #[arg(long, value_parser = method_names())]
    method: Option<String>,

    /// Seed of everything that is drawn.
    #[arg(long)]
    seed: Option<u64>,

    /// Samples to visit.
    #[arg(long, value_name = "COUNT")]
    samples: Option<u64>,

    /// Tokens to generate and train on at most; without `--samples`, this alone ends the run.
    #[arg(long, value_name = "COUNT")]
    tokens: Option<u64>,

    /// Rollouts of a sample.
    #[arg(long, value_name = "COUNT")]
    group_size: Option<usize>,

    /// Samples of one optimiser step.
    #[arg(long, value_name = "COUNT")]
    groups_per_step: Option<usize>,

    /// Tokens of thinking before it is closed by force.
    #[arg(long, value_name = "TOKENS")]
    thinking_budget: Option<usize>,

    /// Switch a mechanism off; may be given several times.
    #[arg(long, value_enum, value_name = "MECHANISM", value_delimiter = ',')]
    off: Vec<Mechanism>,

    /// Set any field of the configuration, such as `scaffold.dirichlet=2.0`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Adapter")]
struct AdapterArguments {
    /// Kind of adapter.
    #[arg(long, value_name = "dora|lora|rslora")]
    adapter: Option<String>,

    /// Rank of the adapter.
    #[arg(long)]
    rank: Option<usize>,

    /// Alpha of the adapter.
    #[arg(long)]
    alpha: Option<f64>,

    /// Modules to adapt, such as `q_proj,v_proj`, or `all-linear`.
    #[arg(long, value_name = "MODULES", value_delimiter = ',')]
    targets: Option<Vec<String>>,

    /// Learning rate.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
}

/// The names that `--method` takes.
fn method_names() -> PossibleValuesParser {
    METHODS.map(|method| PossibleValue::new(method.name()).help(method.about())).into()
}

/// What `--off` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    /// Boundaries that differ between the views of a group.
    VariedBoundaries,
    /// No loss on injected tokens.
    Masking,
    /// Weights that decay after a boundary.
    Proximity,
    /// Weights by similarity with the expert's words.
    Jaccard,
    /// The first rollout without a scaffold.
    NakedFirst,
    /// A right naked rollout ends its group.
    EarlyStop,
    /// Only advantages above zero propagate.
    PositiveOnly,
    /// Advantages relative to the group.
    Relative,
    /// Thinking closed where its budget is spent.
    ForcedClose,
    /// The box opened for the model.
    AnswerTurn,
    /// Behaviour instructions.
    Anchors,
}

const EXAMPLES: &str = "Examples:
  lcr-audit train                                        the bundled nano reasoner on the bundled problems
  lcr-audit train --base models/Qwen3-0.6B --data gsm8k/train.jsonl --out gsm8k-lcr
  lcr-audit train --dry-run                              what the expert says, what the model says, which token weighs \
  how much
  lcr-audit train --method grpo --tokens 500000 --seed 1 --out grpo-1
  lcr-audit train --off proximity,jaccard --out ablation
  lcr-audit train --out lcr-run --resume                 go on after an interruption

Exit codes: 0 done · 2 the run failed · 3 wrong usage · 4 the adapter holds NaN, infinities or absurd numbers · 5 \
  interrupted and saved.";

impl Mechanism {
    fn switch_off(self, config: &mut TrainConfig) {
        match self {
            Self::VariedBoundaries => config.scaffold.varied_boundaries = false,
            Self::Masking => config.credit.mask = false,
            Self::Proximity => config.credit.proximity = false,
            Self::Jaccard => config.credit.jaccard = false,
            Self::NakedFirst => config.group.naked_first = false,
            Self::EarlyStop => config.group.early_stop = false,
            Self::PositiveOnly => config.group.positive_only = false,
            Self::Relative => config.group.relative = false,
            Self::ForcedClose => config.budget.forced_close = false,
            Self::AnswerTurn => config.budget.answer_turn = false,
            Self::Anchors => config.anchors.count = 0,
        }
    }
}

impl Arguments {
    /// Defaults, then the file, then the flags, then `--set`.
    fn config(&self) -> Result<TrainConfig> {
        let mut config = match (&self.config, &self.base) {
            (Some(path), _) => TrainConfig::read(path)?,
            (None, None) => crate::bundled::nano_config()?,
            (None, Some(_)) => TrainConfig::default(),
        };
        let method = &self.method;
        if let Some(chosen) = method.method.as_deref().and_then(ChosenMethod::named) {
            config.method = chosen;
        }
        if method.tokens.is_some() && method.samples.is_none() {
            config.stop.samples = 0;
        }
        let replace = |place: &mut usize, value: Option<usize>| *place = value.unwrap_or(*place);
        replace(&mut config.group.size, method.group_size);
        replace(&mut config.group.per_step, method.groups_per_step);
        replace(&mut config.budget.thinking, method.thinking_budget);
        replace(&mut config.adapter.rank, self.adapter.rank);
        if let Some(seed) = method.seed {
            (config.seed, config.adapter.seed) = (seed, seed);
        }
        config.stop.samples = method.samples.unwrap_or(config.stop.samples);
        config.stop.tokens = method.tokens.unwrap_or(config.stop.tokens);
        config.adapter.alpha = self.adapter.alpha.unwrap_or(config.adapter.alpha);
        config.optimizer.learning_rate = self.adapter.learning_rate.unwrap_or(config.optimizer.learning_rate);
        if let Some(targets) = &self.adapter.targets {
            config.adapter.target_modules.clone_from(targets);
        }
        if let Some(kind) = &self.adapter.adapter {
            config = config.with(&format!("adapter.method=\"{kind}\""))?;
        }
        method.off.iter().for_each(|mechanism| mechanism.switch_off(&mut config));
        for assignment in &method.set {
            config = config.with(assignment)?;
        }
        config.check()?;
        Ok(config)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => {
            terminal.error(&error);
            return Ok(Status::Usage);
        }
    };
    let bundle = if arguments.base.is_none() || arguments.data.is_none() { Some(Bundle::unpack()?) } else { None };
    let bundled = |name: &str| bundle.as_ref().map(|bundle| bundle.path(name)).unwrap_or_default();
    let base = arguments.base.clone().unwrap_or_else(|| bundled("nano"));
    let data = arguments.data.clone().unwrap_or_else(|| bundled("nano/problems/hard.jsonl"));
    let heldout =
        arguments.heldout.clone().or_else(|| arguments.base.is_none().then(|| bundled("nano/problems/heldout.jsonl")));
    let model = Model::open(&base, Device::Cpu)?;
    let tokenizer = model.tokenizer.as_ref().with_context(|| {
        format!("{} has no tokenizer.json, so problems cannot be read. Add the model's tokenizer.json", base.display())
    })?;
    let dataset = open_data(&data, terminal)?;
    let format = Format::new(tokenizer, &config.format, &model.decoder.config().eos)?
        .within(model.decoder.config().max_positions);
    let mut adapter = TrainableAdapter::new(&model.decoder, &config.adapter)?;
    if arguments.base.is_none() {
        adapter.name_base("nano");
    }
    let mut trainer = Trainer::new(&model.decoder, format, &dataset, config.clone(), adapter)?;
    if arguments.dry_run {
        return dry_run(&mut trainer, terminal);
    }
    let measured =
        heldout.filter(|_| arguments.heldout_count > 0).map(|path| open_data(&path, terminal)).transpose()?;
    let measure = |trainer: &Trainer, when: &str| -> Result<Option<serde_json::Value>> {
        let Some(problems) = &measured else { return Ok(None) };
        let problems = &problems.problems[..problems.problems.len().min(arguments.heldout_count)];
        let options = EvaluationOptions { budget: config.budget.clone(), ..EvaluationOptions::default() };
        let mut progress = terminal.progress();
        let outcomes = evaluate(
            &model.decoder,
            Some(trainer.variant()),
            trainer.format(),
            problems,
            &Anchors::default(),
            &options,
            |done| progress.update("accuracy", done, problems.len()),
        )?;
        drop(progress);
        let right = outcomes.iter().filter(|outcome| outcome.correct).count();
        let interval = wilson(right as u64, outcomes.len() as u64, Confidence::default());
        let (low, high) = interval.map_or((0.0, 1.0), |interval| (interval.low, interval.high));
        let percent = 100.0 * right as f64 / outcomes.len().max(1) as f64;
        terminal.note(&format!(
            "naked accuracy {when}: {right} of {} held-out problems, {percent:.1} % (95 %: {:.1}–{:.1} %), greedy, \
             without anchors",
            outcomes.len(),
            100.0 * low,
            100.0 * high
        ));
        Ok(Some(serde_json::json!({ "correct": right, "of": outcomes.len(), "low": low, "high": high })))
    };
    let before = if arguments.resume { None } else { measure(&trainer, "before")? };
    let interrupt = Interrupt::default();
    crate::signals::request_on_termination(&interrupt);
    let request = RunRequest {
        folder: &arguments.out,
        resume: arguments.resume,
        base: &base,
        base_name: arguments.base.as_ref().map_or_else(|| "bundled:nano".to_owned(), |path| path.display().to_string()),
        data_name: arguments
            .data
            .as_ref()
            .map_or_else(|| "bundled:nano/problems/hard.jsonl".to_owned(), |path| path.display().to_string()),
        interrupt: &interrupt,
    };
    let summary = run_training(&mut trainer, &request, |event| show(event, terminal))?;
    if summary.ending == Ending::Interrupted {
        terminal.note(&format!(
            "interrupted after step {}; everything is saved. Go on with --resume --out {}",
            summary.progress.step,
            arguments.out.display()
        ));
        return Ok(Status::Interrupted);
    }
    let after = measure(&trainer, "after")?;
    if terminal.json() {
        terminal.document(&serde_json::json!({
            "out": arguments.out, "before": before, "after": after, "progress": summary.progress,
        }))?;
    } else {
        terminal.note(&format!(
            "adapter in {}: {} steps, {} samples, {} tokens generated, {} trained on",
            arguments.out.display(),
            summary.progress.step,
            summary.progress.iteration,
            summary.progress.generated_tokens,
            summary.progress.trained_tokens
        ));
        let base = arguments.base.as_ref().map_or_else(|| "BASE".to_owned(), |path| path.display().to_string());
        terminal
            .note(&format!("next: lcr-audit compare {base} {0}   ·   lcr-audit rollouts {0}", arguments.out.display()));
    }
    Ok(Status::Done)
}

/// Reads problems and says what could not be used.
pub(crate) fn open_data(path: &std::path::Path, terminal: &Terminal) -> Result<Dataset> {
    const SHOWN: usize = 3;
    let dataset = Dataset::open(path)?;
    for refused in dataset.refused.iter().take(SHOWN) {
        terminal.warn(&format!("{}: line {} cannot be used: {}", path.display(), refused.line, refused.reason));
    }
    if dataset.refused.len() > SHOWN {
        terminal.warn(&format!("{}: {} lines in all cannot be used", path.display(), dataset.refused.len()));
    }
    if dataset.problems.is_empty() {
        bail!("{} holds no problem that can be used", path.display());
    }
    Ok(dataset)
}

/// One batch of groups, shown and thrown away.
fn dry_run(trainer: &mut Trainer, terminal: &Terminal) -> Result<Status> {
    let (groups, records) = trainer.dry_run()?;
    if terminal.json() {
        terminal.document(&records)?;
        return Ok(Status::Done);
    }
    let options = PreviewOptions { color: terminal.colour(), width: terminal.width() };
    for record in &records {
        let verdict = if record.correct { "right" } else { "wrong" };
        let answer = record.generated_answer.as_deref().unwrap_or("no answer");
        terminal.result(&format!(
            "== {} · {verdict}: {answer} (true answer: {}) · advantage {:+.2}\n{}\n",
            record.view,
            record.target_answer,
            record.advantage,
            preview(&record.segments, options)
        ))?;
    }
    if groups.is_empty() {
        terminal
            .note("supervised fine-tuning makes no rollouts: every token of the expert's trace is trained on alike");
    }
    Ok(Status::Done)
}

fn show(event: &Event, terminal: &Terminal) {
    match event {
        Event::Note(text) => terminal.note(text),
        Event::Iteration(turn) => show_groups(turn, terminal),
        Event::Step(record) => terminal.note(&step_line(record)),
        Event::Checkpoint(path) => terminal.note(&format!("  checkpoint {}", path.display())),
    }
}

/// A line a group: who was right, and what became of it.
fn show_groups(turn: &Iteration, terminal: &Terminal) {
    for group in &turn.groups {
        let marks: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                let mark = if member.rollout.correct() { "right" } else { "wrong" };
                format!("{} {mark}", member.rollout.view)
            })
            .collect();
        let outcome = match group.outcome {
            GroupOutcome::Skipped => "skipped",
            GroupOutcome::ZeroVariance => "nothing to learn",
            GroupOutcome::Trained => "trained",
        };
        terminal.note(&format!("{:>6}  {}  → {outcome}", group.iteration, marks.join(" · ")));
    }
}

fn step_line(record: &StepRecord) -> String {
    let kl = record.kl_naked.as_ref().and_then(|kl| kl.exact);
    let parts = [
        Some(format!("  step {:>4}  loss {:.4}  |A| {:.2}", record.step, record.loss, record.advantage_magnitude)),
        Some(format!("|g| {:.2e}  |Δ| {:.1e}", record.gradient_norm, record.update_norm)),
        Some(format!("n_eff {:.0}", record.effective_tokens)),
        kl.map(|kl| format!("KL naked {kl:.4}")),
        record.rotation_total_mean.map(|angle| format!("turned {angle:.3}°")),
        record.tokens_per_second.map(|speed| format!("{speed:.0} tok/s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}
