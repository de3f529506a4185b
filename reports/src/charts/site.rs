//! Sites and module paths, taken apart into what they are and which layer they belong to.

/// Where in a layer an activation was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The stream as it enters the layer.
    Stream,
    /// What attention adds to the stream.
    Attention,
    /// What the MLP adds to the stream.
    Mlp,
}

impl Place {
    /// The three, in the order in which they stand in a layer.
    pub(crate) const ALL: [Self; 3] = [Self::Stream, Self::Attention, Self::Mlp];

    /// Name for a reader.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Attention => "attention output",
            Self::Mlp => "MLP output",
        }
    }
}

/// A site's name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    /// Where in the layer.
    pub(crate) place: Place,
    /// Which layer.
    pub(crate) layer: usize,
}

impl Site {
    /// `resid.3`, `attn_out.3` or `mlp_out.3`; `None` for any other site.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (place, layer) = name.rsplit_once('.')?;
        let place = match place {
            "resid" => Place::Stream,
            "attn_out" => Place::Attention,
            "mlp_out" => Place::Mlp,
            _ => return None,
        };
        Some(Self { place, layer: layer.parse().ok()? })
    }
}

/// The layer of a tensor and the kind of its module: `model.layers.3.self_attn.q_proj.weight` is (3, `q_proj`). The layer
/// is `None` for what stands outside the layers, such as the embedding.
pub(crate) fn locate(tensor: &str) -> (Option<usize>, &str) {
    let path = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let kind = path.rsplit('.').next().unwrap_or(path);
    let layer = path.split('.').find_map(|part| part.parse().ok());
    (layer, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(Site::parse("mlp_out.12"), Some(Site { place: Place::Mlp, layer: 12 }));
        assert_eq!(Site::parse("q.12"), None);
        assert_eq!(locate("model.layers.3.self_attn.q_proj.weight"), (Some(3), "q_proj"));
        assert_eq!(locate("lm_head.weight"), (None, "lm_head"));
        assert_eq!(locate("transformer.h.0.attn.c_attn.weight"), (Some(0), "c_attn"));
    }
}
