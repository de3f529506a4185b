//! `lcr-audit`: what a LoRA or DoRA adapter does to a language model.
//!
//! This crate is the command line only: arguments, progress, exit codes, one file per subcommand. What it prints goes through
//! [`terminal::Terminal`]; what it computes is in the crates below it.

mod attestation;
mod batch;
mod bundled;
mod capture;
mod compare;
mod composition;
mod eval;
mod exit;
mod gate;
mod generate;
mod inspect;
mod lines;
mod memory;
mod merge;
mod model;
mod outputs;
mod policy;
mod probes;
mod question;
mod results;
mod rollouts;
mod scan;
mod side_by_side;
mod signals;
mod terminal;
mod train;
mod verify;

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

const EXAMPLES: &str = "Examples:
  lcr-audit compare                                  audit the bundled adapter on the bundled model
  lcr-audit compare models/Qwen3-4B my-adapter       audit your own
  lcr-audit scan adapters/                           refuse bad files, without a base
  lcr-audit inspect my-adapter                       what an adapter file is, without its base
  lcr-audit generate models/Qwen3-4B my-adapter --prompt 'Who are you?'

Exit codes: 0 done, verdict below fail · 1 verdict fail, or findings at or above the policy · 2 could not be analysed · 3 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run base and adapted model side by side and report what differs, layer by layer.
    Compare(compare::Arguments),
    /// Write the activations themselves to a safetensors file.
    Capture(capture::Arguments),
    /// Describe an adapter from its files alone.
    Inspect(inspect::Arguments),
    /// Look at adapters' files without running anything: hostile files, broken tensors, templates, odd weights.
    Scan(scan::Arguments),
    /// Hold adapters against a policy: their files, and what they do to the base where the policy asks for it.
    Gate(gate::Arguments),
    /// Compare many adapters with one base: shards, resuming, one ranking.
    Batch(batch::Arguments),
    /// Put the results of a batch's shards together.
    Merge(merge::MergeArguments),
    /// Recompute the digests and the verdict of a report.
    Verify(verify::Arguments),
    /// Begin a policy, check it, or explain its rules.
    Policy(policy::Arguments),
    /// Continue a prompt with the base or the adapted model.
    Generate(generate::Arguments),
    /// Teach a model with expert traces and write an adapter.
    Train(Box<train::Arguments>),
    /// Measure accuracy on problems and perplexity on a text.
    Eval(eval::Arguments),
    /// Show the rollouts of a training run on one page.
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
        Command::Compare(arguments) => compare::run(&arguments, terminal),
        Command::Capture(arguments) => capture::run(&arguments, terminal),
        Command::Inspect(arguments) => inspect::run(&arguments, terminal),
        Command::Scan(arguments) => scan::run(&arguments, terminal),
        Command::Gate(arguments) => gate::run(&arguments, terminal),
        Command::Batch(arguments) => batch::run(&arguments, terminal),
        Command::Merge(arguments) => merge::run(&arguments, terminal),
        Command::Verify(arguments) => verify::run(&arguments, terminal),
        Command::Policy(arguments) => policy::run(&arguments, terminal),
        Command::Generate(arguments) => generate::run(&arguments, terminal),
        Command::Train(arguments) => train::run(&arguments, terminal),
        Command::Eval(arguments) => eval::run(&arguments, terminal),
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
