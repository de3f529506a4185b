//! A matrix with another number of rows: a view of its first ones, or itself with rows of another matrix after its own.

use std::sync::Arc;

use super::{Content, Dtype, MappedFile, Weight};

impl Weight {
    /// The first `rows` rows of the matrix; where it has fewer, those of `rest` with the same numbers follow.
    ///
    /// A shorter matrix is a view and costs nothing; a longer one is put together in memory, in the dtype of both, or
    /// in f32 where they differ. `rest` has as many columns and at least `rows` rows.
    pub(crate) fn with_rows(&self, rows: usize, rest: &Self) -> Self {
        let &[own, columns] = self.shape() else { return self.clone() };
        let shape = vec![rows, columns];
        if rows <= own {
            let end = self.bytes.start + rows * columns * self.dtype.size();
            return Self { shape, bytes: self.bytes.start..end, ..self.clone() };
        }
        let dtype = if self.dtype == rest.dtype { self.dtype } else { Dtype::F32 };
        let mut map = vec![0; rows * columns * dtype.size()];
        let (head, tail) = map.split_at_mut(own * columns * dtype.size());
        self.copy_rows(0..own, columns, dtype, head);
        rest.copy_rows(own..rows, columns, dtype, tail);
        let bytes = 0..map.len();
        let file = Arc::new(MappedFile { path: self.file.path.clone(), map: Content::Held(map) });
        Self { file, name: self.name.clone(), dtype, shape, bytes }
    }

    /// Writes rows into `out`, whose length is theirs.
    fn copy_rows(&self, rows: std::ops::Range<usize>, columns: usize, dtype: Dtype, out: &mut [u8]) {
        let row_bytes = columns * dtype.size();
        if dtype == self.dtype {
            let source = self.bytes().get(rows.start * row_bytes..rows.end * row_bytes).unwrap_or(&[]);
            out.iter_mut().zip(source).for_each(|(out, byte)| *out = *byte);
            return;
        }
        let mut line = vec![0.0f32; columns];
        for (row, out) in rows.zip(out.chunks_exact_mut(row_bytes.max(1))) {
            self.widen(row * columns..(row + 1) * columns, &mut line);
            for (out, value) in out.chunks_exact_mut(dtype.size()).zip(&line) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}
