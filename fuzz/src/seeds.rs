//! Small sound files, to stand beside the one that is fuzzed.

use std::fmt::Write;

/// A tokenizer of four words.
pub const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
    "added_tokens": [
        {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
         "special": true}
    ],
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
    "model": {"type": "WordLevel", "vocab": {"<s>": 0, "<unk>": 1, "a": 2, "user": 3}, "unk_token": "<unk>"}
}"#;

/// A config of PEFT for [`adapter_tensors`].
pub const CONFIG: &str = r#"{
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "use_dora": false,
    "target_modules": ["q_proj", "v_proj"], "modules_to_save": null, "task_type": "CAUSAL_LM"
}"#;

/// Rank of the adapters made here.
pub const RANK: usize = 2;
/// Inputs and outputs of every module made here.
pub const WIDTH: usize = 4;

/// A safetensors file of f32 tensors with values around zero.
pub fn safetensors(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let mut header = String::from("{");
    let mut data = Vec::new();
    for (name, shape) in tensors {
        let start = data.len();
        for index in 0..shape.iter().product::<usize>() {
            data.extend(((index % 5) as f32 * 0.25 - 0.4).to_le_bytes());
        }
        let comma = if header.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            header,
            r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        );
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &data].concat()
}

/// Tensors of an adapter of two layers that a config with these bytes may describe: MLX's or PEFT's, with magnitudes or
/// a whole head where the config speaks of them.
pub fn adapter_tensors(config: &[u8]) -> Vec<u8> {
    let names = |word: &str| config.windows(word.len()).any(|window| window == word.as_bytes());
    let is_mlx = names("lora_parameters");
    let is_dora = names("\"use_dora\": true") || names("\"dora\"");
    let mut tensors = Vec::new();
    for layer in 0..2 {
        for module in ["q_proj", "v_proj"] {
            let path = format!("model.layers.{layer}.self_attn.{module}");
            if is_mlx {
                tensors.push((format!("{path}.lora_a"), vec![WIDTH, RANK]));
                tensors.push((format!("{path}.lora_b"), vec![RANK, WIDTH]));
            } else {
                tensors.push((format!("base_model.model.{path}.lora_A.weight"), vec![RANK, WIDTH]));
                tensors.push((format!("base_model.model.{path}.lora_B.weight"), vec![WIDTH, RANK]));
            }
            match (is_dora, is_mlx) {
                (true, true) => tensors.push((format!("{path}.m"), vec![WIDTH])),
                (true, false) => {
                    tensors.push((format!("base_model.model.{path}.lora_magnitude_vector"), vec![WIDTH]));
                }
                _ => {}
            }
        }
    }
    if names("lm_head") {
        tensors.push(("base_model.model.lm_head.weight".to_owned(), vec![WIDTH, WIDTH]));
    }
    if names("embed_tokens") {
        tensors.push(("base_model.model.model.embed_tokens.lora_embedding_A".to_owned(), vec![RANK, WIDTH]));
        tensors.push(("base_model.model.model.embed_tokens.lora_embedding_B".to_owned(), vec![WIDTH, RANK]));
    }
    safetensors(&tensors)
}
