//! Memory and time of one whole step of training on a random model of a real shape: a group's rollouts, the gradient,
//! AdamW.
//!
//! `cargo run --release --example step_benchmark -- qwen3-4b` makes the model (bf16) under `target/benchmark`. The
//! group is laid out as training lays it: one naked rollout, then the scaffolded ones together, into which an expert
//! chunk is fed; every one of them writes its whole thinking budget and an answer. A random model earns no reward, so
//! the weights of the tokens are given: the share `--weighted` of what was written. The work runs in a process of its
//! own, so that the peak of memory is its own.

mod measured;
mod random_model;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Parser;
use lcr_model::decoder::Decoder;
use lcr_model::sampling::{Sampler, SamplingOptions};
use lcr_model::session::{SequenceId, Session};
use lcr_train::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter};
use lcr_train::step::gradient::{Example, Trace};
use lcr_train::step::optimizer::{AdamW, OptimizerOptions};

use self::measured::{measure, say};
use self::random_model::{Noise, Shape, VOCABULARY, make_base};

#[derive(Debug, Parser)]
struct Arguments {
    /// qwen3-0.6b, qwen3-1.7b or qwen3-4b.
    shape: String,
    /// Rollouts of the group, the naked one included.
    #[arg(long, default_value_t = 3)]
    group: usize,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 64)]
    prompt: usize,
    /// Tokens that a rollout writes while it thinks.
    #[arg(long, default_value_t = 256)]
    thinking: usize,
    /// Tokens of its answer.
    #[arg(long, default_value_t = 16)]
    answer: usize,
    /// Tokens that the expert says in each scaffolded rollout.
    #[arg(long, default_value_t = 48)]
    expert: usize,
    /// Share of the written tokens that carry weight.
    #[arg(long, default_value_t = 0.2)]
    weighted: f64,
    /// Rank of the DoRA adapter.
    #[arg(long, default_value_t = 4)]
    rank: usize,
    /// Adapted modules.
    #[arg(long, value_delimiter = ',', default_value = "q_proj,v_proj")]
    targets: Vec<String>,
    /// Where the models are kept.
    #[arg(long, default_value = "target/benchmark")]
    folder: std::path::PathBuf,
    /// Take the step in this process: what the benchmark runs itself with.
    #[arg(long, hide = true)]
    alone: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let base = arguments.folder.join(&arguments.shape);
    if arguments.alone {
        return step(&arguments, &base);
    }
    let shape = Shape::named(&arguments.shape)?;
    if !base.join("config.json").exists() {
        say(&format!("making {}", base.display()))?;
        make_base(&base, shape)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--alone");
    let run = measure(command)?;
    let mebibytes = |bytes: u64| bytes / (1 << 20);
    say(run.output.trim_end())?;
    say(&format!(
        "peak {} MiB anonymous, {} MiB resident, {:.1} s in all",
        mebibytes(run.anonymous),
        mebibytes(run.resident),
        run.wall.as_secs_f64()
    ))
}

fn step(arguments: &Arguments, base: &Path) -> Result<()> {
    let decoder = Decoder::open(base, Device::Cpu)?;
    let options = AdapterOptions {
        method: AdapterMethod::Dora,
        rank: arguments.rank,
        alpha: 2.0 * arguments.rank as f64,
        target_modules: arguments.targets.clone(),
        seed: 1,
    };
    let mut adapter = TrainableAdapter::new(&decoder, &options)?;
    let variant = adapter.variant(&decoder);

    let started = Instant::now();
    let mut session = Session::new(&decoder, Some(&variant));
    let mut noise = Noise(77);
    let prompt = random_tokens(&mut noise, arguments.prompt);
    let expert = random_tokens(&mut noise, arguments.expert);
    let first = session.open();
    let logits = session.read(&[(first, &prompt)])?.pop().context("no logits")?;
    let mut writers: Vec<Writer> = (0..arguments.group)
        .map(|member| Writer::new(session.fork(first), &prompt, logits.clone(), member as u64))
        .collect::<Result<_>>()?;
    session.close(first);
    let (naked, scaffolded) = writers.split_first_mut().context("an empty group")?;
    write(&mut session, std::slice::from_mut(naked), arguments.thinking + arguments.answer)?;
    for writer in &mut *scaffolded {
        writer.hear(&mut session, &expert)?;
    }
    write(&mut session, scaffolded, arguments.thinking + arguments.answer)?;
    drop(session);
    let rollouts = started.elapsed();

    let started = Instant::now();
    let examples: Vec<Example> =
        writers.into_iter().map(|writer| Example { tokens: writer.tokens, targets: writer.written }).collect();
    let weigh =
        |target: usize| if (target as f64 * arguments.weighted).fract() < arguments.weighted { 1.0 } else { 0.0 };
    let coefficients: Vec<Vec<f64>> =
        examples.iter().map(|example| example.targets.iter().map(|target| weigh(*target)).collect()).collect();
    let tokens: usize = examples.iter().map(|example| example.tokens.len()).sum();
    let gradient = Trace::forward(&decoder, &variant, &examples)?.backward(&coefficients)?;
    let backward = started.elapsed();

    let started = Instant::now();
    let sizes: Vec<usize> = adapter.parameters().map(|(_, values)| values.len()).collect();
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &sizes)?;
    let gradients: Vec<&[f32]> = gradient.slices().collect();
    let mut parameters: Vec<&mut [f32]> = adapter.parameters_mut().map(|(_, values)| values).collect();
    let report = optimizer.step(&mut parameters, &gradients, 1e-4)?;
    drop(adapter.variant(&decoder));
    say(&format!(
        "rollouts {:.1} s, gradient of {tokens} tokens {:.1} s, optimiser and norms {:.1} s, gradient norm {:.3e}",
        rollouts.as_secs_f64(),
        backward.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        report.gradient_norm
    ))
}

/// A rollout that is being written.
struct Writer {
    sequence: SequenceId,
    /// Everything in its context.
    tokens: Vec<u32>,
    /// Positions of what it wrote itself.
    written: Vec<usize>,
    /// After its last token.
    logits: Vec<f32>,
    sampler: Sampler,
}

impl Writer {
    fn new(sequence: SequenceId, prompt: &[u32], logits: Vec<f32>, seed: u64) -> Result<Self> {
        let sampler = Sampler::new(SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() })?;
        Ok(Self { sequence, tokens: prompt.to_vec(), written: Vec::new(), logits, sampler })
    }

    fn hear(&mut self, session: &mut Session, chunk: &[u32]) -> Result<()> {
        self.tokens.extend_from_slice(chunk);
        self.logits = session.read(&[(self.sequence, chunk)])?.pop().context("no logits")?;
        Ok(())
    }
}

/// Lets all writers go on together.
fn write(session: &mut Session, writers: &mut [Writer], tokens: usize) -> Result<()> {
    for _ in 0..tokens {
        for writer in &mut *writers {
            let drawn = writer.sampler.sample(&writer.logits)?.token;
            writer.written.push(writer.tokens.len());
            writer.tokens.push(drawn);
        }
        let requests: Vec<(SequenceId, &[u32])> =
            writers.iter().map(|writer| (writer.sequence, &writer.tokens[writer.tokens.len() - 1..])).collect();
        let logits = session.read(&requests)?;
        for (writer, logits) in writers.iter_mut().zip(logits) {
            writer.logits = logits;
        }
    }
    Ok(())
}

fn random_tokens(noise: &mut Noise, count: usize) -> Vec<u32> {
    (0..count).map(|_| (noise.next() % VOCABULARY as u64) as u32).collect()
}
