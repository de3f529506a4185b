//! Speed and memory of a training step's gradient on a random model of a real shape.
//!
//! `cargo run --release --example gradient_benchmark -- qwen3-0.6b` makes the model (bf16) under `target/benchmark` and
//! differentiates `--sequences` of `--tokens` random tokens through a fresh adapter, every token weighted and then the
//! share `--weighted`; each in a process of its own, so that the peaks are its own. With `--peer 'python3
//! peer_train.py'` that command runs in the same run (arguments: BASE METHOD TOKENS; one JSON line with `best` seconds
//! on standard output).

mod measured;
mod random_model;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Parser;
use lcr_model::decoder::Decoder;
use lcr_train::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter};
use lcr_train::step::gradient::{Example, Trace};

use self::measured::{Measured, measure, say};
use self::random_model::{Noise, Shape, VOCABULARY, make_base};

#[derive(Debug, Parser)]
struct Arguments {
    /// qwen3-0.6b, qwen3-1.7b or qwen3-4b.
    shape: String,
    /// Sequences.
    #[arg(long, default_value_t = 1)]
    sequences: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    /// Share of the tokens that carry weight in the second run.
    #[arg(long, default_value_t = 0.1)]
    weighted: f64,
    /// lora, rslora or dora.
    #[arg(long, default_value = "dora")]
    method: String,
    /// Rank of the adapter.
    #[arg(long, default_value_t = 4)]
    rank: usize,
    /// Adapted modules.
    #[arg(long, value_delimiter = ',', default_value = "q_proj,v_proj")]
    targets: Vec<String>,
    /// Times that each gradient is taken; the best counts.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Another program to run on the same model.
    #[arg(long)]
    peer: Option<String>,
    /// Where the models are kept.
    #[arg(long, default_value = "target/benchmark")]
    folder: PathBuf,
    /// Take the gradient with this share weighted in this process and print seconds: what the benchmark runs itself
    /// with.
    #[arg(long, hide = true)]
    alone: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shape = Shape::named(&arguments.shape)?;
    let base = arguments.folder.join(&arguments.shape);
    if let Some(share) = arguments.alone {
        return differentiate(&arguments, &base, share);
    }
    if !base.join("config.json").exists() {
        say(&format!("making {}", base.display()))?;
        make_base(&base, shape)?;
    }
    let all = own_run(1.0)?;
    report("every token weighted", &all)?;
    report(&format!("{:.0} % weighted", 100.0 * arguments.weighted), &own_run(arguments.weighted)?)?;
    compare_with_peer(&arguments, &base, &all)
}

/// This program again, on the gradient alone.
fn own_run(share: f64) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--alone").arg(share.to_string());
    measure(command)
}

/// Best seconds among those that a run printed.
fn seconds(run: &Measured) -> Result<f64> {
    let field = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok()?.get("best")?.as_f64();
    run.output.lines().rev().find_map(field).with_context(|| format!("no seconds in {}", run.output))
}

fn report(name: &str, run: &Measured) -> Result<()> {
    let mebibytes = |bytes: u64| bytes / (1 << 20);
    say(&format!(
        "{name}: {:.2} s ({:.1} s with start and repeats), peak {} MiB anonymous, {} MiB resident",
        seconds(run)?,
        run.wall.as_secs_f64(),
        mebibytes(run.anonymous),
        mebibytes(run.resident)
    ))
}

fn compare_with_peer(arguments: &Arguments, base: &Path, own: &Measured) -> Result<()> {
    let Some(peer) = &arguments.peer else { return Ok(()) };
    if arguments.sequences != 1 {
        bail!("the other program takes one sequence: leave --sequences out");
    }
    let mut words = peer.split_whitespace();
    let mut command = Command::new(words.next().context("--peer is empty")?);
    command.args(words).arg(base).arg(&arguments.method).arg(arguments.tokens.to_string());
    let peer = measure(command)?;
    report("peer", &peer)?;
    let share = |own: u64, peer: u64| 100.0 * own as f64 / peer as f64;
    say(&format!(
        "{:.0} % of the peer's time, {:.0} % of its anonymous and {:.0} % of its resident memory",
        100.0 * seconds(own)? / seconds(&peer)?,
        share(own.anonymous, peer.anonymous),
        share(own.resident, peer.resident)
    ))
}

/// The measured work: the adapter's norms brought up to date, forward, back.
fn differentiate(arguments: &Arguments, base: &Path, share: f64) -> Result<()> {
    let decoder = Decoder::open(base, Device::Cpu)?;
    let method = match arguments.method.as_str() {
        "lora" => AdapterMethod::Lora,
        "rslora" => AdapterMethod::Rslora,
        "dora" => AdapterMethod::Dora,
        other => bail!("unknown method `{other}`; known: lora, rslora, dora"),
    };
    let (rank, target_modules) = (arguments.rank, arguments.targets.clone());
    let options = AdapterOptions { method, rank, alpha: 2.0 * rank as f64, target_modules, seed: 1 };
    let adapter = TrainableAdapter::new(&decoder, &options)?;
    let (examples, coefficients) = examples(arguments, share);
    let together = best(arguments.repeats, || {
        let variant = adapter.variant(&decoder);
        Trace::gradient(&decoder, &variant, &examples, |example, target, _, _| coefficients[example][target])?;
        Ok(())
    })?;
    let apart = best(arguments.repeats, || {
        let variant = adapter.variant(&decoder);
        Trace::forward(&decoder, &variant, &examples)?.backward(&coefficients)?;
        Ok(())
    })?;
    let (together, apart) = (together.as_secs_f64(), apart.as_secs_f64());
    say(&serde_json::json!({ "best": together, "forward_then_backward": apart }).to_string())
}

/// Random sequences, and a weight of one for the share of their tokens.
fn examples(arguments: &Arguments, share: f64) -> (Vec<Example>, Vec<Vec<f64>>) {
    let mut noise = Noise(77);
    let mut examples = Vec::new();
    let mut coefficients = Vec::new();
    for _ in 0..arguments.sequences {
        let tokens = (0..arguments.tokens).map(|_| (noise.next() % VOCABULARY as u64) as u32).collect();
        let targets: Vec<usize> = (1..arguments.tokens).collect();
        let weigh = |target: &usize| if (*target as f64 * share).fract() < share { 1.0 } else { 0.0 };
        coefficients.push(targets.iter().map(weigh).collect());
        examples.push(Example { tokens, targets });
    }
    (examples, coefficients)
}

fn best(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..repeats.max(1) {
        let started = Instant::now();
        work()?;
        best = best.min(started.elapsed());
    }
    Ok(best)
}
