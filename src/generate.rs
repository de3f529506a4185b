//! `lcr-audit generate`: continue a prompt with the base or the adapted model.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lcr_formats::chat_template::ChatMessage;
use lcr_model::generate::{Generation, Stop};
use lcr_model::sampling::{Sampler, SamplingOptions};

use crate::exit::Status;
use crate::model::{DeviceArguments, Model};
use crate::terminal::Terminal;

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit generate bundled/stories260K --prompt 'Once upon a time'
  lcr-audit generate bundled/stories260K bundled/dragons --prompt 'Once upon a time' --temperature 0.8 --seed 7")]
pub(crate) struct Arguments {
    /// Folder of the model.
    model: PathBuf,
    /// Folder of an adapter.
    adapter: Option<PathBuf>,
    /// What to continue.
    #[arg(long)]
    prompt: String,
    /// Tokens to write at most.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token every time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Choose among this many likeliest tokens.
    #[arg(long, value_name = "COUNT")]
    top_k: Option<usize>,
    /// Choose among the likeliest tokens that hold this share of the probability.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Do not apply the tokenizer's chat template.
    #[arg(long, visible_alias = "raw")]
    no_chat_template: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let options = SamplingOptions {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        seed: arguments.seed,
    };
    let mut sampler = Sampler::new(options)?;
    let model = Model::open(&arguments.model, arguments.device.device)?;
    let tokenizer = model.tokenizer.as_ref().with_context(|| {
        format!(
            "{} has no tokenizer.json, so a prompt cannot be read. Add the model's tokenizer.json",
            arguments.model.display()
        )
    })?;
    let variant = match &arguments.adapter {
        Some(folder) => Some(model.adapt(folder, terminal)?),
        None => None,
    };
    let prompt = if tokenizer.has_chat_template() && !arguments.no_chat_template {
        tokenizer.encode_chat(&[ChatMessage::user(&arguments.prompt)])?
    } else {
        tokenizer.encode(&arguments.prompt, true)?
    };
    let limit = arguments.max_new_tokens;
    let mut generation = Generation::start(&model.decoder, variant.as_ref(), &prompt, tokenizer.stop_tokens(), limit)?;
    let mut written = Vec::new();
    let mut shown = 0;
    let stop = loop {
        let token = match generation.advance(&mut sampler)? {
            Ok(token) => token,
            Err(stop) => break stop,
        };
        written.push(token);
        if !terminal.json() {
            // Whole characters only: a token may end inside one.
            let text = tokenizer.decode(&written)?;
            if let Some(fresh) = text.get(shown..).filter(|fresh| !fresh.ends_with('\u{FFFD}')) {
                terminal.stream(fresh)?;
                shown = text.len();
            }
        }
    };
    if terminal.json() {
        let stop = match stop {
            Stop::EndOfSequence => "end_of_sequence",
            Stop::Length => "length",
            Stop::Context => "context",
        };
        terminal.document(&serde_json::json!({
            "prompt": arguments.prompt,
            "prompt_tokens": prompt,
            "text": tokenizer.decode(&written)?,
            "tokens": written,
            "stop": stop,
            "seed": arguments.seed,
        }))?;
    } else {
        terminal.stream("\n")?;
    }
    Ok(Status::Done)
}
