//! `lcr-audit inspect`: what an adapter file is, without its base.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lcr_documents::characters::visible;
use lcr_model::adapter::{Adapter, Inspection};

use crate::exit::Status;
use crate::terminal::Terminal;

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
    let inspection = Adapter::open(&arguments.adapter)?.summary();
    if terminal.json() {
        terminal.document(&inspection)?;
    } else {
        terminal.result(&table(&inspection)?)?;
    }
    Ok(Status::Done)
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
        writeln!(text, "\n  {:width$}  {:>13}  rank  {:>10}  {:>10}", "module", "shape", "‖sBA‖", "σ₁")?;
        for (path, module) in &inspection.modules {
            let path = visible(path);
            let shape = format!("{}×{}", module.shape[0], module.shape[1]);
            let first = module.singular_values.first().copied().unwrap_or(0.0);
            let dora = module
                .magnitude
                .map_or(String::new(), |[low, mean, high]| format!("  magnitude {low:.4} … {mean:.4} … {high:.4}"));
            writeln!(
                text,
                "  {path:width$}  {shape:>13}  {:>4}  {:>10.4e}  {first:>10.4e}{dora}",
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
