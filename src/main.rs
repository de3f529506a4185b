//! `lcr-audit`: what a LoRA or DoRA adapter does to a language model.
//!
//! This crate is the command line only: arguments, progress, exit codes, one file per subcommand. What it prints goes
//! through [`terminal::Terminal`]; what it computes is in the crates below it.

mod attestation;
mod exit;
mod gate;
mod inspect;
mod judged;
mod memory;
mod outputs;
mod policy;
mod provenance;
mod scan;
mod terminal;
mod verify;

// What runs models, or reads what only they make.
#[cfg(feature = "models")]
mod base_cache;
#[cfg(feature = "models")]
mod batch;
#[cfg(feature = "models")]
mod bundled;
#[cfg(feature = "models")]
mod calibrate;
#[cfg(feature = "models")]
mod capture;
#[cfg(feature = "models")]
mod compare;
#[cfg(feature = "models")]
mod eval;
#[cfg(feature = "models")]
mod evidence;
#[cfg(feature = "models")]
mod generate;
#[cfg(feature = "models")]
mod known_good;
#[cfg(feature = "models")]
mod lines;
#[cfg(feature = "models")]
mod merge;
#[cfg(feature = "models")]
mod model;
#[cfg(feature = "models")]
mod probe_sets;
#[cfg(feature = "models")]
mod probes;
#[cfg(feature = "models")]
mod question;
#[cfg(not(feature = "models"))]
#[path = "files_only.rs"]
mod question;
#[cfg(feature = "models")]
mod results;
#[cfg(feature = "models")]
mod rollouts;
#[cfg(feature = "models")]
mod selftest;
#[cfg(feature = "models")]
mod shard;
#[cfg(feature = "models")]
mod side_by_side;
#[cfg(feature = "models")]
mod signals;
#[cfg(feature = "models")]
mod stack;
#[cfg(feature = "models")]
mod train;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::exit::Status;
use crate::terminal::Terminal;

/// Tells what a LoRA or DoRA adapter does to a language model: in its weights, in each layer, in what it says next.
#[derive(Debug, Parser)]
#[command(name = "lcr-audit", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    json: bool,

    /// Print nothing but the result and errors.
    #[arg(long, short, global = true)]
    quiet: bool,

    /// Threads to compute with [default: one per core].
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[cfg(not(feature = "models"))]
const EXAMPLES: &str = "Examples:
  lcr-audit scan adapters/                           refuse bad files, without a base
  lcr-audit gate adapters/                           by the policy in ./lcr-audit.toml
  lcr-audit inspect my-adapter                       what an adapter file is, without its base

This build judges files alone; one with the default features compares adapters with their base, and trains.

Exit codes: 0 verdict below fail · 1 verdict fail, or findings at or above the policy · 2 could not be analysed · 3 \
    wrong usage.";

#[cfg(feature = "models")]
const EXAMPLES: &str = "Examples:
  lcr-audit compare                                  audit the bundled adapter on the bundled model
  lcr-audit compare models/Qwen3-4B my-adapter       audit your own
  lcr-audit scan adapters/                           refuse bad files, without a base
  lcr-audit inspect my-adapter                       what an adapter file is, without its base
  lcr-audit generate models/Qwen3-4B my-adapter --prompt 'Who are you?'

Exit codes: 0 done, verdict below fail · 1 verdict fail, or findings at or above the policy · 2 could not be analysed \
    · 3 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run base and adapted model side by side and report what differs, layer by layer.
    #[cfg(feature = "models")]
    Compare(compare::Arguments),
    /// Write the activations themselves to a safetensors file.
    #[cfg(feature = "models")]
    Capture(capture::Arguments),
    /// Describe an adapter from its files alone.
    Inspect(inspect::Arguments),
    /// Look at adapters' files without running anything: hostile files, broken tensors, templates, odd weights.
    Scan(scan::Arguments),
    /// Hold adapters against a policy: their files, and what they do to the base where the policy asks for it.
    Gate(gate::Arguments),
    /// Compare many adapters with one base: shards, resuming, one ranking.
    #[cfg(feature = "models")]
    Batch(batch::Arguments),
    /// Measure adapters that are known to be good, to hold others against them.
    #[cfg(feature = "models")]
    Calibrate(calibrate::Arguments),
    /// Plant payloads into a base and tell the weakest of each kind that an audit finds.
    #[cfg(feature = "models")]
    Selftest(selftest::Arguments),
    /// Put the results of a batch's shards together.
    #[cfg(feature = "models")]
    Merge(merge::MergeArguments),
    /// Recompute the digests and the verdict of a report.
    Verify(verify::Arguments),
    /// Begin a policy, check it, or explain its rules.
    Policy(policy::Arguments),
    /// Continue a prompt with the base or the adapted model.
    #[cfg(feature = "models")]
    Generate(generate::Arguments),
    /// Teach a model with expert traces and write an adapter.
    #[cfg(feature = "models")]
    Train(Box<train::Arguments>),
    /// Measure accuracy on problems and perplexity on a text.
    #[cfg(feature = "models")]
    Eval(eval::Arguments),
    /// Show the rollouts of a training run on one page.
    #[cfg(feature = "models")]
    Rollouts(rollouts::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let status = if error.use_stderr() { Status::Usage } else { Status::Done };
            if error.use_stderr() {
                terminal::usage(&error.render().to_string());
            } else {
                // Nothing is left to do where not even the terminal can be written to.
                let _ = error.print();
            }
            return status.into();
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("LCR_AUDIT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    memory::keep_freed();
    let terminal = Terminal::new(arguments.json, arguments.quiet);
    match run(arguments, &terminal) {
        Ok(status) => status.into(),
        Err(error) => {
            terminal.error(&error);
            Status::of_error(&error).into()
        }
    }
}

fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Status> {
    start_threads(arguments.threads)?;
    match arguments.command {
        #[cfg(feature = "models")]
        Command::Compare(arguments) => compare::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Capture(arguments) => capture::run(&arguments, terminal),
        Command::Inspect(arguments) => inspect::run(&arguments, terminal),
        Command::Scan(arguments) => scan::run(&arguments, terminal),
        Command::Gate(arguments) => gate::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Batch(arguments) => batch::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Calibrate(arguments) => calibrate::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Selftest(arguments) => selftest::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Merge(arguments) => merge::run(&arguments, terminal),
        Command::Verify(arguments) => verify::run(&arguments, terminal),
        Command::Policy(arguments) => policy::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Generate(arguments) => generate::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Train(arguments) => train::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Eval(arguments) => eval::run(&arguments, terminal),
        #[cfg(feature = "models")]
        Command::Rollouts(arguments) => rollouts::run(&arguments, terminal),
    }
}

/// Starts the threads that are asked for, or one per core; where the system has none left, this one works alone.
fn start_threads(asked: Option<u16>) -> anyhow::Result<()> {
    let count = asked.map_or(0, usize::from);
    let started = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    match started {
        Err(_) if asked.is_none() => {
            Ok(rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?)
        }
        started => started.context("cannot start the threads of --threads"),
    }
}
