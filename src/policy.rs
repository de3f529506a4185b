//! `lcr-audit policy`: begin one, check one, and what each rule is for.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use lcr_documents::write::replace;
use lcr_gate::policy::{DEFAULT_POLICY, Policy, PolicyError};
use lcr_gate::rules;

use crate::exit::Status;
use crate::gate::POLICY_FILE;
use crate::terminal::Terminal;

/// Arguments of `policy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit policy init                   write ./lcr-audit.toml with every setting explained
  lcr-audit policy check                  every mistake in ./lcr-audit.toml at once
  lcr-audit policy explain                all rules with their levels and limits
  lcr-audit policy explain whole-tensor   one rule: what it looks for, why, and how to accept it")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a policy to start from.
    Init {
        /// File.
        #[arg(default_value = POLICY_FILE)]
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Say whether a policy can be used.
    Check {
        /// File.
        #[arg(default_value = POLICY_FILE)]
        file: PathBuf,
    },
    /// Explain a rule, or list all of them.
    Explain {
        /// Code of the rule.
        rule: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    match &arguments.command {
        Command::Init { file, force } => init(file, *force, terminal),
        Command::Check { file } => {
            let policy = Policy::open(file)?;
            let refused: Vec<String> = policy
                .refused_waivers()
                .map(|(waiver, reason)| {
                    format!("waivers[{}]: `{}` cannot be waived: {reason}", waiver.index, waiver.rule)
                })
                .collect();
            if !refused.is_empty() {
                return Err(PolicyError::Invalid { source_name: policy.source, problems: refused }.into());
            }
            terminal.result(&format!(
                "{}: sound, {} waivers, sha256 {}\n",
                policy.source,
                policy.waivers.len(),
                policy.sha256
            ))?;
            Ok(Status::Done)
        }
        Command::Explain { rule: Some(code) } => explain(code, terminal),
        Command::Explain { rule: None } => {
            terminal.result(&list()?)?;
            Ok(Status::Done)
        }
    }
}

fn init(file: &Path, force: bool, terminal: &Terminal) -> Result<Status> {
    if file.exists() && !force {
        bail!("{} is there already: name another file, or replace it with --force", file.display());
    }
    replace(file, DEFAULT_POLICY.as_bytes())?;
    terminal.note(&format!("wrote {}", file.display()));
    Ok(Status::Done)
}

fn explain(code: &str, terminal: &Terminal) -> Result<Status> {
    let Some(rule) = rules::rule(code) else {
        bail!("`{code}` is no rule: `lcr-audit policy explain` lists them");
    };
    terminal.result(&rules::explain(rule))?;
    Ok(Status::Done)
}

fn list() -> Result<String> {
    let width = rules::rules().map(|rule| rule.code.len()).max().unwrap_or(0);
    let mut text = String::new();
    for rule in rules::rules() {
        let limit = rule.limit.map(|limit| format!(" above {limit}")).unwrap_or_default();
        writeln!(text, "{:width$}  {:5}{limit:12}  {}", rule.code, rule.level.name(), rule.title)?;
    }
    Ok(text)
}
