//! Opening what the command line names: base, adapters, tokenizer, probes, device.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lcr_model::adapter::Adapter;
use lcr_model::decoder::{Decoder, Variant};
use lcr_model::tokenizer::Tokenizer;

use crate::probes::{LoadedProbes, ProbeOptions, ProbeSource, load};
use crate::terminal::Terminal;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU; needs a build with `--features cuda`.
    Cuda,
    /// An Apple GPU; needs a build with `--features metal`.
    Metal,
}

impl Device {
    fn open(self) -> Result<candle_core::Device> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => Ok(candle_core::Device::new_cuda(0)?),
            Self::Metal if cfg!(feature = "metal") => Ok(candle_core::Device::new_metal(0)?),
            Self::Cuda => bail!(
                "this build computes on the processor only; build it with `cargo build --release --features cuda`"
            ),
            Self::Metal => {
                bail!(
                    "this build computes on the processor only; build it with `cargo build --release --features metal`"
                )
            }
        }
    }
}

/// Arguments of every command that runs a model.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) device: Device,
}

/// Arguments that say what the models read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Probes")]
pub(crate) struct ProbeArguments {
    /// What both models read: a built-in set (general, math, identity, refusal, truth), a `.txt` file with a prompt a line, or
    /// a `.jsonl` file with `prompt` or chat `messages` a line.
    #[arg(long, value_name = "NAME|FILE", default_value = "general", conflicts_with = "tokens")]
    pub(crate) probes: String,

    /// A JSON array of equally long arrays of token ids, instead of text; no tokenizer is needed then.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,

    /// Do not apply the tokenizer's chat template.
    #[arg(long)]
    pub(crate) raw: bool,

    /// Read this many prompts at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_prompts: Option<usize>,

    /// Read this many tokens of each prompt at most.
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    pub(crate) max_tokens: usize,
}

impl ProbeArguments {
    /// Reads the probes for a model.
    pub(crate) fn load(&self, model: &Model, terminal: &Terminal) -> Result<LoadedProbes> {
        let source = match &self.tokens {
            Some(path) => ProbeSource::Tokens(path.clone()),
            None => ProbeSource::parse(&self.probes)?,
        };
        let config = model.decoder.config();
        let options = ProbeOptions {
            raw: self.raw,
            max_prompts: self.max_prompts,
            max_tokens: if self.tokens.is_some() { usize::MAX } else { self.max_tokens.min(config.max_positions) },
            vocab_size: config.vocab_size,
        };
        let probes = load(&source, model.tokenizer.as_ref(), options)?;
        if probes.truncated > 0 {
            terminal.warn(&format!(
                "{} of {} prompts were cut to {} tokens (--max-tokens)",
                probes.truncated,
                probes.prompts.len(),
                options.max_tokens
            ));
        }
        Ok(probes)
    }
}

/// A base model with its tokenizer, if it has one.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Option<Tokenizer>,
}

impl Model {
    pub(crate) fn open(folder: &Path, device: Device) -> Result<Self> {
        let decoder = Decoder::open(folder, device.open()?)
            .with_context(|| format!("cannot open the base model {}", folder.display()))?;
        let tokenizer = Tokenizer::open(folder)?;
        Ok(Self { decoder, tokenizer })
    }

    /// Opens an adapter and fits it to this model.
    pub(crate) fn adapt(&self, folder: &Path, terminal: &Terminal) -> Result<Variant> {
        let context = || format!("cannot use the adapter {}", folder.display());
        let adapter = Adapter::open(folder).with_context(context)?;
        for note in &adapter.notes {
            terminal.warn(&format!("{}: {note}", folder.display()));
        }
        let variant = self.decoder.bind(adapter).with_context(context)?;
        let coverage = variant.coverage();
        terminal.note(&format!("{}: {} of {} tensors applied", folder.display(), coverage.applied, coverage.tensors));
        if !coverage.set_aside.is_empty() {
            terminal.warn(&format!(
                "{}: a classification head, which this language model does not have, is set aside ({}); the rest is audited",
                folder.display(),
                coverage.set_aside.join(", ")
            ));
        }
        for table in &coverage.vocabulary {
            terminal.warn(&format!("{}: {}", folder.display(), table.describe()));
        }
        let missing = &coverage.targeted_without_tensors;
        if let Some(first) = missing.first() {
            terminal.warn(&format!(
                "{}: the config targets {} modules that the file holds no tensors for (first: {first}); they stay as in the base",
                folder.display(),
                missing.len()
            ));
        }
        if coverage.set_aside.is_empty() && variant.is_zero_effect(&self.decoder) {
            terminal.warn(&format!(
                "{}: this adapter changes nothing: every change that it holds is zero",
                folder.display()
            ));
        }
        Ok(variant)
    }
}
