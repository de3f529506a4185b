//! `lcr-audit inspect`: what an adapter file is, without its base, and what a scan has against its tensors.
//!
//! The bounds are the scan's: what is beyond them is refused.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use lcr_documents::characters::visible;
use lcr_formats::adapter::{AdapterError, AdapterParts, Inspection};
use lcr_gate::rules::{Severity, Stage, rule};
use lcr_scan::{Artifact, Check, Limits, Observation, ScanOptions, scan};

use crate::exit::Status;
use crate::terminal::Terminal;

/// Longest path that the table makes room for.
const WIDEST: usize = 80;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit inspect my-adapter
  lcr-audit inspect my-adapter --json | jq .scales")]
pub(crate) struct Arguments {
    /// Folder of the adapter, or its .safetensors file.
    adapter: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let limits = Limits::default();
    let mut inspection = read(&arguments.adapter, &limits)?;
    inspection.notes.extend(objections(&arguments.adapter, limits));
    if terminal.json() {
        terminal.document(&inspection)?;
    } else {
        terminal.result(&table(&inspection)?)?;
    }
    Ok(Status::Done)
}

/// Reads the adapter within the bounds of a scan, a few modules at a time.
fn read(path: &Path, limits: &Limits) -> Result<Inspection> {
    let parts = AdapterParts::find(path, limits.of_adapters(), &|_| None)?;
    let refused = |place: &str, reason: String| AdapterError::TooLarge {
        path: parts.tensors().to_owned(),
        place: place.to_owned(),
        reason,
    };
    let mut whole: Option<Inspection> = None;
    for part in parts.parts() {
        if part.elements > limits.elements {
            let reason = format!("{} elements in one module, more than {}", part.elements, limits.elements);
            return Err(refused(&part.first, reason).into());
        }
        let adapter = parts.read(part)?;
        if let Some(rank) = adapter.ranks().last().filter(|rank| **rank > limits.rank) {
            return Err(refused(&part.first, format!("rank {rank}, more than {}", limits.rank)).into());
        }
        let inspection = adapter.summary();
        match &mut whole {
            Some(whole) => whole.join(inspection),
            None => whole = Some(inspection),
        }
    }
    // A file without tensors was refused before.
    whole.ok_or_else(|| refused("", "no tensor that can be read".to_owned()).into())
}

/// What a scan has against the adapter, by the built-in levels and limits.
fn objections(path: &Path, limits: Limits) -> Vec<String> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let found = scan(&Artifact::Adapter(folder.to_owned()), &ScanOptions { limits, ..ScanOptions::default() });
    let is_objection = |seen: &&Observation| {
        rule(seen.check.code()).is_some_and(|rule| {
            let within = rule.limit.zip(seen.measured).is_some_and(|(limit, measured)| measured <= limit);
            rule.stage == Stage::Adapter && rule.level > Severity::Allow && !within
        })
    };
    // Templates and tokenizers are the scan's own matter; so is what inspect says of a zero effect anyway.
    let is_of_tensors = |seen: &&Observation| {
        !matches!(
            seen.check,
            Check::TemplateCarried | Check::TemplateSuspicious | Check::TokenizerCarried | Check::ZeroEffect
        )
    };
    let own = found.observations.iter().filter(is_objection).filter(is_of_tensors);
    own.map(|seen| {
        let place = if seen.place.is_empty() { seen.file.as_str() } else { seen.place.as_str() };
        format!("{} ({place}): {}", seen.check.code(), seen.message)
    })
    .collect()
}

fn table(inspection: &Inspection) -> Result<String> {
    let mut text = String::new();
    let list = |values: &[String]| if values.is_empty() { "–".to_owned() } else { visible(&values.join(", ")) };
    let numbers = |values: &[usize]| list(&values.iter().map(ToString::to_string).collect::<Vec<_>>());
    writeln!(text, "{}", visible(&inspection.path))?;
    writeln!(text, "  format      {} · {}", inspection.format.name(), inspection.method)?;
    writeln!(text, "  base        {}", visible(inspection.base_model.as_deref().unwrap_or("not named")))?;
    writeln!(text, "  rank        {}", numbers(&inspection.ranks))?;
    writeln!(text, "  scale       {}", list(&inspection.scales))?;
    writeln!(text, "  targets     {}", list(&inspection.targets))?;
    writeln!(text, "  layers      {}", numbers(&inspection.layers))?;
    writeln!(
        text,
        "  size        {} parameters in {} tensors, {} bytes",
        inspection.parameters, inspection.tensors, inspection.bytes
    )?;
    writeln!(text, "  sha256      {}", inspection.sha256)?;
    for note in &inspection.notes {
        writeln!(text, "  note        {}", visible(note))?;
    }
    if inspection.zero_effect {
        writeln!(text, "  note        this adapter changes nothing: every change that it holds is zero")?;
    }
    if !inspection.modules.is_empty() {
        let width = inspection.modules.keys().map(|path| visible(path).chars().count()).max().unwrap_or(0);
        // One name of a megabyte must not widen the lines of all others.
        let width = width.min(WIDEST);
        writeln!(text, "\n  {:width$}  {:>13}  rank  {:>10}  {:>10}", "module", "shape", "‖sBA‖", "σ₁")?;
        for (path, module) in &inspection.modules {
            let path = visible(path);
            let shape = format!("{}×{}", module.shape[0], module.shape[1]);
            let first = module.singular_values.first().map_or_else(|| "–".to_owned(), |value| format!("{value:.4e}"));
            let dora = module
                .magnitude
                .map_or(String::new(), |[low, mean, high]| format!("  magnitude {low:.4} … {mean:.4} … {high:.4}"));
            writeln!(
                text,
                "  {path:width$}  {shape:>13}  {:>4}  {:>10.4e}  {first:>10}{dora}",
                module.rank, module.norm
            )?;
        }
    }
    for (name, whole) in &inspection.whole {
        writeln!(text, "  {}  whole tensor {:?}, ‖·‖ {:.4e}", visible(name), whole.shape, whole.norm)?;
    }
    for (path, length) in &inspection.biases {
        writeln!(text, "  {}.bias  replaces the base's, {length} values", visible(path))?;
    }
    Ok(text)
}
