//! How a family calls its modules, and which products it fuses: the paths that checkpoints and adapters use.

/// Names of a family's modules, as transformers has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The model without its head: `model`. Checkpoints may leave it out.
    pub body: &'static str,
    /// Token embedding, in the body.
    pub embedding: &'static str,
    /// Learned positions, in the body, where the family has them.
    pub positions: Option<&'static str>,
    /// List of the layers, in the body.
    pub layers: &'static str,
    /// Norm behind the last layer, in the body.
    pub final_norm: &'static str,
    /// Norm before attention. This one and all below are names within a layer.
    pub input_norm: &'static str,
    /// Query, key and value.
    pub projections: ProjectionNames,
    /// Norms of the query heads and of the key heads.
    pub head_norms: Option<[&'static str; 2]>,
    /// Output projection of attention.
    pub output: &'static str,
    /// Norm of what attention adds.
    pub post_attention_norm: Option<&'static str>,
    /// Norm before the MLP.
    pub feed_forward_norm: &'static str,
    /// The MLP.
    pub feed_forward: FeedForwardNames,
    /// Norm of what the MLP adds.
    pub post_feed_forward_norm: Option<&'static str>,
    /// Whether a layer's linears are stored `[inputs, outputs]`, as GPT-2's Conv1D has them.
    pub transposed: bool,
}

/// Names of the projections to queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionNames {
    /// Query, key and value apart.
    Apart([&'static str; 3]),
    /// In one product, its outputs in that order.
    Fused(&'static str),
}

/// Names of the MLP's linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardNames {
    /// down(act(gate) ⊙ up).
    Gated {
        /// Gate.
        gate: &'static str,
        /// Up.
        up: &'static str,
        /// Down.
        down: &'static str,
    },
    /// The same with gate and up in one product.
    GatedFused {
        /// Gate, then up.
        gate_up: &'static str,
        /// Down.
        down: &'static str,
    },
    /// down(act(up)).
    Plain {
        /// Up.
        up: &'static str,
        /// Down.
        down: &'static str,
    },
}

impl Layout {
    /// Llama's names, which most families took over.
    pub(crate) const LLAMA: Self = Self {
        body: "model",
        embedding: "embed_tokens",
        positions: None,
        layers: "layers",
        final_norm: "norm",
        input_norm: "input_layernorm",
        projections: ProjectionNames::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        head_norms: None,
        output: "self_attn.o_proj",
        post_attention_norm: None,
        feed_forward_norm: "post_attention_layernorm",
        feed_forward: FeedForwardNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
        post_feed_forward_norm: None,
        transposed: false,
    };

    /// Norms before and after attention and MLP, as Gemma 2 and 3 have them.
    pub(crate) const SANDWICHED: Self = Self {
        post_attention_norm: Some("post_attention_layernorm"),
        feed_forward_norm: "pre_feedforward_layernorm",
        post_feed_forward_norm: Some("post_feedforward_layernorm"),
        ..Self::LLAMA
    };

    /// Path of a module of the body: `model.norm`.
    pub fn in_body(&self, name: &str) -> String {
        format!("{}.{name}", self.body)
    }

    /// Path of a module of a layer: `model.layers.3.self_attn.q_proj`.
    pub fn in_layer(&self, layer: usize, name: &str) -> String {
        format!("{}.{}.{layer}.{name}", self.body, self.layers)
    }

    /// Linears whose output is added to the stream, by their names within a layer.
    pub fn writers(&self) -> [&'static str; 2] {
        let (FeedForwardNames::Gated { down, .. }
        | FeedForwardNames::GatedFused { down, .. }
        | FeedForwardNames::Plain { down, .. }) = self.feed_forward;
        [self.output, down]
    }

    /// Linears whose input is the normalised stream, by their names within a layer.
    pub fn readers(&self) -> Vec<&'static str> {
        let mut names = match self.projections {
            ProjectionNames::Apart(names) => names.to_vec(),
            ProjectionNames::Fused(name) => vec![name],
        };
        match self.feed_forward {
            FeedForwardNames::Gated { gate, up, .. } => names.extend([gate, up]),
            FeedForwardNames::GatedFused { gate_up, .. } => names.push(gate_up),
            FeedForwardNames::Plain { up, .. } => names.push(up),
        }
        names
    }
}
