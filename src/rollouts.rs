//! `lcr-audit rollouts`: a run's rollouts as one page to read.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lcr_reports::rollouts::{ViewerOptions, write_page};

use crate::exit::Status;
use crate::terminal::Terminal;

/// Arguments of `rollouts`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit rollouts lcr-run                    writes lcr-run/rollouts.html
  lcr-audit rollouts lcr-run --groups 1000 --out all.html")]
pub(crate) struct Arguments {
    /// Folder of a run.
    run: PathBuf,
    /// Where to write the page [default: rollouts.html in the run's folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Groups to show at most, spread evenly over the run.
    #[arg(long, value_name = "COUNT")]
    groups: Option<usize>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("rollouts.html"));
    let mut options = ViewerOptions::default();
    options.groups = arguments.groups.unwrap_or(options.groups);
    let summary = write_page(&arguments.run.join("rollouts.jsonl"), &out, options)?;
    if terminal.json() {
        terminal.document(&summary)?;
    } else {
        terminal.note(&format!("{}: {} of {} groups", out.display(), summary.shown, summary.groups));
    }
    Ok(Status::Done)
}
