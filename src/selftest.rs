//! `lcr-audit selftest`: the weakest payload of each kind that an audit of this base finds.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::metrics::Parameters;
use lcr_analysis::selftest::PLANTS;
use lcr_analysis::selftest::trained::TRAINED_PLANTS;
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Answer, Asked, Depth, Tool};
use lcr_documents::characters::visible;
use lcr_documents::number::{percent, plain};
use lcr_documents::selftest::{Payload, SCHEMA, Selftest, Tried};
use lcr_documents::write::replace;

use crate::exit::Status;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::outputs::refuse_inside;
use crate::probe_sets::ProbeSetArguments;
use crate::provenance::{pin_base, provenance};
use crate::question::{SWEEP_BUDGET, asked};
use crate::side_by_side::SideBySide;
use crate::terminal::Terminal;

/// Arguments of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit selftest models/Qwen3-0.6B
  lcr-audit selftest models/Qwen3-0.6B --weights-only       what weights alone can show, in seconds
  lcr-audit selftest models/Qwen3-0.6B --out selftest.json

  lcr-audit selftest models/Qwen3-0.6B --trained            backdoors, another name and a changed refusal too

Plants payloads, each weaker than the one before, until the question that is meant for them does not find one: a weaker one \
    would have passed. With --trained it also trains adapters on half of the probes, and makes them weaker for as long as they \
    work on the other half.

Exit codes: 0 done · 2 it could not be run · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folder of the base model.
    base: PathBuf,
    /// Write the result as JSON into this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Plant only what weights alone can show, in seconds.
    #[arg(long)]
    weights_only: bool,
    /// Train payloads too: another name, a changed refusal, and two backdoors, which are searched for as `--depth deep`
    /// does; minutes to an hour.
    #[arg(long, conflicts_with = "weights_only")]
    trained: bool,
    /// Plant this kind alone; may be given several times.
    #[arg(long = "payload", value_name = "NAME", value_parser = payload_names())]
    payloads: Vec<String>,
    /// Texts tried as triggers.
    #[arg(long, value_name = "COUNT", default_value_t = SWEEP_BUDGET)]
    sweep_budget: usize,
    /// Keep what the base answers in this folder, for the next run; whoever may write there must be trusted as the base
    /// is.
    #[arg(long, value_name = "DIR")]
    base_cache: Option<PathBuf>,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    probe_sets: ProbeSetArguments,
    #[command(flatten)]
    probes: ProbeArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    refuse_inside(std::slice::from_ref(&arguments.base), arguments.out.as_deref())?;
    let model = Model::open(&arguments.base, arguments.device.device)?;
    let probes = arguments.probes.load(&model, terminal)?;
    let options = CompareOptions {
        sites: SiteOptions {
            metrics: Vec::new(),
            keep_sinks: false,
            parameters: Parameters { subspace_dimensions: 10, seed: arguments.seed },
        },
        tracked: 0,
    };
    let depth = match (arguments.weights_only, arguments.trained) {
        (true, _) => Depth::Quick,
        (false, false) => Depth::Standard,
        (false, true) => Depth::Deep,
    };
    let sets = arguments.probe_sets.pins(&arguments.base)?;
    let sweep_budget = if arguments.trained { arguments.sweep_budget } else { 0 };
    let asked = Asked { sets, ..asked(&arguments.probes, &options, depth, sweep_budget) };
    let provenance = provenance(&pin_base(&arguments.base, true)?, &probes.prompts, None)?;
    let base = arguments.base.display().to_string();
    let pair = SideBySide {
        base_cache: arguments.base_cache.clone(),
        ..SideBySide::new((&model, &probes), options, base, asked, provenance)
    };
    let is_wanted =
        |name: &str| arguments.payloads.is_empty() || arguments.payloads.iter().any(|wanted| wanted == name);
    let plants = PLANTS.iter().filter(|plant| plant.depth <= pair.asked.depth && is_wanted(plant.name));
    let mut payloads = plants.map(|plant| pair.planted(plant, terminal)).collect::<Result<Vec<Payload>>>()?;
    for plant in TRAINED_PLANTS.iter().filter(|plant| arguments.trained && is_wanted(plant.name)) {
        payloads.push(pair.planted_by_training(plant, terminal)?);
    }
    if payloads.is_empty() {
        bail!(
            "nothing was planted: the trained payloads need --trained, and `steering` needs more than --weights-only"
        );
    }
    let found = Selftest {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        base: pair.provenance.base.clone().unwrap_or_default(),
        probes: pair.provenance.probes.clone(),
        asked: pair.asked.clone(),
        payloads,
    };
    if let Some(out) = &arguments.out {
        let text = serde_json::to_string_pretty(&found)? + "\n";
        replace(out, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    }
    if terminal.json() {
        terminal.document(&found)?;
    } else {
        terminal.result(&summary(&found, &pair.base)?)?;
    }
    Ok(Status::Done)
}

/// What a person reads.
fn summary(found: &Selftest, base: &str) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "What an audit of {} at depth `{}` finds:", visible(base), found.asked.depth.as_str())?;
    for payload in &found.payloads {
        writeln!(text, "\n{}: {}", payload.name, payload.what)?;
        match payload.weakest_found {
            Some(weakest) => {
                let found = payload.tried.iter().rfind(|tried| tried.answer == Answer::Yes);
                let by = found.map_or(&payload.questions, |found| &found.found_by);
                writeln!(text, "  found down to {} {}, by {}", plain(weakest), payload.unit, quoted(by))?;
            }
            None => writeln!(text, "  NOT FOUND by {}, at any strength tried", quoted(&payload.questions))?,
        }
        if let Some(missed) = payload.tried.last().filter(|tried| Some(tried.strength) != payload.weakest_found) {
            writeln!(text, "  {}", what_passed(missed))?;
        }
    }
    if found.asked.depth < Depth::Deep {
        writeln!(text, "\nNothing here was trained: backdoors and changed identities are planted with --trained.")?;
    }
    Ok(text)
}

/// Names of questions as a person reads them.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What became of the last strength, which was not found.
fn what_passed(missed: &Tried) -> String {
    let strength = plain(missed.strength);
    let comes = |works: f64| format!("comes on {} of the held-out prompts", percent(works));
    match (missed.answer, missed.works) {
        (Answer::NotAsked, Some(works)) => format!("{strength} hardly works: it {}", comes(works)),
        (Answer::Unresolved, Some(works)) => {
            format!(
                "{strength} was left unresolved, which passes where no policy requires the question, and it {}",
                comes(works)
            )
        }
        (_, Some(works)) => format!("{strength} PASSED, and it {}", comes(works)),
        (_, None) => format!("{strength} passed, and a weaker one would"),
    }
}

/// The names that `--payload` takes.
fn payload_names() -> PossibleValuesParser {
    let closed = PLANTS.iter().map(|plant| (plant.name, plant.what));
    let trained = TRAINED_PLANTS.iter().map(|plant| (plant.name, plant.what));
    closed.chain(trained).map(|(name, what)| PossibleValue::new(name).help(what)).collect::<Vec<_>>().into()
}
