//! Configs of PEFT and MLX beside tensors that may belong to them: read, summed up, held against a base.
#![no_main]

use lcr_fuzz::Folder;
use lcr_fuzz::seeds::{WIDTH, adapter_tensors};
use lcr_formats::adapter::{Adapter, ModuleKind, TargetModule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let tensors = adapter_tensors(bytes);
    let files = [("adapter_config.json", bytes), ("adapter_model.safetensors", tensors.as_slice())];
    let Some(folder) = Folder::with(&files) else { return };
    if let Ok(adapter) = Adapter::open(folder.path()) {
        let summary = adapter.summary();
        assert_eq!(summary.tensors, adapter.tensors_in_file);
        if let Ok(coverage) = adapter.bind(&modules(), &shape) {
            assert_eq!(coverage.tensors, coverage.applied, "a tensor that changes nothing was accepted");
        }
    }
    folder.scans(None);
});

/// The modules of a base of two layers.
fn modules() -> Vec<TargetModule> {
    let linear = |path: String| TargetModule { path, inputs: WIDTH, outputs: WIDTH, kind: ModuleKind::Linear };
    let mut modules: Vec<TargetModule> = (0..2)
        .flat_map(|layer| ["q_proj", "k_proj", "v_proj"].map(|name| format!("model.layers.{layer}.self_attn.{name}")))
        .map(linear)
        .collect();
    modules.push(TargetModule { kind: ModuleKind::Head, ..linear("lm_head".to_owned()) });
    modules.push(TargetModule { kind: ModuleKind::Embedding, ..linear("model.embed_tokens".to_owned()) });
    modules
}

/// The shape of every tensor of that base.
fn shape(name: &str) -> Option<Vec<usize>> {
    name.ends_with(".weight").then(|| vec![WIDTH, WIDTH])
}
