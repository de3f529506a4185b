//! Speed of decoding: one sequence and several together, beside a plain read of the same bytes in the same run.
//!
//! `cargo run --release --example decode_benchmark -- qwen3-0.6b` makes a random model (bf16) under `target/benchmark`,
//! or `-- FOLDER` takes a model that is there. A round times a read of all weights by all cores and a few decoding
//! steps of 1, 2, 4 and 8 sequences; rounds alternate and the best of each counts, so that what else runs on the
//! machine disturbs all alike. `--peer 'python3 peer_train.py'` runs another program on the same files (arguments: BASE
//! decode) and reads `tok_per_s` from the JSON line that it prints.

mod random_model;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use lcr_formats::checkpoint::Weight;
use lcr_model::decoder::Decoder;
use lcr_model::session::{SequenceId, Session};
use rayon::prelude::*;

use self::random_model::{Shape, make_base};

#[derive(Debug, Parser)]
struct Arguments {
    /// qwen3-0.6b, qwen3-1.7b, qwen3-4b, or the folder of a model.
    model: String,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 32)]
    prompt: usize,
    /// Steps of decoding in a round, for each number of sequences.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Rounds.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Numbers of sequences.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    sequences: Vec<usize>,
    /// An adapter of the model.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Another program to run on the same files.
    #[arg(long)]
    peer: Option<String>,
    /// Where the models are kept.
    #[arg(long, default_value = "target/benchmark")]
    folder: PathBuf,
}

/// Sequences that go on together.
struct Group<'a> {
    session: Session<'a>,
    sequences: Vec<(SequenceId, u32)>,
    /// Best time of a step.
    best: Duration,
    /// Time of all steps.
    total: Duration,
    steps: u32,
}

impl<'a> Group<'a> {
    fn new(mut session: Session<'a>, count: usize, prompt: &[u32]) -> Result<Self> {
        let first = session.open();
        let logits = session.read(&[(first, prompt)])?;
        let token = largest(logits.first().context("no logits")?);
        // Forks of one prompt that part at once, as the rollouts of a group do.
        let mut sequences = vec![(first, token)];
        for index in 1..count {
            sequences.push((session.fork(first), token.saturating_sub(index as u32)));
        }
        Ok(Self { session, sequences, best: Duration::MAX, total: Duration::ZERO, steps: 0 })
    }

    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let tokens: Vec<[u32; 1]> = self.sequences.iter().map(|(_, token)| [*token]).collect();
        let requests: Vec<(SequenceId, &[u32])> =
            self.sequences.iter().zip(&tokens).map(|((id, _), token)| (*id, &token[..])).collect();
        let logits = self.session.read(&requests)?;
        let time = started.elapsed();
        self.best = self.best.min(time);
        self.total += time;
        self.steps += 1;
        for ((_, token), logits) in self.sequences.iter_mut().zip(&logits) {
            *token = largest(logits);
        }
        Ok(())
    }
}

fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1));
    best.map_or(0, |(index, _)| index as u32)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let base = folder(&arguments)?;
    let decoder = Decoder::open(&base, candle_core::Device::Cpu)?;
    let variant = match &arguments.adapter {
        Some(adapter) => Some(decoder.bind(lcr_formats::adapter::Adapter::open(adapter)?)?),
        None => None,
    };
    let weights: Vec<&[u8]> = decoder.checkpoint().tensors().map(Weight::bytes).collect();
    let bytes: usize = weights.iter().map(|bytes| bytes.len()).sum();
    let prompt: Vec<u32> =
        (0..arguments.prompt.max(1)).map(|i| (i * 7919 % decoder.config().vocab_size) as u32).collect();
    let mut groups = arguments
        .sequences
        .iter()
        .map(|count| Group::new(Session::new(&decoder, variant.as_ref()), (*count).max(1), &prompt))
        .collect::<Result<Vec<_>>>()?;
    let mut read = Duration::MAX;
    for _ in 0..arguments.rounds {
        read = read.min(read_time(&weights));
        for group in &mut groups {
            (0..arguments.steps).try_for_each(|_| group.step())?;
        }
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let gigabytes = bytes as f64 / 1e9;
    let rate = gigabytes / read.as_secs_f64();
    let threads = rayon::current_num_threads();
    say(&format!(
        "weights {gigabytes:.3} GB, plain read {:.2} ms ({rate:.1} GB/s, {threads} threads)",
        milliseconds(read)
    ))?;
    let mut alone = None;
    for group in &groups {
        let count = group.sequences.len();
        let speed = count as f64 / group.best.as_secs_f64();
        let alone = *alone.get_or_insert(speed / count as f64);
        let ratio = group.best.as_secs_f64() / read.as_secs_f64();
        let gain = speed / alone;
        let time = milliseconds(group.best);
        say(&format!(
            "{count:>2} together: {time:.3} ms per step, {speed:.1} tokens/s, {ratio:.2}× the plain read, {gain:.2}× \
             the first"
        ))?;
    }
    if let (Some(peer), Some(group)) = (&arguments.peer, groups.first()) {
        let theirs = peer_speed(peer, &base)?;
        // The mean of all steps: the peer's figure is a mean too.
        let ours = f64::from(group.steps) * group.sequences.len() as f64 / group.total.as_secs_f64();
        say(&format!("peer: {theirs:.2} tokens/s; ours, on average: {ours:.2}, {:.2}× that", ours / theirs))?;
    }
    Ok(())
}

fn folder(arguments: &Arguments) -> Result<PathBuf> {
    let given = PathBuf::from(&arguments.model);
    if given.join("config.json").exists() {
        return Ok(given);
    }
    let base = arguments.folder.join(&arguments.model);
    if !base.join("config.json").exists() {
        let shape = Shape::named(&arguments.model)?;
        say(&format!("making {}", base.display()))?;
        make_base(&base, shape)?;
    }
    Ok(base)
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Time in which all cores sum up the bytes, eight at a time.
fn read_time(weights: &[&[u8]]) -> Duration {
    const TASK_BYTES: usize = 1 << 18;
    let started = Instant::now();
    let sum: u64 = weights
        .par_iter()
        .flat_map(|bytes| bytes.par_chunks(TASK_BYTES))
        .map(|task| {
            let mut sums = [0u64; 16];
            for chunk in task.chunks_exact(128) {
                for (sum, word) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                    *sum = sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap_or_default()));
                }
            }
            sums.into_iter().fold(0, u64::wrapping_add)
        })
        .reduce(|| 0, u64::wrapping_add);
    std::hint::black_box(sum);
    started.elapsed()
}

fn peer_speed(peer: &str, base: &Path) -> Result<f64> {
    let mut words = peer.split_whitespace();
    let mut command = Command::new(words.next().context("--peer is empty")?);
    let output = command.args(words).arg(base).arg("decode").stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rfind(|line| line.starts_with('{')).context("the peer printed no JSON line")?;
    let value: serde_json::Value = serde_json::from_str(line)?;
    value["tok_per_s"].as_f64().context("the peer's JSON line has no number `tok_per_s`")
}
