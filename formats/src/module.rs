//! A module's path, taken apart: the layer it is in, its kind, the expert it belongs to, and what it does with the
//! residual stream.
//!
//! The one place that knows these names: those of the [`families`](crate::families) that the decoder runs come from
//! there, and below stand those of models whose adapters are read though nothing runs them. A module of any other name
//! has no role: whoever leaves it out of a measure by role says so.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::families::FAMILIES;

/// A module or one of its tensors, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModulePath<'a> {
    /// The whole path, without `.weight` behind it.
    path: &'a str,
    /// Index of its layer; `None` outside the layers, as for the embedding.
    pub layer: Option<usize>,
    /// The last part of the path: `q_proj`.
    pub kind: &'a str,
    /// Index among the experts of its layer, where it is one.
    pub expert: Option<usize>,
}

impl<'a> ModulePath<'a> {
    /// Takes apart `model.layers.3.self_attn.q_proj`, with or without `.weight` behind it.
    pub fn parse(path: &'a str) -> Self {
        let path = path.strip_suffix(".weight").unwrap_or(path);
        let after_experts = path.split('.').skip_while(|part| *part != "experts").nth(1);
        Self {
            path,
            layer: path.split('.').find_map(|part| part.parse().ok()),
            kind: path.rsplit('.').next().unwrap_or(path),
            expert: after_experts.and_then(|part| part.parse().ok()),
        }
    }

    /// What it does with the residual stream; `None` of a module that no family known here has.
    pub fn role(&self) -> Option<StreamRole> {
        if self.kind.ends_with("norm") {
            return Some(StreamRole::Apart);
        }
        // Its kind alone, or with the part before it, where that decides.
        let parent = self.path.strip_suffix(self.kind).and_then(|rest| rest.strip_suffix('.')).unwrap_or_default();
        let pair = (parent.rsplit('.').next().unwrap_or_default(), self.kind);
        ROLES.get(&("", self.kind)).or_else(|| ROLES.get(&pair)).copied()
    }
}

/// Roles by the last two parts of a path; the former is empty where any will do.
static ROLES: LazyLock<HashMap<(&str, &str), StreamRole>> = LazyLock::new(|| {
    let of = |role: StreamRole| {
        let names = role.kinds().into_iter().chain(role.names_elsewhere().iter().copied());
        names.map(move |name| (name.split_once('.').unwrap_or(("", name)), role))
    };
    [StreamRole::Writes, StreamRole::Reads, StreamRole::Apart].into_iter().flat_map(of).collect()
});

/// What a module does with the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRole {
    /// A linear whose output is added to the stream.
    Writes,
    /// A linear whose input is the normalised stream.
    Reads,
    /// Neither, or something that rules of its own look at: embeddings, heads, norms, routers, convolutions, what lies
    /// between two linears.
    Apart,
}

impl StreamRole {
    /// Kinds of module with this role in the families that the decoder runs, each once.
    pub fn kinds(self) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        for family in FAMILIES {
            let names = match self {
                Self::Writes => family.layout.writers().to_vec(),
                Self::Reads => family.layout.readers(),
                Self::Apart => Vec::new(),
            };
            for name in names {
                let kind = name.rsplit('.').next().unwrap_or(name);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        kinds
    }

    /// Ends of paths in models that nothing here runs: BLOOM, Falcon, GPT-J, GPT-NeoX, InternLM2, Mixtral, MPT, OLMo,
    /// OPT, Phi, Qwen, Baichuan, ChatGLM, DeepSeek, Granite, DBRX, Mamba and their kin.
    fn names_elsewhere(self) -> &'static [&'static str] {
        match self {
            Self::Writes => &[
                "attention.dense",
                "attn_out",
                "dense_4h_to_h",
                "fc2",
                "fc_out",
                "ff_out",
                "output_linear",
                "out_proj",
                "self_attention.dense",
                "self_attn.dense",
                "w2",
                "wo",
            ],
            Self::Reads => &[
                "W_pack",
                "Wqkv",
                "att_proj",
                "dense_h_to_4h",
                "fc1",
                "fc_in",
                "ff_proj",
                "in_proj",
                "in_proj_ba",
                "in_proj_qkvz",
                "input_linear",
                "kv_a_proj_with_mqa",
                "q_a_proj",
                "query_key_value",
                "w1",
                "w3",
                "wqkv",
            ],
            Self::Apart => &[
                "classifier",
                "conv1d",
                "dt_proj",
                "embed_in",
                "embed_out",
                "embed_positions",
                "embed_tokens",
                "gate",
                "kv_b_proj",
                "lm_head",
                "ln_1",
                "ln_2",
                "ln_f",
                "position_embeddings",
                "q_b_proj",
                "router",
                "score",
                "shared_expert_gate",
                "v_head",
                "word_embeddings",
                "wpe",
                "wte",
                "x_proj",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let parts = |path| {
            let module = ModulePath::parse(path);
            (module.layer, module.kind, module.expert)
        };
        assert_eq!(parts("model.layers.3.self_attn.q_proj.weight"), (Some(3), "q_proj", None));
        assert_eq!(parts("lm_head.weight"), (None, "lm_head", None));
        assert_eq!(parts("transformer.h.0.attn.c_attn.weight"), (Some(0), "c_attn", None));
        assert_eq!(parts("model.layers.5.mlp.experts.17.down_proj"), (Some(5), "down_proj", Some(17)));
        assert_eq!(parts(""), (None, "", None));
    }

    #[test]
    fn roles_are_those_of_the_forward_pass() {
        let role = |path| ModulePath::parse(path).role();
        assert_eq!(role("model.layers.3.self_attn.o_proj"), Some(StreamRole::Writes));
        assert_eq!(role("transformer.h.0.mlp.c_fc"), Some(StreamRole::Reads));
        assert_eq!(role("model.layers.3.mlp.gate_up_proj.weight"), Some(StreamRole::Reads));
        assert_eq!(role("model.layers.3.input_layernorm"), Some(StreamRole::Apart));
        assert_eq!(role("model.embed_tokens.weight"), Some(StreamRole::Apart));
    }

    /// Of models that only their adapters are read of: GPT-NeoX and Falcon write with a `dense` of attention, BERT
    /// reads with one.
    #[test]
    fn names_of_models_that_nothing_runs_have_roles_too() {
        let role = |path| ModulePath::parse(path).role();
        assert_eq!(role("gpt_neox.layers.0.attention.query_key_value"), Some(StreamRole::Reads));
        assert_eq!(role("gpt_neox.layers.0.attention.dense"), Some(StreamRole::Writes));
        assert_eq!(role("model.layers.1.block_sparse_moe.experts.3.w2"), Some(StreamRole::Writes));
        assert_eq!(role("model.layers.1.mlp.gate"), Some(StreamRole::Apart));
        for unknown in ["encoder.layer.0.intermediate.dense", "model.layers.0.mlp.mystery_proj", "mq_proj", ""] {
            assert_eq!(role(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_linear_of_every_family_has_its_role() {
        for family in FAMILIES {
            let layout = family.layout;
            for (names, role) in
                [(layout.writers().to_vec(), StreamRole::Writes), (layout.readers(), StreamRole::Reads)]
            {
                for name in names {
                    let path = layout.in_layer(0, name);
                    assert_eq!(ModulePath::parse(&path).role(), Some(role), "{path}");
                }
            }
        }
        let both = StreamRole::Writes.kinds();
        assert!(StreamRole::Reads.kinds().iter().all(|kind| !both.contains(kind)));
    }
}
