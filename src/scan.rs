//! `lcr-audit scan`: adapters' files alone, without a base's weights and without running anything.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lcr_gate::policy::Policy;

use crate::exit::Status;
use crate::judged::{Renamed, ScanArguments, judged};
use crate::outputs::OutputArguments;
use crate::terminal::Terminal;

/// Arguments of `scan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit scan my-adapter
  lcr-audit scan adapters/ --write sarif=lcr-audit.sarif --write junit=lcr-audit.xml
  lcr-audit scan adapters/ --base models/Qwen3-4B       hold templates and tokenizers against the base's
  lcr-audit scan adapters/ --baseline accepted.json     only what is new
  lcr-audit scan my-adapter --json --statistics         the numbers of every module as well

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folders of adapters, folders of such folders, or files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Policy file [default: the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    common: ScanArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = match &arguments.policy {
        Some(path) => Policy::open(path)?,
        None => Policy::default(),
    };
    arguments.output.refuse_inside(&arguments.paths)?;
    let renamed = Renamed::default();
    let report = judged(&arguments.paths, &renamed, &policy, &arguments.common, "scan", None, terminal)?;
    arguments.output.emit(&report, terminal)
}
