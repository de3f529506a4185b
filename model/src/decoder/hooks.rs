//! What a caller may do on the way of a forward pass: take the activations at a site, and put others in their place.
//!
//! A site's rows are first replaced and then captured: what was taken is what the pass went on with. Models that share
//! rows go on sharing them unless one of them gets others, and nothing is copied for a site that nobody replaces.

mod site;

use std::fmt;

use candle_core::{DType, Result, Tensor};

pub use self::site::{Site, SiteKind, UnknownSite};
use crate::decoder::{Branches, ModelError};

/// What a model goes on with instead of the rows that it has at a site, or `None` where they stay.
///
/// It is called with the site, the model's index in the pass and its rows; the result has their shape. A tensor that it
/// gives to several models (a clone, not a copy) is shared by them.
pub type Replacement<'h> = dyn FnMut(Site, usize, &Tensor) -> Result<Option<Tensor>> + Send + 'h;

/// Activations taken on the way, and what replaces others.
#[derive(Default)]
pub struct Hooks<'h> {
    kinds: Vec<SiteKind>,
    sites: Vec<Site>,
    captured: Vec<(Site, Branches)>,
    replacements: Vec<(Vec<Site>, Box<Replacement<'h>>)>,
}

impl fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replaced: Vec<&Site> = self.replacements.iter().flat_map(|(sites, _)| sites).collect();
        f.debug_struct("Hooks")
            .field("kinds", &self.kinds)
            .field("sites", &self.sites)
            .field("captured", &self.captured)
            .field("replaced", &replaced)
            .finish()
    }
}

impl<'h> Hooks<'h> {
    /// Captures these kinds of site, of every layer.
    pub fn new(kinds: &[SiteKind]) -> Self {
        Self { kinds: kinds.to_vec(), ..Self::default() }
    }

    /// Captures these sites as well.
    #[must_use]
    pub fn capture(mut self, sites: &[Site]) -> Self {
        self.sites.extend(sites);
        self
    }

    /// Calls `replacement` at these sites, once for each model, after any that was given before.
    #[must_use]
    pub fn replace(
        mut self,
        sites: &[Site],
        replacement: impl FnMut(Site, usize, &Tensor) -> Result<Option<Tensor>> + Send + 'h,
    ) -> Self {
        self.replacements.push((sites.to_vec(), Box::new(replacement)));
        self
    }

    /// Refuses sites that a model of so many layers does not have: nothing would ever come of them.
    pub fn check(&self, layers: usize) -> std::result::Result<(), UnknownSite> {
        let replaced = self.replacements.iter().flat_map(|(sites, _)| sites);
        self.sites.iter().chain(replaced).try_for_each(|site| site.check(layers))
    }

    /// What was captured since the last call.
    pub fn take(&mut self) -> Vec<(Site, Branches)> {
        std::mem::take(&mut self.captured)
    }

    /// The rows that the pass goes on with from this site, given those that it came with.
    pub fn through(&mut self, site: Site, rows: Branches) -> std::result::Result<Branches, ModelError> {
        Ok(self.visit(site, &rows)?.unwrap_or(rows))
    }

    /// The same for rows that are lent; `None` where they stay as they are.
    pub(crate) fn visit(&mut self, site: Site, rows: &Branches) -> std::result::Result<Option<Branches>, ModelError> {
        let mut replaced: Option<Branches> = None;
        for (sites, replacement) in &mut self.replacements {
            if sites.contains(&site) {
                let found = replace(site, replaced.as_ref().unwrap_or(rows), replacement)?;
                replaced = found.or(replaced);
            }
        }
        if self.kinds.contains(&site.kind()) || self.sites.contains(&site) {
            self.captured.push((site, replaced.as_ref().unwrap_or(rows).clone()));
        }
        Ok(replaced)
    }
}

/// `rows` with what `replacement` gives, checked; `None` where it gives nothing.
fn replace(
    site: Site,
    rows: &Branches,
    replacement: &mut Replacement,
) -> std::result::Result<Option<Branches>, ModelError> {
    let models = rows.of_model().len();
    let mut given = Vec::with_capacity(models);
    for model in 0..models {
        let before = rows.model(model);
        let own = replacement(site, model, before)?;
        if let Some(own) = &own
            && (own.shape() != before.shape()
                || own.dtype() != DType::F32
                || !own.device().same_device(before.device()))
        {
            let (expected, found) = (before.dims().to_vec(), own.dims().to_vec());
            return Err(ModelError::Replacement { site, model, expected, found, dtype: own.dtype() });
        }
        given.push(own);
    }
    Ok(given.iter().any(Option::is_some).then(|| rows.replaced(given)))
}
