//! The decoder's kernels as they are called: a prompt through wide products, a step of one and of eight sequences
//! through those of a few rows. On the bundled model; `examples/decode_benchmark.rs` measures at size.

use std::hint::black_box;
use std::path::Path;

use candle_core::Device;
use criterion::Criterion;
use lcr_model::decoder::Decoder;
use lcr_model::session::{SequenceId, Session};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundled/stories260K");
    let decoder = Decoder::open(&folder, Device::Cpu).expect("the bundled model");
    let prompt: Vec<u32> = (0..128).map(|at| (at * 37) % 400 + 3).collect();
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("prompt of 128 tokens", |bencher| {
        bencher.iter(|| {
            let mut session = Session::new(&decoder, None);
            let sequence = session.open();
            session.read(&[(sequence, black_box(&prompt))]).expect("readable")
        });
    });
    for sequences in [1, 8] {
        criterion.bench_function(&format!("a step of {sequences} after 64 tokens"), |bencher| {
            let mut session = Session::new(&decoder, None);
            let first = session.open();
            session.read(&[(first, &prompt[..64])]).expect("readable");
            bencher.iter(|| {
                let forks: Vec<SequenceId> = (0..sequences).map(|_| session.fork(first)).collect();
                let requests: Vec<(SequenceId, &[u32])> = forks.iter().map(|fork| (*fork, &[9_u32][..])).collect();
                let logits = session.read(black_box(&requests)).expect("readable");
                forks.into_iter().for_each(|fork| session.close(fork));
                logits
            });
        });
    }
    criterion.final_summary();
}
