//! Where activations can be looked at, by stable names.

use std::fmt;
use std::str::FromStr;

/// A place in the forward pass. Printed and parsed as `resid.3`, `attn_out.0`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The stream entering this layer, `[tokens, width]`; for the number of layers, the stream after the last.
    Resid(usize),
    /// What attention adds to the stream, after any post-norm, `[tokens, width]`.
    AttnOut(usize),
    /// What the MLP adds to the stream, after any post-norm, `[tokens, width]`.
    MlpOut(usize),
    /// Queries after q-norm and rotary, `[tokens, heads · head_dim]`.
    Query(usize),
    /// Keys after k-norm and rotary, `[tokens, kv_heads · head_dim]`.
    Key(usize),
    /// Values, `[tokens, kv_heads · head_dim]`.
    Value(usize),
}

impl Site {
    /// What kind of site it is.
    pub fn kind(self) -> SiteKind {
        match self {
            Self::Resid(_) => SiteKind::Resid,
            Self::AttnOut(_) => SiteKind::AttnOut,
            Self::MlpOut(_) => SiteKind::MlpOut,
            Self::Query(_) => SiteKind::Query,
            Self::Key(_) => SiteKind::Key,
            Self::Value(_) => SiteKind::Value,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = match *self {
            Self::Resid(layer)
            | Self::AttnOut(layer)
            | Self::MlpOut(layer)
            | Self::Query(layer)
            | Self::Key(layer)
            | Self::Value(layer) => layer,
        };
        write!(f, "{}.{layer}", self.kind())
    }
}

/// A kind of [`Site`], over all layers; `logits` is one too, since the command line asks for both in one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SiteKind {
    /// `resid`.
    Resid,
    /// `attn_out`.
    AttnOut,
    /// `mlp_out`.
    MlpOut,
    /// `q`.
    Query,
    /// `k`.
    Key,
    /// `v`.
    Value,
    /// `logits`.
    Logits,
}

impl SiteKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Resid, "resid"),
        (Self::AttnOut, "attn_out"),
        (Self::MlpOut, "mlp_out"),
        (Self::Query, "q"),
        (Self::Key, "k"),
        (Self::Value, "v"),
        (Self::Logits, "logits"),
    ];
}

impl fmt::Display for SiteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

/// A name that is no kind of site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a site; known: resid, attn_out, mlp_out, q, k, v, logits")]
pub struct UnknownSite(pub String);

impl FromStr for SiteKind {
    type Err = UnknownSite;
    fn from_str(name: &str) -> Result<Self, UnknownSite> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
            .ok_or_else(|| UnknownSite(name.to_owned()))
    }
}
