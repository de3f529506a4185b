//! `lcr-audit selftest`: the weakest payload of each kind that an audit of this base finds.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::metrics::Parameters;
use lcr_analysis::selftest::PLANTS;
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Asked, Depth, Tool};
use lcr_documents::characters::visible;
use lcr_documents::number::plain;
use lcr_documents::selftest::{Payload, SCHEMA, Selftest};
use lcr_documents::write::replace;

use crate::exit::Status;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::outputs::refuse_inside;
use crate::probe_sets::ProbeSetArguments;
use crate::provenance::{pin_base, provenance};
use crate::question::asked;
use crate::side_by_side::SideBySide;
use crate::terminal::Terminal;

/// Arguments of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit selftest models/Qwen3-0.6B
  lcr-audit selftest models/Qwen3-0.6B --weights-only       what weights alone can show, in seconds
  lcr-audit selftest models/Qwen3-0.6B --out selftest.json

Plants payloads that need no training, each weaker than the one before, until the question that is meant for them does not \
    find one. A weaker one would have passed. Trained payloads are not among them.

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
    let depth = if arguments.weights_only { Depth::Quick } else { Depth::Standard };
    let sets = arguments.probe_sets.pins()?;
    let asked = Asked { sets, ..asked(&arguments.probes, &options, depth, 0) };
    let provenance = provenance(&pin_base(&arguments.base, true)?, &probes.prompts, None)?;
    let base = arguments.base.display().to_string();
    let pair = SideBySide {
        base_cache: arguments.base_cache.clone(),
        ..SideBySide::new((&model, &probes), options, base, asked, provenance)
    };
    let plants = PLANTS.iter().filter(|plant| plant.depth <= pair.asked.depth);
    let payloads = plants.map(|plant| pair.planted(plant, terminal)).collect::<Result<Vec<Payload>>>()?;
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
                writeln!(text, "  found down to {} {}, by `{}`", plain(weakest), payload.unit, payload.question)?;
            }
            None => writeln!(text, "  NOT FOUND by `{}`, at any strength tried", payload.question)?,
        }
        if let Some(missed) = payload.tried.last().filter(|tried| Some(tried.strength) != payload.weakest_found) {
            writeln!(text, "  {} passed, and a weaker one would", plain(missed.strength))?;
        }
    }
    writeln!(
        text,
        "\nNothing here was trained: what a trained backdoor or a changed identity would do is another matter."
    )?;
    Ok(text)
}
