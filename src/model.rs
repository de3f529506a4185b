//! Opening what the command line names: base, adapters, tokenizer, probes, device.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::tokenizer::Tokenizer;

use crate::probes::{LoadedProbes, ProbeOptions, ProbeSource, load};
use crate::provenance::{is_pinned, pin_base};
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
    /// What both models read: a built-in set (general, math, identity, refusal, truth), a `.txt` file with one prompt
    /// per line, or a `.jsonl` file with `prompt` or chat `messages` a line.
    #[arg(long, value_name = "NAME|FILE", default_value = "general", conflicts_with = "tokens")]
    pub(crate) probes: String,

    /// A JSON array of equally long arrays of token ids, instead of text; no tokenizer is needed then.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,

    /// Do not apply the tokenizer's chat template.
    #[arg(long, visible_alias = "raw")]
    pub(crate) no_chat_template: bool,

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
            no_chat_template: self.no_chat_template,
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
    folder: PathBuf,
    /// What its files were before anything was read of them.
    files: Vec<Stood>,
}

/// A file at a moment: what the system changes when somebody writes to it or puts another in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stood {
    name: OsString,
    /// Device, number, length and time of the last writing.
    content: (u64, u64, u64, (i64, i64)),
    /// Time of the last change of anything, the names of the file included.
    changed: (i64, i64),
}

/// The files of a base that pins are made of.
fn files_of(folder: &Path) -> Result<Vec<Stood>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(is_pinned) {
            continue;
        }
        // A link that leads nowhere is no file of the base.
        let Ok(known) = std::fs::metadata(entry.path()) else { continue };
        files.push(Stood {
            name,
            content: (known.dev(), known.ino(), known.size(), (known.mtime(), known.mtime_nsec())),
            changed: (known.ctime(), known.ctime_nsec()),
        });
    }
    files.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(files)
}

impl Model {
    pub(crate) fn open(folder: &Path, device: Device) -> Result<Self> {
        let context = || format!("cannot open the base model {}", folder.display());
        // A folder that is none is the decoder's to explain.
        let files = if folder.is_dir() { files_of(folder).with_context(context)? } else { Vec::new() };
        let decoder = Decoder::open(folder, device.open()?).with_context(context)?;
        let tokenizer = Tokenizer::open(folder)?;
        Ok(Self { decoder, tokenizer, folder: folder.to_owned(), files })
    }

    /// Refuses a base whose files are not what they were when it was opened: numbers would be of one, and the digest of
    /// another. `pinned` is the digest that reports name.
    pub(crate) fn refuse_changed(&self, pinned: Option<&str>) -> Result<()> {
        let folder = self.folder.display();
        let now = files_of(&self.folder)?;
        let is_same = |(before, after): (&Stood, &Stood)| before.name == after.name && before.content == after.content;
        let changed = self.files.iter().zip(&now).find(|pair| !is_same(*pair));
        if changed.is_some() || now.len() != self.files.len() {
            let name = changed.map_or_else(String::new, |(_, after)| format!(": {}", after.name.display()));
            bail!(
                "files of the base {folder} were changed during the run{name}. Let nobody write there, and run it again"
            );
        }
        // A further name of a file, a backup's say, is no change; a writing whose time was set back is.
        let is_touched = now != self.files;
        if is_touched && pinned.is_some() && pin_base(&self.folder, true)?.sha256.as_deref() != pinned {
            bail!(
                "the base {folder} was changed during the run: its digest is another one. Let nobody write there, and \
                 run it again"
            );
        }
        Ok(())
    }

    /// The folder that it was opened from.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens an adapter and fits it to this model.
    pub(crate) fn adapt(&self, folder: &Path, terminal: &Terminal) -> Result<BoundAdapter> {
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
                "{}: a classification head, which this language model does not have, is set aside ({}); the rest is \
                 audited",
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
                "{}: the config targets {} modules that the file holds no tensors for (first: {first}); they stay as \
                 in the base",
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
