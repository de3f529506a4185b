//! Files that are an adapter, or look like one, in a format that is not read here: which it is, and the way out.
//!
//! Whoever gives such a file has nothing wrong with it, and asking for a config that its format does not have helps
//! nobody. A format is told by the first bytes of the file, or by the names of all its tensors; nothing is converted
//! and no pickle is opened.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::AdapterError;
use super::peft::PREFIX;
use crate::checkpoint::SafetensorsFile;

/// First bytes of a file that are looked at: a GGUF file says in them what it is.
const GLANCE_BYTES: u64 = 64 << 10;
/// Files of a folder that are looked at.
const MOST_FILES: usize = 64;
/// Longest header that is read to tell a format, bytes.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// A format that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// `lora_unet_…`, `lora_te_…` with `lora_down` and `lora_up`.
    Kohya,
    /// `hada_…`, `lokr_…` in kohya's naming.
    Lycoris,
    /// `unet.…`, `transformer.transformer_blocks.…`.
    Diffusers,
    /// `lora_down`/`lora_up` or `lora.down`/`lora.up` on modules of no known image model.
    DownUp,
    /// `<module>.A` and `<module>.B`.
    MlxVlmTensors,
    /// `prompt_embeddings`.
    Prompt,
    /// Weights of a whole model.
    WholeModel,
    /// GGUF that says `general.type = adapter`.
    GgufAdapter,
    /// Any other GGUF.
    Gguf,
    /// LoRA of llama.cpp before GGUF.
    Ggla,
    /// A zip of numpy arrays.
    Npz,
    /// safetensors under the name of a pickle.
    MisnamedSafetensors,
}

impl Foreign {
    /// What it is, and what can be done with it.
    fn texts(self) -> (&'static str, &'static str) {
        const TEXT_MODELS: &str = "Only adapters of text models are read here, in the layouts of PEFT and mlx-lm";
        match self {
            Self::Kohya => (
                "a LoRA of an image model, kohya naming (lora_unet_…, lora_te_…, lora_down, lora_up), which has no \
                 adapter_config.json",
                TEXT_MODELS,
            ),
            Self::Lycoris => (
                "a LyCORIS network (LoHa, LoKr and relatives, kohya naming) of an image model, which has no \
                 adapter_config.json",
                TEXT_MODELS,
            ),
            Self::Diffusers => (
                "a LoRA of an image or video model as diffusers saves it (unet.…, transformer_blocks, to_q), which has \
                 no adapter_config.json",
                TEXT_MODELS,
            ),
            Self::DownUp => (
                "a LoRA in the naming of kohya and diffusers (lora_down and lora_up), which has no adapter_config.json",
                "If it belongs to a text model, rename its tensors to PEFT's (base_model.model.<module>.lora_A.weight \
                 for down, lora_B.weight for up) and write the adapter_config.json with rank and alpha",
            ),
            Self::MlxVlmTensors => (
                "an adapter of mlx-vlm's first layout (<module>.A and <module>.B)",
                "Train or save it again with mlx-vlm 0.7 or newer, which writes lora_a, lora_b and lora_parameters as \
                 mlx-lm does; adapters of the vision part cannot be compared with a text model",
            ),
            Self::Prompt => (
                "a learned prompt (prompt_embeddings): vectors put before the text, no change of weights",
                "There is nothing in it that could be compared with the base's weights",
            ),
            Self::WholeModel => (
                "a whole model, not an adapter: weights of layers, and no lora_A or lora_B",
                "Give the adapter that was trained; a full or merged model has to be judged as a model of its own",
            ),
            Self::GgufAdapter => (
                "a LoRA in GGUF, converted for llama.cpp",
                "Give the safetensors adapter that it was converted from (PEFT's adapter_model.safetensors with its \
                 adapter_config.json): convert_lora_to_gguf.py does not change that one",
            ),
            Self::Gguf => (
                "a model in GGUF (llama.cpp), not an adapter",
                "Give the adapter as PEFT saved it (adapter_model.safetensors and adapter_config.json), from before \
                 the conversion or merge",
            ),
            Self::Ggla => (
                "a LoRA in ggla, the format of llama.cpp before GGUF",
                "Give the safetensors adapter that it was converted from, with its adapter_config.json",
            ),
            Self::Npz => (
                "an archive of numpy arrays; adapters.npz is the layout of mlx-lm before 0.8",
                "Convert to safetensors, in the same folder: python -c 'import numpy; from safetensors.numpy import \
                 save_file; save_file(dict(numpy.load(\"adapters.npz\")), \"adapters.safetensors\")' (on a Mac: import \
                 mlx.core as mx; mx.save_safetensors(\"adapters.safetensors\", mx.load(\"adapters.npz\"))), then \
                 remove the archive",
            ),
            Self::MisnamedSafetensors => (
                "a safetensors file under the name of a pickle, which loaders would open as one",
                "Rename it to adapter_model.safetensors",
            ),
        }
    }

    /// The refusal of a file of this format.
    pub(crate) fn refusal(self, path: &Path) -> AdapterError {
        let (what, way_out) = self.texts();
        AdapterError::Foreign { path: path.to_path_buf(), what: what.to_owned(), way_out: way_out.to_owned() }
    }

    /// The format that the names of a file's tensors tell; `None` for those of PEFT and of mlx-lm, and for what nobody
    /// knows.
    pub(crate) fn of_names(names: &[&str]) -> Option<Self> {
        let any = |test: &dyn Fn(&str) -> bool| names.iter().any(|name| test(name));
        if any(&|name| name.starts_with(PREFIX)) || names.is_empty() {
            return None;
        }
        if any(&|name| [".hada_", ".lokr_", ".glora_"].iter().any(|mark| name.contains(mark))) {
            return Some(Self::Lycoris);
        }
        if any(&is_kohya) {
            return Some(Self::Kohya);
        }
        let is_adapter = any(&|name| name.to_lowercase().contains("lora"));
        if is_adapter && any(&is_image_module) {
            return Some(Self::Diffusers);
        }
        if any(&|name| {
            ["lora_down.", "lora_up.", "lora.down.", "lora.up.", "lora_linear_layer."]
                .iter()
                .any(|mark| name.contains(mark))
        }) {
            return Some(Self::DownUp);
        }
        if any(&|name| name == "prompt_embeddings") {
            return Some(Self::Prompt);
        }
        let ends = |end: &'static str| any(&move |name: &str| name.ends_with(end));
        if !is_adapter && ends(".A") && ends(".B") {
            return Some(Self::MlxVlmTensors);
        }
        (!is_adapter && any(&is_of_whole_model)).then_some(Self::WholeModel)
    }

    /// The format of a file, by its first bytes and, where it is a safetensors file, by its tensors' names.
    ///
    /// A file that cannot be read has none: whoever opens it says why.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let mut prefix = Vec::new();
        File::open(path).ok()?.take(GLANCE_BYTES).read_to_end(&mut prefix).ok()?;
        Self::of_content(&prefix).or_else(|| {
            if !is_safetensors(&prefix) {
                return None;
            }
            if has_extension(path, &PICKLE_EXTENSIONS) {
                return Some(Self::MisnamedSafetensors);
            }
            let file = SafetensorsFile::open_within(path, MAX_HEADER_BYTES).ok()?;
            Self::of_names(&file.tensors().iter().map(crate::checkpoint::Weight::name).collect::<Vec<&str>>())
        })
    }

    fn of_content(prefix: &[u8]) -> Option<Self> {
        match () {
            () if prefix.starts_with(b"GGUF") && says_adapter(prefix) => Some(Self::GgufAdapter),
            () if prefix.starts_with(b"GGUF") => Some(Self::Gguf),
            () if prefix.starts_with(b"ggla") || prefix.starts_with(b"algg") => Some(Self::Ggla),
            () if is_npz(prefix) => Some(Self::Npz),
            () => None,
        }
    }

    /// The first file of a folder whose format is known and not read here, and that format.
    pub(crate) fn in_folder(folder: &Path) -> Option<(PathBuf, Self)> {
        let entries = std::fs::read_dir(folder).ok()?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| has_extension(path, &TENSOR_EXTENSIONS))
            .collect();
        paths.sort();
        let mut files = paths.into_iter().take(MOST_FILES).filter(|path| path.is_file());
        files.find_map(|path| Self::of_file(&path).map(|format| (path, format)))
    }
}

/// Extensions of files that hold tensors, in one format or another.
const TENSOR_EXTENSIONS: [&str; 9] = ["safetensors", "gguf", "ggml", "npz", "bin", "pt", "pth", "ckpt", "pkl"];
/// Extensions that promise a pickle.
pub(crate) const PICKLE_EXTENSIONS: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// Whether a path ends in one of some extensions.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(|found| found.to_string_lossy().to_lowercase());
    extension.is_some_and(|found| extensions.contains(&found.as_str()))
}

/// kohya's names are one flattened path, `lora_unet_down_blocks_0_…`, before the first dot.
fn is_kohya(name: &str) -> bool {
    let Some((module, rest)) = name.split_once('.') else { return false };
    let flattened = ["lora_unet_", "lora_te", "lora_prior_", "lora_transformer_", "lora_lm_", "lycoris_"]
        .iter()
        .any(|start| module.starts_with(start));
    flattened && (rest.starts_with("lora_") || ["alpha", "dora_scale", "diff", "diff_b"].contains(&rest))
}

/// Whether a name is that of a module of an image or video model.
pub(crate) fn is_image_module(name: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["unet.", "text_encoder.", "text_encoder_2.", "text_encoder_3.", "diffusion_model."];
    const SEGMENTS: [&str; 14] = [
        "down_blocks",
        "up_blocks",
        "mid_block",
        "transformer_blocks",
        "single_transformer_blocks",
        "double_blocks",
        "single_blocks",
        "joint_blocks",
        "input_blocks",
        "middle_block",
        "output_blocks",
        "processor",
        "to_q",
        "to_out",
    ];
    BEGINNINGS.iter().any(|start| name.starts_with(start)) || name.split('.').any(|part| SEGMENTS.contains(&part))
}

/// Whether a path runs through the part of a model that sees or hears, which no text model has.
pub(crate) fn is_of_senses(path: &str) -> bool {
    const SEGMENTS: [&str; 14] = [
        "vision_tower",
        "vision_model",
        "vision_encoder",
        "visual",
        "image_encoder",
        "img_processor",
        "vpm",
        "resampler",
        "multi_modal_projector",
        "mm_projector",
        "vision_embed_tokens",
        "audio_tower",
        "audio_encoder",
        "speech_encoder",
    ];
    path.split('.').any(|part| SEGMENTS.contains(&part))
}

/// Whether a name is that of a weight of a language model.
fn is_of_whole_model(name: &str) -> bool {
    const SEGMENTS: [&str; 6] = ["layers", "h", "blocks", "embed_tokens", "wte", "lm_head"];
    let is_parameter = name.rsplit('.').next().is_some_and(|last| ["weight", "bias"].contains(&last));
    is_parameter && name.split('.').any(|part| SEGMENTS.contains(&part))
}

/// A header's length that fits a file, then a JSON object.
fn is_safetensors(prefix: &[u8]) -> bool {
    let Some((length, rest)) = prefix.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) < 1 << 40 && rest.trim_ascii_start().starts_with(b"{")
}

/// A zip archive whose first member is an array of numpy.
fn is_npz(prefix: &[u8]) -> bool {
    // The name of the first member stands 30 bytes in, its length 26 bytes in.
    let Some([low, high]) = prefix.get(26..28).filter(|_| prefix.starts_with(b"PK\x03\x04")) else { return false };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    prefix.get(30..30 + length).is_some_and(|name| name.ends_with(b".npy"))
}

/// Whether the metadata of a GGUF file say `general.type = "adapter"`: the key, 8 for a text, its length, the text.
fn says_adapter(prefix: &[u8]) -> bool {
    const FIELD: &[u8] = b"general.type\x08\0\0\0\x07\0\0\0\0\0\0\0adapter";
    prefix.windows(FIELD.len()).any(|window| window == FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<Foreign> {
        Foreign::of_names(names)
    }

    #[test]
    fn formats_are_told_by_their_names() {
        let kohya = [
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha",
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.dora_scale",
            "lora_unet_double_blocks_0_img_attn_qkv.lora_mid.weight",
        ];
        for name in kohya {
            assert_eq!(of(&[name]), Some(Foreign::Kohya), "{name}");
        }
        let diffusers = [
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight",
            "unet.up_blocks.1.attentions.0.proj_in.lora_A.weight",
            "unet.mid_block.attentions.0.processor.to_q_lora.up.weight",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
            "transformer.single_transformer_blocks.7.attn.to_k.lora_A.weight",
            "transformer.transformer_blocks.0.attn.to_out.0.lora_B.weight",
            "diffusion_model.blocks.0.self_attn.q.lora_down.weight",
        ];
        for name in diffusers {
            assert_eq!(of(&[name]), Some(Foreign::Diffusers), "{name}");
        }
        assert_eq!(of(&["lora_unet_a_b.hada_w1_a"]), Some(Foreign::Lycoris));
        assert_eq!(of(&["lycoris_a_b.lokr_w1"]), Some(Foreign::Lycoris));
        assert_eq!(of(&["model.layers.0.q_proj.lora_down.weight"]), Some(Foreign::DownUp));
        assert_eq!(of(&["prompt_embeddings"]), Some(Foreign::Prompt));
        assert_eq!(of(&["m.q_proj.A", "m.q_proj.B"]), Some(Foreign::MlxVlmTensors));
        assert_eq!(of(&["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]), Some(Foreign::WholeModel));
        assert_eq!(of(&["transformer.h.0.attn.c_attn.bias"]), Some(Foreign::WholeModel));
    }

    #[test]
    fn formats_that_are_read_are_not_foreign() {
        let own = [
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "base_model.model.unet.down_blocks.0.to_q.lora_A.weight",
            "model.layers.0.self_attn.q_proj.lora_a",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
            "anything",
        ];
        for name in own {
            assert_eq!(of(&[name]), None, "{name}");
        }
        assert_eq!(of(&[]), None);
        // One of PEFT's names among strangers': PEFT's reader names the stranger.
        assert_eq!(of(&[own[0], "lora_unet_a.lora_down.weight"]), None);
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let gguf = |kind: &str| {
            let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
            bytes.extend(12u64.to_le_bytes());
            bytes.extend(b"general.type");
            bytes.extend(8u32.to_le_bytes());
            bytes.extend((kind.len() as u64).to_le_bytes());
            bytes.extend(kind.as_bytes());
            bytes
        };
        assert_eq!(Foreign::of_content(&gguf("adapter")), Some(Foreign::GgufAdapter));
        assert_eq!(Foreign::of_content(&gguf("model")), Some(Foreign::Gguf));
        assert_eq!(Foreign::of_content(b"algg\x01\0\0\0"), Some(Foreign::Ggla));
        let member = |name: &str| {
            let mut bytes = b"PK\x03\x04".to_vec();
            bytes.resize(26, 0);
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0, 0]);
            bytes.extend(name.as_bytes());
            bytes
        };
        assert_eq!(Foreign::of_content(&member("layer.lora_a.npy")), Some(Foreign::Npz));
        assert_eq!(Foreign::of_content(&member("archive/data.pkl")), None);
        assert_eq!(Foreign::of_content(b"\x80\x02ccollections"), None);
    }
}
