//! The decompositions of a site: Gram matrices, spectra, nuclear norms, leading vectors, single-threaded as they run.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use faer::Mat;
use lcr_analysis::linalg::{eigenvalues, leading_eigenvectors, nuclear_norm, product, singular_values, small_gram};

/// Numbers without a pattern that a decomposition could notice, smaller from column to column.
fn decaying(rows: usize, columns: usize) -> Mat<f64> {
    let mut state = 1_u64;
    Mat::from_fn(rows, columns, |_, column| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) / (1.0 + column as f64).sqrt()
    })
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("decompositions");
    for rows in [128, 384] {
        let (x, y) = (decaying(rows, 1024), decaying(rows, 1024));
        let gram = small_gram(x.as_ref());
        let cross = product(x.as_ref(), y.transpose());
        let values = eigenvalues(gram.as_ref()).expect("it converges");
        group.bench_function(BenchmarkId::new("small_gram", rows), |bencher| {
            bencher.iter(|| small_gram(black_box(x.as_ref())));
        });
        group.bench_function(BenchmarkId::new("eigenvalues", rows), |bencher| {
            bencher.iter(|| eigenvalues(black_box(gram.as_ref())));
        });
        group.bench_function(BenchmarkId::new("leading_eigenvectors", rows), |bencher| {
            bencher.iter(|| leading_eigenvectors(black_box(gram.as_ref()), &values, 10));
        });
        group.bench_function(BenchmarkId::new("nuclear_norm", rows), |bencher| {
            bencher.iter(|| nuclear_norm(black_box(&cross), 1.0));
        });
        group.bench_function(BenchmarkId::new("singular_values", rows), |bencher| {
            bencher.iter(|| singular_values(black_box(cross.as_ref())));
        });
    }
    group.finish();
    criterion.final_summary();
}
