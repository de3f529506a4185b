//! What the zoo is made of: a sound adapter with the means to spoil it, raw tensor files, files too long for memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Stored, write_tensors};

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
/// Inputs and outputs of every module.
pub(crate) const WIDTH: usize = 64;
/// Rank of every module.
pub(crate) const RANK: usize = 4;
pub(crate) const QUERY: &str = "base_model.model.model.layers.0.self_attn.q_proj";

/// An adapter before it is written.
pub(crate) struct Made {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

impl Made {
    pub(crate) fn write(&self, at: &Path) {
        write(at, CONFIG, self.config.to_string());
        write_tensors(at.join(TENSORS), &self.tensors);
    }

    /// Sets one factor of a module.
    pub(crate) fn set(&mut self, name: &str, shape: &[usize], values: impl IntoIterator<Item = f32>) {
        self.tensors.insert(name.to_owned(), Stored::f32(shape, values));
    }
}

/// Two layers of query and value, nothing wrong with them.
pub(crate) fn sound() -> Made {
    layered(2, &["self_attn.q_proj", "self_attn.v_proj"], RANK)
}

/// Some layers of some modules.
pub(crate) fn layered(layers: usize, kinds: &[&str], rank: usize) -> Made {
    let targets: Vec<&str> = kinds.iter().map(|kind| kind.rsplit('.').next().unwrap_or(kind)).collect();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "none", "r": rank,
        "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
        "target_modules": targets, "init_lora_weights": true, "use_dora": false, "use_rslora": false,
    });
    let mut made = Made { config, tensors: BTreeMap::new() };
    for layer in 0..layers {
        for (index, kind) in kinds.iter().enumerate() {
            let seed = (layer * kinds.len() + index) as u64 * 2 + 1;
            let module = path(layer, kind);
            made.set(&format!("{module}.lora_A.weight"), &[rank, WIDTH], noise(seed, rank * WIDTH));
            made.set(&format!("{module}.lora_B.weight"), &[WIDTH, rank], noise(seed + 1, rank * WIDTH));
        }
    }
    made
}

/// A module's path in the file.
pub(crate) fn path(layer: usize, kind: &str) -> String {
    format!("base_model.model.model.layers.{layer}.{kind}")
}

/// Numbers that look random and are the same everywhere.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 0.05 * (0..6).map(|_| next()).sum::<f32>()).collect()
}

/// A sound adapter, with one more file in it.
pub(crate) fn beside(at: &Path, name: &str, content: impl AsRef<[u8]>) {
    sound().write(at);
    write(at, name, content);
}

/// A sound adapter whose config was edited.
pub(crate) fn configured(at: &Path, edit: impl FnOnce(&mut Value)) {
    let mut made = sound();
    edit(&mut made.config);
    made.write(at);
}

/// A sound adapter with one setting changed.
pub(crate) fn setting(at: &Path, key: &str, value: Value) {
    configured(at, |config| config[key] = value);
}

/// Writes a file, and the folders above it.
pub(crate) fn write(at: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = at.join(name);
    fs_err::create_dir_all(path.parent().expect("a folder")).expect("created");
    fs_err::write(path, content).expect("written");
}

/// A sound config beside a tensor file of this header and data.
pub(crate) fn raw(at: &Path, header: impl AsRef<[u8]>, data: &[u8]) {
    claimed(at, header.as_ref().len() as u64, header.as_ref(), data);
}

/// The same with another length claimed for the header.
pub(crate) fn claimed(at: &Path, length: u64, header: &[u8], data: &[u8]) {
    write(at, CONFIG, sound().config.to_string());
    write(at, TENSORS, [&length.to_le_bytes(), header, data].concat());
}

/// One tensor's entry of a header.
pub(crate) fn entry(name: &str, dtype: &str, shape: &str, from: i64, to: i64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// A header of these entries.
pub(crate) fn header(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

/// A file of a beginning, a part many times over and an end, written in pieces: the maker's memory stays small.
pub(crate) fn repeated(at: &Path, name: &str, [start, part, end]: [&[u8]; 3], times: usize) {
    written(at, name, |file| {
        file.write_all(start).expect("written");
        (0..times).for_each(|_| file.write_all(part).expect("written"));
        file.write_all(end).expect("written");
    });
}

/// A file that is written piece by piece.
pub(crate) fn written(at: &Path, name: &str, make: impl FnOnce(&mut dyn Write)) {
    let path = at.join(name);
    fs_err::create_dir_all(path.parent().expect("a folder")).expect("created");
    let mut file = std::io::BufWriter::new(fs_err::File::create(path).expect("created"));
    make(&mut file);
    file.flush().expect("written");
}

/// A file of a beginning and a hole up to `length`, which takes no room.
pub(crate) fn sparse(at: &Path, name: &str, start: &[u8], length: u64) {
    write(at, name, start);
    let file = fs_err::OpenOptions::new().write(true).open(at.join(name)).expect("opened");
    file.set_len(length).expect("a file system with sparse files");
}
