//! What is drawn, apart from how: each chart as plain numbers and names.
//!
//! The PNG figures and the page's vector graphics are two renderers of these. An audit becomes charts in [`build`];
//! neither renderer looks into an audit for a number, so both always show the same.

mod axis;
mod build;
mod site;

pub(crate) use axis::{Axis, whole_ticks};
pub(crate) use build::{
    activation_curves, activation_heat, answer_heat, attention_heat, entering, lens_curve, running_order, spectra,
    token_paths, weight_heat,
};
pub(crate) use site::{Place, Site};

use crate::scale::{ColorScale, Tone};

/// A matrix of numbers as colours: rows in named blocks, columns named by layer.
#[derive(Debug, Clone)]
pub(crate) struct HeatMap {
    /// What a cell without a number means.
    pub(crate) missing: &'static str,
    /// Names of the columns, which are layers.
    pub(crate) columns: Vec<String>,
    /// Groups of rows.
    pub(crate) blocks: Vec<HeatBlock>,
    /// One scale for all cells, so that a colour is the same number everywhere; `None` where nothing is above zero.
    pub(crate) scale: Option<ColorScale>,
}

/// Rows of a heat map under one name.
#[derive(Debug, Clone)]
pub(crate) struct HeatBlock {
    /// Name of the group; empty where there is one group only.
    pub(crate) name: String,
    /// Its rows.
    pub(crate) rows: Vec<HeatRow>,
}

/// One row of a heat map.
#[derive(Debug, Clone)]
pub(crate) struct HeatRow {
    /// Name of the row.
    pub(crate) name: String,
    /// As many cells as there are columns; `None` where nothing was measured.
    pub(crate) cells: Vec<Option<f64>>,
}

impl HeatMap {
    /// A heat map whose scale spans its own cells.
    fn new(missing: &'static str, columns: Vec<String>, blocks: Vec<HeatBlock>) -> Self {
        let cells = blocks.iter().flat_map(|block| &block.rows).flat_map(|row| &row.cells);
        let scale = ColorScale::spanning(cells.filter_map(|cell| *cell));
        Self { missing, columns, blocks, scale }
    }

    /// Whether no cell has a number: a sheet of grey says less than a sentence.
    pub(crate) fn is_empty(&self) -> bool {
        let mut rows = self.blocks.iter().flat_map(|block| &block.rows);
        rows.all(|row| row.cells.iter().all(Option::is_none))
    }

    /// How one of its cells looks.
    pub(crate) fn tone(&self, cell: Option<f64>) -> Tone {
        ColorScale::tone(self.scale, cell)
    }

    /// Whether cells of this width hold their number in print.
    pub(crate) fn prints_numbers(&self, width: f64) -> bool {
        width >= 48.0 && self.row_count() <= Self::MOST_PRINTED
    }

    /// Rows up to which cells are high enough for their number.
    const MOST_PRINTED: usize = 28;

    /// Rows of all blocks.
    pub(crate) fn row_count(&self) -> usize {
        self.blocks.iter().map(|block| block.rows.len()).sum()
    }
}

/// Lines over a common horizontal axis.
#[derive(Debug, Clone)]
pub(crate) struct LineChart {
    /// Title.
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) across: &'static str,
    /// The vertical axis.
    pub(crate) axis: Axis,
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// One of the things that a chart compares: differs from the others in dash as well as in colour.
    Series(usize),
    /// A token, thin, in the colour that it has on the chart of paths.
    Token(usize),
    /// The mean of the tokens.
    Mean,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Name in the legend.
    pub(crate) name: String,
    /// How it looks.
    pub(crate) look: Look,
    /// Points, by ascending first number; every number finite.
    pub(crate) points: Vec<(f64, f64)>,
}

impl LineChart {
    /// A chart whose vertical axis spans its lines; `None` where there is no point.
    fn new(title: &str, across: &'static str, logarithmic: bool, lines: Vec<Line>) -> Option<Self> {
        let lines: Vec<Line> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        let values = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let axis = Axis::spanning(values, logarithmic)?;
        Some(Self { title: title.to_owned(), across, axis, lines })
    }

    /// First and last position on the horizontal axis, never equal.
    pub(crate) fn extent(&self) -> (f64, f64) {
        let across = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
        let (first, last) =
            across.fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), x| (first.min(x), last.max(x)));
        if first < last {
            (first, last)
        } else {
            // Half a layer, and more where a layer's number is so large that adding a half changes nothing.
            let air = 0.5f64.max(first.abs() * 1e-3);
            (first - air, first + air)
        }
    }
}

/// The ways of tokens across a plane, in both models.
#[derive(Debug, Clone)]
pub(crate) struct PathChart {
    /// One entry per tracked token.
    pub(crate) tokens: Vec<TokenPath>,
}

/// One token's way in both models.
#[derive(Debug, Clone)]
pub(crate) struct TokenPath {
    /// The token.
    pub(crate) name: String,
    /// The base's way; every number finite.
    pub(crate) base: Vec<[f64; 2]>,
    /// The adapted model's.
    pub(crate) adapted: Vec<[f64; 2]>,
}

impl PathChart {
    /// The square that holds every point: its lower left corner and its side, never zero.
    pub(crate) fn square(&self) -> ([f64; 2], f64) {
        let mut low = [f64::INFINITY; 2];
        let mut high = [f64::NEG_INFINITY; 2];
        for point in self.tokens.iter().flat_map(|token| token.base.iter().chain(&token.adapted)) {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let side = (high[0] - low[0]).max(high[1] - low[1]);
        if !side.is_finite() {
            return ([-0.5; 2], 1.0);
        }
        // A little air around the outermost points, and a square even where no token moves.
        let padded = if side > 0.0 { side * 1.08 } else { 1.0 };
        ([0, 1].map(|axis| f64::midpoint(low[axis], high[axis]) - padded / 2.0), padded)
    }
}
