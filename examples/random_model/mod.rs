//! Random models of real shapes, and what a program that runs on them takes: shared by the benchmarks.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
}

pub(crate) const VOCABULARY: usize = 151_936;
pub(crate) const HEAD_DIM: usize = 128;

impl Shape {
    pub(crate) fn named(name: &str) -> Result<Self> {
        let shape =
            |width, intermediate, layers, heads, kv_heads| Self { width, intermediate, layers, heads, kv_heads };
        Ok(match name {
            "qwen3-0.6b" => shape(1024, 3072, 28, 16, 8),
            "qwen3-1.7b" => shape(2048, 6144, 28, 16, 8),
            "qwen3-4b" => shape(2560, 9728, 36, 32, 8),
            _ => bail!("unknown shape `{name}`; known: qwen3-0.6b, qwen3-1.7b, qwen3-4b"),
        })
    }

    /// Linear modules of a layer: path in the layer, outputs, inputs.
    pub(crate) fn linears(&self) -> [(&'static str, usize, usize); 7] {
        let (queries, keys) = (self.heads * HEAD_DIM, self.kv_heads * HEAD_DIM);
        [
            ("self_attn.q_proj", queries, self.width),
            ("self_attn.k_proj", keys, self.width),
            ("self_attn.v_proj", keys, self.width),
            ("self_attn.o_proj", self.width, queries),
            ("mlp.gate_proj", self.intermediate, self.width),
            ("mlp.up_proj", self.intermediate, self.width),
            ("mlp.down_proj", self.width, self.intermediate),
        ]
    }
}

/// Writes a line on standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// One finished run of a program.
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// Peak of anonymous memory, bytes.
    pub(crate) anonymous: u64,
    /// Peak of all resident memory, mapped files included, bytes.
    pub(crate) resident: u64,
    /// What it wrote on standard output, then on standard error.
    pub(crate) output: String,
}

/// Runs a program to its end and watches its memory.
pub(crate) fn measure(mut command: Command) -> Result<Measured> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let notes = collect(child.stderr.take().context("no standard error")?);
    let output = collect(child.stdout.take().context("no standard output")?);
    let (anonymous, resident) = watch(&mut child)?;
    let status = child.wait()?;
    let wall = started.elapsed();
    let text = |reader: std::thread::JoinHandle<std::io::Result<String>>| {
        reader.join().map_err(|_| anyhow::anyhow!("reading what it wrote failed"))
    };
    let output = text(output)?? + &text(notes)??;
    if !status.success() {
        bail!("{command:?} failed: {output}");
    }
    Ok(Measured { wall, anonymous, resident, output })
}

/// Reads a stream to its end on a thread of its own.
fn collect(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<std::io::Result<String>> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    })
}

/// Peaks of a process's memory, sampled every ten milliseconds; the kernel's own high-water mark closes the gaps.
fn watch(child: &mut Child) -> Result<(u64, u64)> {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (mut anonymous, mut resident) = (0, 0);
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
        };
        anonymous = anonymous.max(field("RssAnon:").unwrap_or(0));
        resident = resident.max(field("VmHWM:").unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((anonymous, resident))
}

/// A generator that is fast enough to fill gigabytes.
pub(crate) struct Noise(pub u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About normal with this deviation: the sum of four uniform values.
    fn normal(&mut self, deviation: f32) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|part| ((bits >> (16 * part)) & 0xFFFF) as f32 / 65536.0 - 0.5).sum();
        sum * deviation * 1.732
    }
}

/// Streams tensors into a safetensors file.
pub(crate) fn write_tensors(path: &Path, dtype: &str, tensors: &[(String, Vec<usize>, f32)], fill: f32) -> Result<()> {
    let size = if dtype == "BF16" { 2 } else { 4 };
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape, _) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * size;
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    let mut noise = Noise(0x1234_5678_9ABC_DEF1);
    for (_, shape, deviation) in tensors {
        for _ in 0..shape.iter().product::<usize>() {
            let value = if *deviation == 0.0 { fill } else { noise.normal(*deviation) };
            if size == 2 {
                file.write_all(&((value.to_bits() >> 16) as u16).to_le_bytes())?;
            } else {
                file.write_all(&value.to_le_bytes())?;
            }
        }
    }
    file.flush()?;
    Ok(())
}

pub(crate) fn make_base(folder: &Path, shape: Shape) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, shape.width], 0.02)];
    for layer in 0..shape.layers {
        let prefix = format!("model.layers.{layer}");
        for (name, outputs, inputs) in shape.linears() {
            tensors.push((format!("{prefix}.{name}.weight"), vec![outputs, inputs], 0.02));
        }
        for (name, length) in [
            ("input_layernorm", shape.width),
            ("post_attention_layernorm", shape.width),
            ("self_attn.q_norm", HEAD_DIM),
            ("self_attn.k_norm", HEAD_DIM),
        ] {
            tensors.push((format!("{prefix}.{name}.weight"), vec![length], 0.0));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![shape.width], 0.0));
    write_tensors(&folder.join("model.safetensors"), "BF16", &tensors, 1.0)?;
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": shape.width,
        "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "hidden_act": "silu",
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "tie_word_embeddings": true,
        "attention_bias": false, "torch_dtype": "bfloat16"
    });
    std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(())
}
