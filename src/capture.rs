//! `lcr-audit capture`: the activations themselves, in a safetensors file.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::Args;
use lcr_analysis::lockstep::Lockstep;
use lcr_documents::write::Aside;
use lcr_model::decoder::{BoundAdapter, SiteKind, with_values};

use crate::exit::Status;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::terminal::Terminal;

/// Rows of logits that are computed at once.
const LOGIT_ROWS: usize = 64;

/// Arguments of `capture`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit capture models/Qwen3-0.6B --probes prompts.txt --out acts.safetensors
  lcr-audit capture models/Qwen3-0.6B my-adapter --tokens ids.json --sites resid,logits --out acts.safetensors

Tensors are f32, named base.resid.0, adapted.attn_out.3, base.logits, …, of shape [prompts, positions, width].
Prompts of different lengths are padded with zeros at the end; `lengths` [prompts] says how long each is.")]
pub(crate) struct Arguments {
    /// Folder of the base model.
    base: PathBuf,
    /// Folder of an adapter.
    adapter: Option<PathBuf>,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to write: resid, attn_out, mlp_out, q, k, v, logits.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "resid,attn_out,mlp_out,logits")]
    sites: Vec<SiteKind>,
    #[command(flatten)]
    probes: ProbeArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let model = Model::open(&arguments.base, arguments.device.device)?;
    let probes = arguments.probes.load(&model, terminal)?;
    let variant = match &arguments.adapter {
        Some(folder) => Some(model.adapt(folder, terminal)?),
        None => None,
    };
    let variants: Vec<&BoundAdapter> = variant.iter().collect();
    let mut file = ActivationFile::create(&arguments.out, &probes.prompts)?;
    file.tokens(&probes.prompts)?;
    let mut lockstep = Lockstep::start(&model.decoder, &probes.prompts, &variants, &arguments.sites)?;
    let names = ["base", "adapted"];
    let layers = model.decoder.layers().len();
    let mut progress = terminal.progress();
    let mut done = 0;
    while let Some(step) = lockstep.advance()? {
        for (site, branches) in step.captured {
            for (index, name) in names.iter().enumerate().take(1 + variants.len()) {
                file.activations(&format!("{name}.{site}"), branches.model(index))?;
            }
        }
        done += 1;
        progress.update("layers", done.min(layers), layers);
    }
    if arguments.sites.contains(&SiteKind::Logits) {
        let vocab_size = model.decoder.config().vocab_size;
        for (index, name) in names.iter().enumerate().take(1 + variants.len()) {
            file.begin(&format!("{name}.logits"), vocab_size);
            for (first, count) in file.blocks(LOGIT_ROWS) {
                file.rows(first, lockstep.logits(first, count)?.model(index))?;
            }
            file.end()?;
        }
    }
    drop(progress);
    let tensors = file.finish()?;
    terminal.note(&format!("{}: {tensors} tensors", arguments.out.display()));
    if terminal.json() {
        terminal.document(&serde_json::json!({ "out": arguments.out, "tensors": tensors }))?;
    }
    Ok(Status::Done)
}

/// A safetensors file that grows tensor by tensor. Data goes to a temporary file first, since the header, which stands
/// before it, is complete only at the end; the result replaces an older file in one step.
struct ActivationFile {
    target: PathBuf,
    data: BufWriter<std::fs::File>,
    header: serde_json::Map<String, serde_json::Value>,
    written: u64,
    /// First row and length of each prompt.
    prompts: Vec<(usize, usize)>,
    longest: usize,
    current: (String, usize, Vec<f32>),
}

impl ActivationFile {
    fn create(target: &Path, prompts: &[Vec<u32>]) -> Result<Self> {
        let folder = folder_of(target);
        let data = tempfile::tempfile_in(folder).with_context(|| format!("cannot write in {}", folder.display()))?;
        let mut first = 0;
        let spans = prompts
            .iter()
            .map(|prompt| {
                let span = (first, prompt.len());
                first += prompt.len();
                span
            })
            .collect();
        Ok(Self {
            target: target.to_path_buf(),
            data: BufWriter::new(data),
            header: serde_json::Map::new(),
            written: 0,
            prompts: spans,
            longest: prompts.iter().map(Vec::len).max().unwrap_or(0),
            current: (String::new(), 0, Vec::new()),
        })
    }

    fn entry(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<()> {
        self.data.write_all(bytes)?;
        let end = self.written + bytes.len() as u64;
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [self.written, end] });
        self.header.insert(name.to_owned(), entry);
        self.written = end;
        Ok(())
    }

    /// The ids that were read, and the length of each prompt.
    fn tokens(&mut self, prompts: &[Vec<u32>]) -> Result<()> {
        let padded = prompts.iter().flat_map(|prompt| {
            let ids = prompt.iter().map(|id| i64::from(*id));
            ids.chain(std::iter::repeat_n(0, self.longest - prompt.len()))
        });
        let bytes: Vec<u8> = padded.flat_map(i64::to_le_bytes).collect();
        self.entry("input_ids", "I64", &[prompts.len(), self.longest], &bytes)?;
        let lengths: Vec<u8> = prompts.iter().flat_map(|prompt| (prompt.len() as i64).to_le_bytes()).collect();
        self.entry("lengths", "I64", &[prompts.len()], &lengths)
    }

    /// One tensor from rows `[tokens, width]` of all prompts.
    fn activations(&mut self, name: &str, rows: &Tensor) -> Result<()> {
        self.begin(name, rows.dim(1)?);
        self.rows(0, rows)?;
        self.end()
    }

    fn begin(&mut self, name: &str, width: usize) {
        self.current = (name.to_owned(), width, vec![0.0; self.prompts.len() * self.longest * width]);
    }

    /// Rows from `first` on, laid where their prompts want them.
    fn rows(&mut self, first: usize, rows: &Tensor) -> Result<()> {
        let (_, width, padded) = &mut self.current;
        let width = *width;
        with_values(&rows.to_device(&Device::Cpu)?, |values| {
            for (offset, row) in values.chunks_exact(width).enumerate() {
                let at = first + offset;
                let prompt = self.prompts.partition_point(|(start, _)| *start <= at) - 1;
                let place = prompt * self.longest + at - self.prompts[prompt].0;
                padded[place * width..(place + 1) * width].copy_from_slice(row);
            }
        })?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (name, width, padded) = std::mem::take(&mut self.current);
        let bytes: Vec<u8> = padded.into_iter().flat_map(f32::to_le_bytes).collect();
        self.entry(&name, "F32", &[self.prompts.len(), self.longest, width], &bytes)
    }

    /// All rows in blocks of at most `size`: first row and number.
    fn blocks(&self, size: usize) -> Vec<(usize, usize)> {
        let rows: usize = self.prompts.iter().map(|(_, length)| length).sum();
        (0..rows).step_by(size).map(|first| (first, size.min(rows - first))).collect()
    }

    fn finish(self) -> Result<usize> {
        let tensors = self.header.len();
        let mut header = serde_json::to_vec(&self.header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut data = self.data.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        data.seek(SeekFrom::Start(0))?;
        if self.target.symlink_metadata().is_ok_and(|known| !known.is_file() && !known.is_symlink()) {
            bail!("{} is a folder or a device; --out names a file", self.target.display());
        }
        let context = || format!("cannot write {}", self.target.display());
        let mut whole = Aside::begin(&self.target).with_context(context)?;
        whole.write_all(&(header.len() as u64).to_le_bytes())?;
        whole.write_all(&header)?;
        std::io::copy(&mut data, &mut whole)?;
        whole.commit().with_context(context)?;
        Ok(tensors)
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
