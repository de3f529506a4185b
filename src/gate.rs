//! `lcr-audit gate`: a policy's verdict on adapters: their files, and where the policy asks for that, what they do to
//! the base.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use lcr_gate::policy::Policy;

use crate::exit::Status;
use crate::judged::{Renamed, ScanArguments, judged};
use crate::outputs::OutputArguments;
use crate::question::Question;
use crate::terminal::Terminal;

/// The policy that is taken where none is named.
pub(crate) const POLICY_FILE: &str = "lcr-audit.toml";

/// Arguments of `gate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit gate adapters/                                        by ./lcr-audit.toml
  lcr-audit gate --policy lcr-audit.toml --base models/Qwen3-4B adapters/
  lcr-audit gate adapters/ --write sarif=lcr-audit.sarif --write summary=\"$GITHUB_STEP_SUMMARY\"

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folders of adapters, folders of such folders, or files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Policy file [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Keep what the base answers in this folder, for the next run; whoever may write there must be trusted as the base
    /// is.
    #[arg(long, value_name = "DIR")]
    base_cache: Option<PathBuf>,
    #[command(flatten)]
    common: ScanArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    if arguments.common.base.is_none() && (policy.asks_for_comparison() || policy.base.sha256.is_some()) {
        bail!("the policy {} asks for the base: give its folder with --base", policy.source);
    }
    arguments.output.refuse_inside(&arguments.paths)?;
    let question = policy.asks_for_comparison().then(|| Question::of_policy(&policy)).transpose()?;
    let question = question.map(|question| question.with_base_cache(arguments.base_cache.as_deref()));
    let renamed = Renamed::default();
    let common = &arguments.common;
    let report = judged(&arguments.paths, &renamed, &policy, common, "gate", question.as_ref(), terminal)?;
    arguments.output.emit(&report, terminal)
}

/// The policy named, or the one in this folder, or the built-in one.
pub(crate) fn open_policy(named: Option<&Path>) -> Result<Policy> {
    let here = Path::new(POLICY_FILE);
    Ok(match named {
        Some(path) => Policy::open(path)?,
        // A link that leads nowhere stands there too, and is no reason to take another policy.
        None if here.symlink_metadata().is_ok() => Policy::open(here)?,
        None => Policy::default(),
    })
}
