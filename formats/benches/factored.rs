//! What a low-rank change costs to measure from its factors, at the sizes of a model of half a billion parameters.

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use lcr_formats::factored::FactoredMatrix;

/// s·BA of 1024 × 1024 with factors of small whole numbers over eight.
fn change(rank: usize) -> FactoredMatrix<'static> {
    const WIDTH: usize = 1024;
    let values = |salt: usize| (0..rank * WIDTH).map(|at| ((at * at + salt * at) % 41) as f32 / 8.0 - 2.5).collect();
    FactoredMatrix {
        rows: WIDTH,
        columns: WIDTH,
        rank,
        scale: 2.0,
        lora_b: Cow::Owned(values(3)),
        lora_a: Cow::Owned(values(7)),
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("factored");
    for rank in [8, 64] {
        let change = change(rank);
        group.bench_function(BenchmarkId::new("grams", rank), |bencher| bencher.iter(|| black_box(&change).grams()));
        group.bench_function(BenchmarkId::new("leading", rank), |bencher| {
            let grams = change.grams();
            bencher.iter(|| black_box(&grams).leading());
        });
        group.bench_function(BenchmarkId::new("singular_values", rank), |bencher| {
            bencher.iter(|| black_box(&change).singular_values());
        });
    }
    group.finish();
    criterion.final_summary();
}
