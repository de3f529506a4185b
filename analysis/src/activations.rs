//! One model's activations at one site, and what several metrics need of them, computed once.

use std::sync::OnceLock;

use faer::{Mat, MatRef};
use ndarray::ArrayView2;

use crate::linalg::{NoConvergence, eigenvalues, leading_eigenvectors, orthonormal, product, row_factor, small_gram};

/// Activations of one model at one site: rows are tokens, columns the width of the site.
#[derive(Debug)]
pub struct Activations {
    width: usize,
    /// `[rows, width]`, row-major, as the model computed them.
    values: Vec<f32>,
    /// The same in f64 less the column means, row-major.
    centred: Vec<f64>,
    mean: Vec<f64>,
    /// Taken once, by whichever metric needs it first, however many others the rows are held against.
    row_factor: OnceLock<Mat<f64>>,
    gram: OnceLock<Mat<f64>>,
    squares: OnceLock<Vec<f64>>,
}

impl Activations {
    /// Keeps the rows of `values`, `[tokens, width]`, that `keep` marks.
    pub fn new(values: &ArrayView2<f32>, keep: &[bool]) -> Self {
        let width = values.ncols();
        let kept = values.rows().into_iter().zip(keep).filter(|(_, keep)| **keep);
        let values: Vec<f32> = kept.flat_map(|(row, _)| row.to_vec()).collect();
        let rows = values.len() / width;
        let mut mean = vec![0.0; width];
        for row in values.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
        let centred = values
            .chunks_exact(width)
            .flat_map(|row| row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean))
            .collect();
        let (row_factor, gram, squares) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { width, values, centred, mean, row_factor, gram, squares }
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Width of the site.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[rows, width]`, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Rows one by one.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// Centred rows one by one.
    pub fn centred_rows(&self) -> impl Iterator<Item = &[f64]> {
        self.centred.chunks_exact(self.width)
    }

    /// Column means.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// X_c, `[rows, width]`.
    pub fn centred(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.centred, self.rows(), self.width)
    }

    /// R of the thin QR of X_cᵀ, `[rows, rows]`; for no more rows than columns.
    pub fn row_factor(&self) -> MatRef<'_, f64> {
        self.row_factor.get_or_init(|| row_factor(self.centred())).as_ref()
    }

    /// ‖X_c‖_F².
    pub fn centred_energy(&self) -> f64 {
        self.centred.iter().map(|value| value * value).sum()
    }

    /// Whether there are no more rows than columns.
    pub fn is_wide(&self) -> bool {
        self.rows() <= self.width
    }

    /// X_cX_cᵀ, `[rows, rows]`, of a wide matrix, else X_cᵀX_c, `[width, width]`.
    pub fn gram(&self) -> &Mat<f64> {
        self.gram.get_or_init(|| small_gram(self.centred()))
    }

    /// The Gram matrix where it is that of the rows.
    pub fn row_gram(&self) -> Option<&Mat<f64>> {
        self.is_wide().then(|| self.gram())
    }

    /// Squared singular values of X_c, descending.
    pub fn squares(&self) -> Result<&[f64], NoConvergence> {
        if let Some(known) = self.squares.get() {
            return Ok(known);
        }
        let squares = eigenvalues(self.gram().as_ref())?;
        Ok(self.squares.get_or_init(|| squares))
    }

    /// `count` leading right singular vectors of X_c as columns, `[width, count]`.
    pub fn leading_right_vectors(&self, count: usize) -> Result<Mat<f64>, NoConvergence> {
        if count == 0 {
            return Ok(Mat::zeros(self.width, 0));
        }
        let squares = self.squares()?;
        let vectors = leading_eigenvectors(self.gram().as_ref(), squares, count)?;
        if !self.is_wide() {
            return Ok(vectors);
        }
        // Left singular vectors came out: right ones are X_cᵀu/s, orthonormal to rounding; QR makes them exactly so.
        let scaled = Mat::from_fn(vectors.nrows(), vectors.ncols(), |row, column| {
            let length = squares[column].sqrt();
            if length > 0.0 { vectors[(row, column)] / length } else { 0.0 }
        });
        Ok(orthonormal(&product(self.centred().transpose(), scaled.as_ref())))
    }
}
