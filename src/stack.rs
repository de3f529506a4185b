//! Adapters that are used together with the one that is audited: `--stack OTHER[=WEIGHT],…`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use lcr_analysis::causal::dose::scaled;
use lcr_documents::audit::Stacked;
use lcr_documents::characters::visible;
use lcr_model::decoder::BoundAdapter;

use crate::model::Model;
use crate::terminal::Terminal;

/// An adapter as it is named on the command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Other {
    path: PathBuf,
    weight: f64,
}

impl FromStr for Other {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((path, weight)) = text.rsplit_once('=') else {
            return Ok(Self { path: text.into(), weight: 1.0 });
        };
        match weight.parse::<f64>() {
            Ok(weight) if weight.is_finite() && weight != 0.0 => Ok(Self { path: path.into(), weight }),
            _ => Err(format!("`{weight}` is no weight: write `{path}=0.5`, or `{path}` for its full strength")),
        }
    }
}

impl Other {
    /// Opens it and fits it to the base, as strong as it is to be.
    pub(crate) fn open(&self, model: &Model, terminal: &Terminal) -> Result<(Stacked, BoundAdapter)> {
        let bound = model.adapt(&self.path, terminal)?;
        let sha256 = bound.adapter().sha256.clone();
        let stacked = Stacked { path: self.path.display().to_string(), weight: self.weight, sha256 };
        Ok((stacked, if self.weight == 1.0 { bound } else { scaled(&model.decoder, &bound, self.weight)? }))
    }
}

/// The adapters that a report names, if they are still what they were.
pub(crate) fn reopen(stack: &[Stacked], model: &Model, terminal: &Terminal) -> Result<Vec<BoundAdapter>> {
    let mut opened = Vec::with_capacity(stack.len());
    for stacked in stack {
        let other = Other { path: PathBuf::from(&stacked.path), weight: stacked.weight };
        let (found, bound) = other.open(model, terminal)?;
        if found.sha256 != stacked.sha256 {
            bail!("{} of the stack is not the file that the report was made with", visible(&stacked.path));
        }
        opened.push(bound);
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_stands_behind_the_path() {
        let other = |path: &str, weight| Other { path: path.into(), weight };
        assert_eq!("a/b".parse(), Ok(other("a/b", 1.0)));
        assert_eq!("a=b=-0.5".parse(), Ok(other("a=b", -0.5)));
        for wrong in ["a=", "a=0", "a=nan", "a=x"] {
            assert!(wrong.parse::<Other>().is_err(), "{wrong}");
        }
    }
}
