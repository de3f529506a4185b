//! A module's path, taken apart: the layer it is in, its kind, the expert it belongs to, and what it does with the residual stream.
//!
//! The one place that knows these names. A kind that is not listed has no role: whoever asks for roles sees `None`.

/// A module or one of its tensors, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModulePath<'a> {
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
            layer: path.split('.').find_map(|part| part.parse().ok()),
            kind: path.rsplit('.').next().unwrap_or(path),
            expert: after_experts.and_then(|part| part.parse().ok()),
        }
    }

    /// What it does with the residual stream, where its kind is known.
    pub fn role(&self) -> Option<StreamRole> {
        StreamRole::ALL.into_iter().find(|role| role.kinds().contains(&self.kind))
    }
}

/// What a linear module does with the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRole {
    /// Its output is added to the stream.
    Writes,
    /// Its input is the normalised stream.
    Reads,
}

impl StreamRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Writes, Self::Reads];

    /// Kinds of module with this role, over all families. GPT-2 calls both its writers `c_proj`.
    pub fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Writes => &["o_proj", "down_proj", "c_proj"],
            Self::Reads => {
                &["q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "gate_proj", "up_proj", "gate_up_proj", "c_fc"]
            }
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
        assert_eq!(role("model.layers.3.input_layernorm"), None);
    }
}
