//! What became of the rows of a weight, its output channels: gone, turned round, louder or quieter.
//!
//! The rules and the question `magnitude` both go by these, so that they cannot say different things of one weight.

use super::WeightChange;

/// ‖w'‖/‖w‖ − 1 of a row that is gone; −1 but for rounding.
pub const ROW_GONE: f64 = -0.999;
/// Angle between a row and what it becomes, degrees, from which it says the opposite: a change in a direction of its
/// own, however large, turns it by a right angle.
pub const ROW_TURNED: f64 = 150.0;
/// Factor by which the norm of a row may grow or shrink where nobody says otherwise.
pub const ROW_FACTOR: f64 = 2.0;
/// What rounding may add to a row that is exactly doubled, halved or gone.
const ROUNDING: f64 = 1e-3;
/// ‖w'‖/‖w‖ − 1 of a row whose norm doubles.
const DOUBLED: f64 = 1.0;

impl WeightChange {
    /// Whether at least one row is gone.
    pub fn loses_rows(&self) -> bool {
        self.row_norm_change.min <= ROW_GONE
    }

    /// Whether every row is gone, as far as the statistics over rows say: the norms of all change by the whole row, and
    /// none grows beyond its double. (Some of them may be doubled instead; that one is gone is certain.)
    pub fn loses_every_row(&self) -> bool {
        let rows = &self.row_norm_change;
        self.loses_rows() && rows.mean_abs >= -ROW_GONE && rows.max_abs <= DOUBLED + ROUNDING
    }

    /// Whether at least one row of a matrix is turned round.
    pub fn turns_rows(&self) -> bool {
        let [rows, columns] = self.shape;
        rows > 1 && columns > 1 && self.row_rotation_deg.max >= ROW_TURNED
    }

    /// By which factor the norm of a row grows or shrinks, if by more than `limit` either way. A norm cannot shrink by
    /// more than itself, so what changes by more has grown. Rows that are gone are left out.
    pub fn row_factor(&self, limit: f64) -> Option<f64> {
        let rows = &self.row_norm_change;
        let grown = 1.0 + rows.max_abs;
        let grown = (grown > limit + ROUNDING && !self.may_only_shrink_rows()).then_some(grown);
        let left = 1.0 + rows.min;
        let shrunk = (!self.loses_rows() && left < 1.0 / limit - ROUNDING).then(|| 1.0 / left);
        match (grown, shrunk) {
            (Some(grown), Some(shrunk)) => Some(grown.max(shrunk)),
            (grown, shrunk) => grown.or(shrunk),
        }
    }

    /// Whether the row that changes most may be one that shrinks: then nothing is known of how much any row grows.
    pub fn may_only_shrink_rows(&self) -> bool {
        let rows = &self.row_norm_change;
        rows.max_abs <= -rows.min + ROUNDING
    }
}
