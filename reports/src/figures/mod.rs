//! The PNG figures, for slides and tickets: the same charts as the page's, drawn on a light ground.
//!
//! Text is set in a bundled font, because the drawing library has none of its own and a report must not depend on what
//! the machine has installed.

mod canvas;
mod heat;
mod lines;
mod paths;

use std::path::{Path, PathBuf};

use lcr_documents::audit::Audit;

use crate::charts;
use crate::error::ReportError;

/// A figure that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The PNG file.
    pub file: PathBuf,
    /// What it shows, in a few words.
    pub title: &'static str,
    /// How to read it, in a sentence or two.
    pub caption: &'static str,
}

/// What is drawn on one sheet.
enum Sheet {
    Heat(charts::HeatMap),
    Lines(Vec<charts::LineChart>),
    Paths(charts::PathChart),
}

impl Sheet {
    fn is_empty(&self) -> bool {
        match self {
            Self::Heat(map) => map.is_empty(),
            Self::Lines(charts) => charts.is_empty(),
            Self::Paths(chart) => chart.tokens.is_empty(),
        }
    }
}

/// Draws every figure that the audit has numbers for into `folder`, which is made where it is missing. Figures without
/// a number are left out.
pub fn write_figures(audit: &Audit, folder: &Path) -> Result<Vec<Figure>, ReportError> {
    fs_err::create_dir_all(folder).map_err(|source| ReportError::io(folder, source))?;
    let mut written = Vec::new();
    for (name, title, caption, sheet) in sheets(audit) {
        if sheet.is_empty() {
            continue;
        }
        let file = folder.join(name);
        let drawn = match &sheet {
            Sheet::Heat(map) => heat::draw(map, title, &file),
            Sheet::Lines(charts) => lines::draw(charts, title, &file),
            Sheet::Paths(chart) => paths::draw(chart, title, &file),
        };
        let fault = |reason: String| ReportError::Figure { path: file.clone(), reason };
        drawn.map_err(fault)?;
        written.push(Figure { file, title, caption });
    }
    Ok(written)
}

/// File name, title, caption and content of every figure.
fn sheets(audit: &Audit) -> [(&'static str, &'static str, &'static str, Sheet); 8] {
    [
        (
            "answers.png",
            "Divergence on the base's own answers",
            "KL per answer token, by probe set, on a logarithmic scale: this adapter, the largest of the random adapters \
             of its size, and what another order of summation gives.",
            Sheet::Heat(charts::answer_heat(audit)),
        ),
        (
            "activations.png",
            "Where the activations change",
            "Layer × metric. Every row is zero for an unchanged site; one colour is one number everywhere, on a \
             logarithmic scale.",
            Sheet::Heat(charts::activation_heat(audit)),
        ),
        (
            "depth.png",
            "Change by depth",
            "The stream, and what attention and the MLP add to it. Logarithmic; unchanged sites lie on the line marked \
             0.",
            Sheet::Lines(charts::activation_curves(audit)),
        ),
        (
            "spectra.png",
            "Eigenspectra of the stream",
            "Variance along the principal axes in base and adapted model, at several depths.",
            Sheet::Lines(charts::spectra(audit)),
        ),
        (
            "weights.png",
            "Relative weight change ‖ΔW‖/‖W‖",
            "By layer and kind of module, on a logarithmic scale.",
            Sheet::Heat(charts::weight_heat(audit)),
        ),
        (
            "lens.png",
            "Logit lens, base against adapted",
            "Jensen–Shannon divergence between what each layer of both models would say next, for the tracked tokens.",
            Sheet::Lines(charts::lens_curve(audit).into_iter().collect()),
        ),
        (
            "trajectories.png",
            "Tokens on their way through the stream",
            "Both models on the two leading principal axes, each state scaled to unit norm; base solid, adapted with \
             rings.",
            Sheet::Paths(charts::token_paths(audit)),
        ),
        (
            "attention.png",
            "Attention divergence by head, nats",
            "Jensen–Shannon divergence between the two models' attention, mean over tokens, by layer and head.",
            Sheet::Heat(charts::attention_heat(audit)),
        ),
    ]
}
