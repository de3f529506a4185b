use super::{Expected, observe};
use crate::check::Check;

/// Made by `data/make.py`: what training libraries write, without the libraries.
const ARGUMENTS: [&[u8]; 3] = [
    include_bytes!("data/training_args.pkl"),
    include_bytes!("data/training_args_sft.pkl"),
    include_bytes!("data/training_args_grpo_4.pkl"),
];
const STATES: [&[u8]; 5] = [
    include_bytes!("data/optimizer.pkl"),
    include_bytes!("data/scheduler.pkl"),
    include_bytes!("data/scaler.pkl"),
    include_bytes!("data/rng_state.pkl"),
    include_bytes!("data/random_states_5.pkl"),
];
/// An object of settings with no fields, up to what it is given: `{` … `}b.`
const EMPTY: &[u8] = b"\x80\x02ctransformers.training_args\nTrainingArguments\n)\x81}b.";

fn checks(bytes: &[u8], expected: Expected) -> Vec<Check> {
    let mut found = Vec::new();
    observe("file", bytes, expected, &mut found);
    found.iter().map(|seen| seen.check).collect()
}

/// The arguments of a trainer with one field, whose value these opcodes make.
fn with_field(value: &[u8]) -> Vec<u8> {
    let start = b"\x80\x02ctransformers.training_args\nTrainingArguments\n)\x81}X\x01\x00\x00\x00a".as_slice();
    [start, value, b"sb."].concat()
}

#[test]
fn what_trainers_write_is_one_line() {
    for bytes in ARGUMENTS.into_iter().chain([EMPTY]) {
        assert_eq!(checks(bytes, Expected::Arguments), [Check::TrainerState]);
        assert!(checks(bytes, Expected::State).contains(&Check::PickleImport), "the name decides what is expected");
        assert!(checks(bytes, Expected::Nothing).contains(&Check::PickleImport));
    }
    for bytes in STATES {
        assert_eq!(checks(bytes, Expected::State), [Check::TrainerState]);
        assert_eq!(checks(bytes, Expected::Nothing), [Check::Pickle]);
    }
}

#[test]
fn names_decide_what_is_expected() {
    for name in ["training_args.bin", "checkpoint-10/training_args.bin"] {
        assert_eq!(Expected::of_name(name), Expected::Arguments, "{name}");
    }
    for name in [
        "optimizer.pt",
        "optimizer.bin",
        "optimizer_1.bin",
        "scheduler.pt",
        "scaler.pt",
        "a/rng_state.pth",
        "rng_state_12.pth",
        "random_states_0.pkl",
    ] {
        assert_eq!(Expected::of_name(name), Expected::State, "{name}");
    }
    for name in [
        "adapter_model.bin",
        "optimizer.pkl",
        "training_args.pt",
        "training_args_x.bin",
        "rng_state_a.pth",
        "xoptimizer.pt",
        "optimizer.pt.bin",
        "optimizer",
    ] {
        assert_eq!(Expected::of_name(name), Expected::Nothing, "{name}");
    }
}

#[test]
fn usual_values_are_usual() {
    let usual: [&[u8]; 15] = [
        b"N",
        b"K\x01",
        b"X\x02\x00\x00\x00no",
        b"]",
        b"]K\x01a",
        b"ctransformers.trainer_utils\nIntervalStrategy\nX\x02\x00\x00\x00no\x85R",
        b"c__builtin__\ngetattr\nctransformers.trainer_utils\nIntervalStrategy\nX\x02\x00\x00\x00NO\x86R",
        b"ctorch\ndevice\nX\x04\x00\x00\x00cudaK\x00\x86R",
        b"ctorch\nbfloat16\n",
        b"ctrl.trainer.sft_config\nSFTConfig\n)\x81}b",
        b"cllamafactory.hparams.training_args\nTrainingArguments\n)\x81}b",
        b"csentence_transformers.training_args\nBatchSamplers\nX\x01\x00\x00\x00a\x85R",
        b"caxolotl.core.training_args\nAxolotlDPOConfig\n)\x81}b",
        b"ccollections\nOrderedDict\n)RX\x01\x00\x00\x00aK\x01s",
        b"c__builtin__\nset\n]K\x01a\x85R",
    ];
    for value in usual {
        assert_eq!(checks(&with_field(value), Expected::Arguments), [Check::TrainerState], "{}", value.escape_ascii());
    }
}

#[test]
fn one_thing_of_another_kind_is_enough() {
    let odd: [&[u8]; 27] = [
        // Other imports, called or not.
        b"cos\nsystem\n",
        b"cposix\nsystem\nX\x02\x00\x00\x00id\x85R",
        b"ctransformers.training_args\nPath\n)\x81}b",
        b"ctransformers.trainer_utils\nset_seed\nK\x01\x85R",
        b"caccelerate.utils.dataclasses\nos\n",
        b"ctrl.trainer.sft_config\nos.system\n",
        b"ctrl.trainer.utils\nSFTConfig\n)\x81}b",
        b"caxolotl.core.training_args\nConfig\n)\x81}b",
        b"caxolotl.core.training_args\nAxolotl.os.Config\n)\x81}b",
        b"cllamafactory.hparams.training_args\nos.system\n)\x81}b",
        b"cevil.trl.trainer.sft_config\nSFTConfig\n)\x81}b",
        b"ctrl.trainer.sft_config\nload_Config\nX\x01\x00\x00\x00a\x85R",
        b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R",
        // Known imports, called otherwise.
        b"ctransformers.training_args\nTrainingArguments\nX\x04\x00\x00\x00/tmp\x85R",
        b"ctransformers.training_args\nTrainingArguments\nX\x04\x00\x00\x00/tmp\x85\x81",
        b"(X\x04\x00\x00\x00/tmpitransformers.training_args\nTrainingArguments\n",
        b"(ctransformers.training_args\nTrainingArguments\nX\x04\x00\x00\x00/tmpo",
        b"ctransformers.trainer_utils\nIntervalStrategy\nX\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86R",
        b"ctransformers.trainer_utils\nIntervalStrategy\n(K\x01K\x01l\x85R",
        // What getattr reaches.
        b"cbuiltins\ngetattr\nctransformers.training_args\nTrainingArguments\nX\x02\x00\x00\x00NO\x86R",
        b"cbuiltins\ngetattr\nctransformers.trainer_utils\nIntervalStrategy\nX\x0a\x00\x00\x00__init__\x41\x42\x86R",
        b"cbuiltins\ngetattr\nctransformers.trainer_utils\nIntervalStrategy\nX\x03\x00\x00\x00mro\x86R",
        b"cbuiltins\ngetattr\nctransformers.trainer_utils\nIntervalStrategy\nX\x02\x00\x00\x00NO\x86R)R",
        // Objects that are given more than fields.
        b"ctransformers.training_args\nTrainingArguments\n)\x81}}\x86b",
        b"ctransformers.training_args\nTrainingArguments\n)\x81K\x01a",
        b"ctransformers.training_args\nTrainingArguments\n}b",
        b"ctransformers.training_args\nTrainingArguments\n)\x81X\x01\x00\x00\x00aK\x01s",
    ];
    for value in odd {
        let found = checks(&with_field(value), Expected::Arguments);
        assert!(found.contains(&Check::Pickle) && !found.contains(&Check::TrainerState), "{}", value.escape_ascii());
    }
}

#[test]
fn arrays_are_of_numbers() {
    let array = |kind: &[u8], flags: &[u8], data: &[u8]| {
        [
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00".as_slice(),
            kind,
            b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff",
            flags,
            b"tb\x89",
            data,
            b"tb.",
        ]
        .concat()
    };
    let sound = array(b"u4", b"K\x00", b"C\x04abcd");
    assert_eq!(checks(&sound, Expected::State), [Check::TrainerState]);
    for other in [
        array(b"O8", b"K\x00", b"C\x04abcd"),
        array(b"V8", b"K\x00", b"C\x04abcd"),
        array(b"u4", b"K\x3f", b"C\x04abcd"),
        array(b"u4", b"K\x00", b"]K\x01a"),
    ] {
        assert_eq!(checks(&other, Expected::State), [Check::Pickle], "{}", other.escape_ascii());
    }
}

#[test]
fn what_claims_more_than_the_file_has_is_no_pickle() {
    use super::{Glance, glance, loads};
    for start in [b"Text of a note".as_slice(), b"X\xff\xff\xff\x7f", b"\x8d\xff\xff\xff\xff\xff\0\0\0", b"B1234567"] {
        let bytes = [start, &[b'a'; 100]].concat();
        assert_eq!(glance(&bytes, 1 << 20), Glance::Other, "{}", start.escape_ascii());
        assert!(!loads(&bytes, 1 << 20), "{}", start.escape_ascii());
        assert_eq!(glance(&bytes, u64::MAX), Glance::Cut, "{}", start.escape_ascii());
    }
    let long = [b"X\0\x10\0\0".as_slice(), &[b'a'; 100]].concat();
    assert_eq!((glance(&long, 1 << 20), loads(&long, 1 << 20)), (Glance::Cut, true));
    assert_eq!((glance(&long, 105), loads(&long, 105)), (Glance::Other, false));
}

#[test]
fn a_file_is_one_pickle_to_its_end() {
    for tail in [b"cos\nsystem\n".as_slice(), b"rest", EMPTY] {
        let bytes = [EMPTY, tail].concat();
        let is_known = checks(&bytes, Expected::Arguments) == [Check::TrainerState];
        assert_eq!(is_known, tail == EMPTY, "{}", tail.escape_ascii());
    }
    assert!(checks(&EMPTY[..EMPTY.len() - 1], Expected::Arguments).contains(&Check::PickleMalformed));
}
