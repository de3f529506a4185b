//! Where activations can be looked at and replaced, by stable names.

use std::fmt;
use std::str::FromStr;

/// A place in the forward pass. Printed and parsed as `resid.3`, `attn_out.0`, …; `TransformerLens`' names are parsed
/// too.
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

/// The site of a layer.
type OfLayer = fn(usize) -> Site;

/// `TransformerLens`' names behind `blocks.{l}.`, with the site of layer l that each is.
const ALIASES: [(&str, OfLayer); 7] = [
    ("hook_resid_pre", Site::Resid),
    ("hook_resid_post", |layer| Site::Resid(layer + 1)),
    ("hook_attn_out", Site::AttnOut),
    ("hook_mlp_out", Site::MlpOut),
    ("attn.hook_rot_q", Site::Query),
    ("attn.hook_rot_k", Site::Key),
    ("attn.hook_v", Site::Value),
];

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

    /// Its layer; of the stream after the last layer, the number of layers.
    pub fn layer(self) -> usize {
        let (Self::Resid(layer)
        | Self::AttnOut(layer)
        | Self::MlpOut(layer)
        | Self::Query(layer)
        | Self::Key(layer)
        | Self::Value(layer)) = self;
        layer
    }

    /// Refuses a site that a model of so many layers does not have.
    pub fn check(self, layers: usize) -> Result<(), UnknownSite> {
        let last = if self.kind() == SiteKind::Resid { layers + 1 } else { layers };
        if self.layer() < last { Ok(()) } else { Err(UnknownSite::Layer { site: self, layers }) }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind(), self.layer())
    }
}

impl FromStr for Site {
    type Err = UnknownSite;

    fn from_str(name: &str) -> Result<Self, UnknownSite> {
        let unknown = || UnknownSite::Place(name.to_owned());
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            // A bound that no model has, so that the layer after it is a number too.
            digits.parse().ok().filter(|layer| plain && *layer < usize::from(u16::MAX))
        };
        if let Some((layer, hook)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            let site = ALIASES.iter().find(|(alias, _)| *alias == hook).map(|(_, site)| site);
            return site.zip(number(layer)).map(|(site, layer)| site(layer)).ok_or_else(unknown);
        }
        let (kind, layer) = name.rsplit_once('.').ok_or_else(unknown)?;
        let layer = number(layer).ok_or_else(unknown)?;
        match kind.parse() {
            Ok(SiteKind::Resid) => Ok(Self::Resid(layer)),
            Ok(SiteKind::AttnOut) => Ok(Self::AttnOut(layer)),
            Ok(SiteKind::MlpOut) => Ok(Self::MlpOut(layer)),
            Ok(SiteKind::Query) => Ok(Self::Query(layer)),
            Ok(SiteKind::Key) => Ok(Self::Key(layer)),
            Ok(SiteKind::Value) => Ok(Self::Value(layer)),
            Ok(SiteKind::Logits) | Err(_) => Err(unknown()),
        }
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

/// A name that is no site, or a site that the model does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSite {
    /// No kind of site.
    #[error("`{0}` is not a site; known: resid, attn_out, mlp_out, q, k, v, logits")]
    Kind(String),
    /// No site of a layer.
    #[error(
        "`{0}` is not a site of a layer; known: resid.3, attn_out.3, mlp_out.3, q.3, k.3, v.3, and of TransformerLens \
         blocks.3. with hook_resid_pre, hook_resid_post, hook_attn_out, hook_mlp_out, attn.hook_rot_q, \
         attn.hook_rot_k, attn.hook_v"
    )]
    Place(String),
    /// A layer that is not there.
    #[error(
        "`{site}` is not in a model of {layers} layers: they count from 0, and resid.{layers} is the stream after the \
         last"
    )]
    Layer {
        /// The site.
        site: Site,
        /// Layers of the model.
        layers: usize,
    },
}

impl FromStr for SiteKind {
    type Err = UnknownSite;
    fn from_str(name: &str) -> Result<Self, UnknownSite> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
            .ok_or_else(|| UnknownSite::Kind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let of_layer = [Site::Resid, Site::AttnOut, Site::MlpOut, Site::Query, Site::Key, Site::Value];
        for site in of_layer.into_iter().flat_map(|site| [0, 3, 127].map(site)) {
            assert_eq!(site.to_string().parse(), Ok(site));
        }
    }

    #[test]
    fn names_of_transformer_lens_are_read() {
        let read = |name: &str| name.parse::<Site>();
        assert_eq!(read("blocks.3.hook_resid_pre"), Ok(Site::Resid(3)));
        assert_eq!(read("blocks.3.hook_resid_post"), Ok(Site::Resid(4)));
        assert_eq!(read("blocks.0.attn.hook_rot_k"), Ok(Site::Key(0)));
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_known_ones() {
        let wrong = [
            "resid",
            "logits.0",
            "residual.3",
            "resid.+3",
            "resid.",
            "q.3.1",
            "blocks.3.hook_resid_mid",
            "blocks.x.hook_v",
        ];
        for name in wrong.into_iter().chain(["", "blocks.18446744073709551615.hook_resid_post"]) {
            let error = name.parse::<Site>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("mlp_out.3"), "{error}");
        }
    }

    #[test]
    fn sites_end_with_the_model() {
        assert_eq!(Site::Resid(4).check(4), Ok(()));
        for site in [Site::Resid(5), Site::MlpOut(4), Site::Query(9)] {
            assert_eq!(site.check(4), Err(UnknownSite::Layer { site, layers: 4 }));
        }
    }
}
