//! What the benchmarks of the audit run: the program, random adapters of real shapes, random token ids.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::random_model::{Noise, Shape, VOCABULARY, write_tensors};

/// The program under test, beside this one.
pub(crate) fn audit_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.ancestors().nth(2).context("no folder above")?.join("lcr-audit");
    if !program.exists() {
        bail!("{} is missing: run `cargo build --release` first", program.display());
    }
    Ok(program)
}

/// An adapter to be made.
pub(crate) struct RandomAdapter<'a> {
    pub(crate) shape: Shape,
    pub(crate) rank: usize,
    /// A DoRA adapter in place of a LoRA.
    pub(crate) dora: bool,
    /// Last parts of the names of the adapted modules.
    pub(crate) targets: &'a [String],
    pub(crate) seed: u64,
}

impl RandomAdapter<'_> {
    /// Writes it in PEFT's layout.
    pub(crate) fn make(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut tensors = Vec::new();
        for layer in 0..self.shape.layers {
            for (name, outputs, inputs) in self.shape.linears() {
                if !self.targets.iter().any(|target| name.ends_with(target.as_str())) {
                    continue;
                }
                let path = format!("base_model.model.model.layers.{layer}.{name}");
                tensors.push((format!("{path}.lora_A.weight"), vec![self.rank, inputs], 0.02));
                tensors.push((format!("{path}.lora_B.weight"), vec![outputs, self.rank], 0.01));
                if self.dora {
                    tensors.push((format!("{path}.lora_magnitude_vector"), vec![outputs], 0.0));
                }
            }
        }
        // A row of W has norm 0.02·√width; a hundredth more makes every row longer.
        let magnitude = 0.02 * (self.shape.width as f32).sqrt() * 1.01;
        write_tensors(&folder.join("adapter_model.safetensors"), "F32", &tensors, magnitude, self.seed)?;
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": self.rank, "lora_alpha": 2 * self.rank,
            "lora_dropout": 0.0, "bias": "none", "target_modules": self.targets, "use_dora": self.dora
        });
        std::fs::write(folder.join("adapter_config.json"), serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }
}

/// Random token ids as `--tokens` takes them.
pub(crate) fn make_tokens(path: &Path, prompts: usize, tokens: usize) -> Result<()> {
    let mut noise = Noise(77);
    let ids: Vec<Vec<u64>> =
        (0..prompts).map(|_| (0..tokens).map(|_| noise.next() % VOCABULARY as u64).collect()).collect();
    std::fs::write(path, serde_json::to_vec(&ids)?)?;
    Ok(())
}
