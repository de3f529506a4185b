//! Pickles: programs that loading runs, in every way that a name can be written.

use std::path::Path;

use super::hostile_case::HostileCase;
use super::making::{CONFIG, TENSORS, beside, sound, write, written};
use super::zips::{Member, archive, zip};

pub(crate) const SYSTEM: &[u8] = b"cos\nsystem\n(S'id'\ntR.";
/// One 2×2 tensor as torch writes it.
const HARMLESS: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02\
    ((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06\
    K\x04tq\x07QK\x00K\x02K\x02\x86q\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds.";
/// The arguments of a trainer, as `torch.save` writes them.
const ARGUMENTS: &[u8] = b"\x80\x02ctransformers.training_args\nTrainingArguments\nq\x00)\x81q\x01}q\x02(\
    X\x04\x00\x00\x00seedq\x03K*X\x0d\x00\x00\x00save_strategyq\x04ctransformers.trainer_utils\nSaveStrategy\nq\x05\
    X\x05\x00\x00\x00stepsq\x06\x85q\x07Rq\x08ub.";
const EXECUTES: &[&str] = &["pickle", "pickle-import"];

/// A config beside a pickle in place of the tensors.
fn alone(at: &Path, name: &str, bytes: &[u8]) {
    write(at, CONFIG, sound().config.to_string());
    write(at, name, bytes);
}

/// The layout of torch.save with this pickle.
fn torch(pickle: &[u8]) -> Vec<u8> {
    archive(&[
        Member::stored("archive/data.pkl", pickle),
        Member::stored("archive/byteorder", b"little"),
        Member::stored("archive/data/0", &[0; 16]),
        Member::stored("archive/version", b"3\n"),
    ])
}

/// An array file whose elements are objects.
fn npy(pickle: &[u8]) -> Vec<u8> {
    let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }          \n";
    [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header, pickle].concat()
}

#[expect(clippy::too_many_lines, reason = "a list reads best whole")]
pub(crate) fn all() -> Vec<HostileCase> {
    vec![
        HostileCase::new("pickle-system", EXECUTES, |at| beside(at, "adapter_model.bin", SYSTEM)),
        HostileCase::new("pickle-only", &["pickle", "pickle-import"], |at| {
            alone(at, "adapter_model.bin", SYSTEM);
        }),
        HostileCase::new("pickle-without-config", &["pickle", "pickle-import", "no-adapter"], |at| {
            write(at, "adapter_model.bin", SYSTEM);
        }),
        HostileCase::new("pickle-stack-global", EXECUTES, |at| {
            beside(at, "training_args.bin", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x031+1\x85R.");
        }),
        HostileCase::new("pickle-protocol-5", EXECUTES, |at| {
            let body = b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.";
            let frame = (body.len() as u64).to_le_bytes();
            beside(at, "state.pt", [b"\x80\x05\x95", frame.as_slice(), body].concat());
        }),
        HostileCase::new("pickle-inst", EXECUTES, |at| beside(at, "x.pkl", b"(S'id'\nios\nsystem\n.")),
        HostileCase::new("pickle-obj", EXECUTES, |at| beside(at, "x.pkl", b"(cos\nsystem\nS'id'\no.")),
        HostileCase::new("pickle-nested-reduce", EXECUTES, |at| {
            let inner = b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'id'\ntR.";
            beside(at, "x.ckpt", inner);
        }),
        HostileCase::new("pickle-built-name", EXECUTES, |at| {
            beside(at, "x.pth", b"\x80\x04\x8c\x02osc_codecs\nencode\n(\x8c\x06system\x8c\x05ascii\x74R\x93.");
        }),
        HostileCase::new("pickle-memoised-name", EXECUTES, |at| {
            beside(at, "x.pt", b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94N0h\x00h\x01\x93\x8c\x02id\x85R.");
        }),
        HostileCase::new("pickle-extension-code", EXECUTES, |at| beside(at, "x.pkl", b"\x80\x02\x82\x01)R.")),
        HostileCase::new("pickle-second-of-two", EXECUTES, |at| {
            beside(at, "x.pkl", [HARMLESS, SYSTEM].concat());
        }),
        HostileCase::new("pickle-torch-zip", EXECUTES, |at| beside(at, "adapter_model.bin", torch(SYSTEM))),
        HostileCase::new("pickle-torch-zip-of-another-name", &["pickle-import", "disguised-file"], |at| {
            alone(at, TENSORS, &torch(SYSTEM));
        }),
        HostileCase::new("pickle-named-tensors", &["pickle", "pickle-import", "disguised-file"], |at| {
            alone(at, TENSORS, SYSTEM);
        }),
        HostileCase::new("pickle-named-readme", &["pickle", "pickle-import", "disguised-file"], |at| {
            beside(at, "README.md", SYSTEM);
        }),
        HostileCase::new("pickle-optimizer", EXECUTES, |at| {
            beside(at, "optimizer.pt", torch(b"\x80\x02crunpy\n_run_code\n(S'x'\ntR."));
        }),
        HostileCase::new("pickle-in-a-folder", EXECUTES, |at| beside(at, "checkpoint-10/rng_state.pth", SYSTEM)),
        HostileCase::new("pickle-in-a-hidden-folder", EXECUTES, |at| beside(at, ".cache/x.bin", SYSTEM)),
        HostileCase::new("pickle-truncated", &["pickle", "pickle-import", "pickle-malformed"], |at| {
            beside(at, "x.pkl", &SYSTEM[..SYSTEM.len() - 2]);
        }),
        HostileCase::new("pickle-broken-after-the-call", &["pickle-import", "pickle-malformed"], |at| {
            beside(at, "x.pkl", [&SYSTEM[..SYSTEM.len() - 1], b"\xff\xff\xff"].concat());
        }),
        HostileCase::new("noise-named-pickle", &["unknown-file"], |at| {
            beside(at, "x.bin", [0xfe; 5000]);
        })
        .without(&["pickle", "pickle-malformed"]),
        HostileCase::new("arguments-of-a-trainer", &["trainer-state"], |at| {
            beside(at, "training_args.bin", torch(ARGUMENTS));
        })
        .without(&["pickle", "pickle-import"]),
        HostileCase::new("arguments-of-a-trainer-that-run", EXECUTES, |at| {
            beside(at, "training_args.bin", torch(&[&ARGUMENTS[..ARGUMENTS.len() - 1], b"0", SYSTEM].concat()));
        })
        .without(&["trainer-state"]),
        HostileCase::new("arguments-of-a-trainer-beside-a-program", &["archive", "trainer-state"], |at| {
            sound().write(at);
            let members = [Member::stored("archive/data.pkl", ARGUMENTS), Member::stored("archive/code/run.py", b"x")];
            zip(at, "training_args.bin", &members);
        }),
        HostileCase::new("optimizer-of-a-trainer", &["trainer-state"], |at| {
            beside(at, "optimizer.pt", torch(HARMLESS));
        })
        .without(&["pickle"]),
        HostileCase::new("optimizer-that-looks-up", EXECUTES, |at| {
            let call = b"c__builtin__\ngetattr\n(ccollections\nOrderedDict\nS'mro'\ntR0";
            beside(at, "optimizer.pt", torch(&[b"\x80\x02".as_slice(), call, b"}."].concat()));
        })
        .without(&["trainer-state"]),
        HostileCase::new("pickle-compressed", &["archive"], |at| beside(at, "x.joblib", b"\x78\x9c\x4b\xce\x2f\xe6")),
        HostileCase::new("pickle-claims-a-string", &["pickle", "pickle-malformed"], |at| {
            beside(at, "x.pkl", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc");
        }),
        HostileCase::new("pickle-deep", &["pickle", "pickle-malformed"], |at| {
            beside(at, "x.pkl", [b"\x80\x02".as_slice(), &b"(".repeat(4 << 20)].concat());
        }),
        HostileCase::new("pickle-of-many-objects", &["pickle", "pickle-malformed"], |at| {
            beside(at, "x.pkl", [b"\x80\x02".as_slice(), &b"N".repeat(4 << 20)].concat());
        }),
        HostileCase::new("pickle-laughs", &["pickle"], |at| {
            let mut bytes = b"\x80\x02]q\x00".to_vec();
            for level in 1..60_u8 {
                bytes.push(b'(');
                (0..10).for_each(|_| bytes.extend([b'h', level - 1]));
                bytes.extend([b'l', b'q', level]);
            }
            bytes.push(b'.');
            beside(at, "x.pkl", bytes);
        })
        .without(&["pickle-import", "pickle-malformed"]),
        HostileCase::new("pickle-memo-bomb", &["pickle", "pickle-malformed"], |at| {
            sound().write(at);
            written(at, "x.pkl", |file| {
                file.write_all(b"\x80\x04N").expect("written");
                (0..4_000_000_u32).for_each(|index| {
                    file.write_all(b"r").expect("written");
                    file.write_all(&index.wrapping_mul(977).to_le_bytes()).expect("written");
                });
                file.write_all(b".").expect("written");
            });
        }),
        HostileCase::new("pickle-of-many-imports", EXECUTES, |at| {
            sound().write(at);
            written(at, "x.pkl", |file| {
                (0..100_000).for_each(|index| file.write_all(format!("cm{index}\nf\n0").as_bytes()).expect("written"));
                file.write_all(b"N.").expect("written");
            });
        }),
        HostileCase::new("npy-of-objects", EXECUTES, |at| beside(at, "x.npy", npy(SYSTEM))),
        HostileCase::new("npz-of-objects", &["archive", "pickle", "pickle-import"], |at| {
            sound().write(at);
            zip(at, "x.npz", &[Member::stored("arr_0.npy", &npy(SYSTEM))]);
        }),
        HostileCase::new("npy-without-header", EXECUTES, |at| beside(at, "x.npy", SYSTEM)),
        HostileCase::new("pickle-of-a-tensor", &["pickle"], |at| {
            alone(at, "adapter_model.bin", HARMLESS);
        })
        .without(&["pickle-import", "pickle-malformed"]),
        HostileCase::new("torch-file-of-a-tensor", &["pickle"], |at| {
            alone(at, "adapter_model.bin", &torch(HARMLESS));
        })
        .without(&["pickle-import", "pickle-malformed", "archive-hostile"]),
    ]
}
