//! What an adapter costs in a batch, and what it costs alone.
//!
//! `cargo run --release --example batch_benchmark -- qwen3-0.6b` makes a random model of that shape (bf16) and adapters
//! under `target/benchmark`, audits some of them one by one with `compare`, all of them with one `batch`, both with
//! every metric and every report, and prints the ratio per adapter. All adapters are of one shape, so a few single runs
//! stand for all.

mod audited;
mod measured;
mod random_model;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Parser;

use self::audited::{RandomAdapter, audit_program, make_tokens};
use self::measured::{Measured, measure, say};
use self::random_model::{Shape, make_base};

/// Rank of the adapters.
const RANK: usize = 16;

#[derive(Debug, Parser)]
struct Arguments {
    /// qwen3-0.6b, qwen3-1.7b or qwen3-4b.
    shape: String,
    /// Adapters of the batch.
    #[arg(long, default_value_t = 100)]
    adapters: usize,
    /// Adapters that are audited alone.
    #[arg(long, default_value_t = 3)]
    singles: usize,
    /// Adapters that go through the base together [default: the program's own].
    #[arg(long)]
    together: Option<usize>,
    /// Prompts.
    #[arg(long, default_value_t = 3)]
    prompts: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Make DoRA adapters in place of LoRA.
    #[arg(long)]
    dora: bool,
    /// Adapted modules.
    #[arg(long, value_delimiter = ',', default_value = "q_proj,v_proj")]
    targets: Vec<String>,
    /// Metrics to compute, as in `compare` [default: all].
    #[arg(long)]
    metrics: Option<String>,
    /// Where models and results are kept.
    #[arg(long, default_value = "target/benchmark")]
    folder: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.singles > 0 && arguments.singles <= arguments.adapters, "--singles must be from 1 to --adapters");
    let shape = Shape::named(&arguments.shape)?;
    let base = arguments.folder.join(&arguments.shape);
    if !base.join("config.json").exists() {
        say(&format!("making {}", base.display()))?;
        make_base(&base, shape)?;
    }
    let tokens = arguments.folder.join(format!("tokens-{}x{}.json", arguments.prompts, arguments.tokens));
    make_tokens(&tokens, arguments.prompts, arguments.tokens)?;
    let fleet = arguments.folder.join("fleet");
    let adapters = make_fleet(&arguments, shape, &fleet)?;

    let mut alone = 0.0;
    for adapter in adapters.iter().take(arguments.singles) {
        let run = audit(&arguments, "compare", &base, adapter, &tokens, "alone")?;
        say(&format!("alone:    {}", shown(&run)))?;
        alone += run.wall.as_secs_f64() / arguments.singles as f64;
    }
    let run = audit(&arguments, "batch", &base, &fleet, &tokens, "together")?;
    say(&format!("together: {}", shown(&run)))?;
    let each = run.wall.as_secs_f64() / arguments.adapters as f64;
    say(&format!(
        "{} adapters: {alone:.2} s each alone, {each:.2} s each together: {:.1} %",
        arguments.adapters,
        100.0 * each / alone
    ))
}

/// Writes the adapters into a folder that holds nothing else.
fn make_fleet(arguments: &Arguments, shape: Shape, fleet: &Path) -> Result<Vec<PathBuf>> {
    if fleet.exists() {
        std::fs::remove_dir_all(fleet)?;
    }
    let (dora, targets) = (arguments.dora, arguments.targets.as_slice());
    (0..arguments.adapters)
        .map(|index| {
            let folder = fleet.join(format!("adapter-{index:03}"));
            let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(index as u64 + 1);
            RandomAdapter { shape, rank: RANK, dora, targets, seed }.make(&folder)?;
            Ok(folder)
        })
        .collect()
}

/// One run of the program into a folder that is new.
fn audit(
    arguments: &Arguments,
    command: &str,
    base: &Path,
    adapters: &Path,
    tokens: &Path,
    out: &str,
) -> Result<Measured> {
    let out = arguments.folder.join(out);
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let mut program = Command::new(audit_program()?);
    program.arg(command).arg(base).arg(adapters).arg("--tokens").arg(tokens).arg("--out").arg(&out);
    if let Some(metrics) = &arguments.metrics {
        program.args(["--metrics", metrics]);
    }
    if let (Some(together), "batch") = (arguments.together, command) {
        program.arg("--adapters-per-pass").arg(together.to_string());
    }
    measure(program)
}

fn shown(run: &Measured) -> String {
    let mebibytes = |bytes: u64| bytes / (1 << 20);
    let phases = run.output.lines().rfind(|line| line.contains("forward")).unwrap_or_default();
    let memory = format!("{} MiB anonymous, {} MiB resident", mebibytes(run.anonymous), mebibytes(run.resident));
    format!("{:.1} s, peak {memory} ({phases})", run.wall.as_secs_f64())
}
