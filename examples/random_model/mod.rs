//! Random models of real shapes, for the benchmarks: Qwen3's layout in bf16.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
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

/// Seed of the bases.
const BASE_SEED: u64 = 0x1234_5678_9ABC_DEF1;

/// Streams tensors into a safetensors file: normal values of the deviation that stands beside each, or `fill` where
/// that is zero. The seed must not be zero.
pub(crate) fn write_tensors(
    path: &Path,
    dtype: &str,
    tensors: &[(String, Vec<usize>, f32)],
    fill: f32,
    seed: u64,
) -> Result<()> {
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
    let mut noise = Noise(seed);
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
    write_tensors(&folder.join("model.safetensors"), "BF16", &tensors, 1.0, BASE_SEED)?;
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
