//! Speed and memory of `compare` on a random model of a real shape.
//!
//! `cargo run --release --example benchmark -- qwen3-0.6b` makes the model (bf16) and an adapter under
//! `target/benchmark`, runs the audit on 4 × 256 random tokens, once with the metrics that the usual script computes
//! and once with all, and prints phases, peak memory, and the forward pass beside the bare f32 matrix products that it
//! contains. With `--peer 'python3 peer_compare.py'` that command runs on the same files in the same run (arguments:
//! BASE ADAPTER TOKENS.json bf16) and the ratio is printed.

mod audited;
mod measured;
mod random_model;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use self::audited::{RandomAdapter, audit_program, make_tokens};
use self::measured::{Measured, measure, say};
use self::random_model::{HEAD_DIM, Shape, VOCABULARY, make_base};

/// Metrics that the usual script computes at the same sites.
const SCRIPT_METRICS: &str = "cka,procrustes,subspace,spectrum,tokens";

/// Rank of the adapter.
const RANK: usize = 16;
/// Seed of the adapter.
const ADAPTER_SEED: u64 = 0x1234_5678_9ABC_DEF1;

#[derive(Debug, Parser)]
struct Arguments {
    /// qwen3-0.6b, qwen3-1.7b or qwen3-4b.
    shape: String,
    /// Prompts.
    #[arg(long, default_value_t = 4)]
    prompts: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Make a DoRA adapter in place of a LoRA.
    #[arg(long)]
    dora: bool,
    /// Adapted modules.
    #[arg(long, value_delimiter = ',', default_value = "q_proj,v_proj")]
    targets: Vec<String>,
    /// Another program to run on the same files.
    #[arg(long)]
    peer: Option<String>,
    /// Skip the run with all metrics.
    #[arg(long)]
    script_metrics_only: bool,
    /// Where the models are kept.
    #[arg(long, default_value = "target/benchmark")]
    folder: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shape = Shape::named(&arguments.shape)?;
    let base = arguments.folder.join(&arguments.shape);
    let kind = if arguments.dora { "dora" } else { "lora" };
    let adapter = arguments.folder.join(format!("{}-{kind}-{}", arguments.shape, arguments.targets.join("-")));
    let tokens = arguments.folder.join(format!("tokens-{}x{}.json", arguments.prompts, arguments.tokens));
    if !base.join("config.json").exists() {
        say(&format!("making {}", base.display()))?;
        make_base(&base, shape)?;
    }
    let (dora, targets) = (arguments.dora, arguments.targets.as_slice());
    RandomAdapter { shape, rank: RANK, dora, targets, seed: ADAPTER_SEED }.make(&adapter)?;
    make_tokens(&tokens, arguments.prompts, arguments.tokens)?;
    let program = audit_program()?;
    let files = [base.as_os_str(), adapter.as_os_str()];
    let out = arguments.folder.join("report");
    let audit = |metrics: Option<&str>| {
        let mut command = Command::new(&program);
        command.arg("compare").args(files).arg("--tokens").arg(&tokens).arg("--out").arg(&out);
        if let Some(metrics) = metrics {
            command.args(["--metrics", metrics]);
        }
        measure(command)
    };
    let same = audit(Some(SCRIPT_METRICS))?;
    say(&format!("same sites and metrics as the script: {same}"))?;
    report_products(&same, shape, &arguments)?;
    if arguments.script_metrics_only {
        compare_with_peer(&arguments, &files, &tokens, &[("same", &same)])?;
    } else {
        let all = audit(None)?;
        say(&format!("everything:                           {all}"))?;
        compare_with_peer(&arguments, &files, &tokens, &[("same", &same), ("everything", &all)])?;
    }
    Ok(())
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mebibytes = |bytes: u64| bytes / (1 << 20);
        let phases = self.output.lines().rfind(|line| line.contains("forward")).unwrap_or_default();
        write!(
            f,
            "{:.1} s, peak {} MiB anonymous, {} MiB resident ({phases})",
            self.wall.as_secs_f64(),
            mebibytes(self.anonymous),
            mebibytes(self.resident)
        )
    }
}

fn compare_with_peer(
    arguments: &Arguments,
    files: &[&std::ffi::OsStr; 2],
    tokens: &Path,
    runs: &[(&str, &Measured)],
) -> Result<()> {
    let Some(peer) = &arguments.peer else { return Ok(()) };
    let mut words = peer.split_whitespace();
    let mut command = Command::new(words.next().context("--peer is empty")?);
    command.args(words).args(files).arg(tokens).arg("bf16");
    let peer = measure(command)?;
    let mebibytes = peer.resident / (1 << 20);
    say(&format!("peer: {:.1} s, peak {mebibytes} MiB resident", peer.wall.as_secs_f64()))?;
    for (name, run) in runs {
        let (time, memory) =
            (run.wall.as_secs_f64() / peer.wall.as_secs_f64(), run.resident as f64 / peer.resident as f64);
        say(&format!("{name}: {:.0} % of the peer's time, {:.0} % of its memory", 100.0 * time, 100.0 * memory))?;
    }
    Ok(())
}

/// The forward pass beside its matrix products alone: same shapes, f32 weights that are already there.
fn report_products(run: &Measured, shape: Shape, arguments: &Arguments) -> Result<()> {
    let rows = arguments.prompts * arguments.tokens;
    let branches = 2;
    let mut bare = Duration::ZERO;
    for (_, outputs, inputs) in shape.linears() {
        bare += product_time(rows, inputs, outputs) * (branches * shape.layers) as u32;
    }
    bare += product_time(rows, shape.width, VOCABULARY / 16) * (16 * branches) as u32;
    // Scores and their product with the values, for every head of every prompt; half of each square is masked.
    let heads = arguments.prompts * shape.heads * branches * shape.layers;
    bare += product_time(arguments.tokens, HEAD_DIM, arguments.tokens) * heads as u32;
    let forward =
        run.output.split(" · ").find_map(|part| part.strip_prefix("forward ")?.strip_suffix(" s")?.parse::<f64>().ok());
    if let Some(forward) = forward {
        let bare = bare.as_secs_f64();
        say(&format!("forward {forward:.1} s, its bare f32 products {bare:.1} s: {:.2}×", forward / bare))?;
    }
    Ok(())
}

/// Median of three f32 products `[rows, inputs] × [inputs, outputs]` on all cores.
fn product_time(rows: usize, inputs: usize, outputs: usize) -> Duration {
    let tensor = |rows: usize, columns: usize| {
        candle_core::Tensor::ones((rows, columns), candle_core::DType::F32, &candle_core::Device::Cpu)
    };
    let (Ok(x), Ok(weight)) = (tensor(rows, inputs), tensor(outputs, inputs)) else { return Duration::ZERO };
    let mut times: Vec<Duration> = (0..3)
        .map(|_| {
            let started = Instant::now();
            let product = weight.t().and_then(|weight| x.matmul(&weight));
            std::hint::black_box(product.ok());
            started.elapsed()
        })
        .collect();
    times.sort();
    times[1]
}
