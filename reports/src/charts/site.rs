//! Sites, taken apart into what they are and which layer they belong to.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(Site::parse("mlp_out.12"), Some(Site { place: Place::Mlp, layer: 12 }));
        assert_eq!(Site::parse("q.12"), None);
    }
}
