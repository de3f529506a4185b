use proptest::prelude::*;

use super::{Expected, Hidden, PickleFault, is_known_safe, looks_like, observe, read, read_file};
use crate::check::{Check, Observation};

/// `torch.save` of a dictionary with one bfloat16 matrix and one parameter: the `data.pkl` of its archive.
const STATE_DICT: &[u8] = b"\
      \x80\x02}q\x00(X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00sto\
      rageq\x03ctorch\nBFloat16Storage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\
      \x00K\x02K\x02\x86q\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\x0dX\x01\
      \x00\x00\x00nq\x0ectorch._utils\n_rebuild_parameter\nq\x0fh\x02((h\x03ctorch\nFloatStorage\nq\x10X\
      \x01\x00\x00\x001q\x11h\x06K\x01tq\x12QK\x00K\x01\x85q\x13K\x01\x85q\x14\x89h\n)Rq\x15tq\x16Rq\x17\
      \x88h\n)Rq\x18\x87q\x19Rq\x1au.";
/// The same in torch's old layout: five pickles, then raw storages.
const OLD_LAYOUT: &[u8] = b"\
      \x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00\x00protocol_v\
      ersionq\x01M\xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88X\n\x00\x00\x00type_sizesq\x03}q\x04(X\
      \x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu.\x80\
      \x02}q\x00X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\
      \x03ctorch\nFloatStorage\nq\x04X\x0e\x00\x00\x0094740152925920q\x05X\x03\x00\x00\x00cpuq\x06K\x04Ntq\
      \x07QK\x00K\x02K\x02\x86q\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\
      \x0ds.\x80\x02]q\x00X\x0e\x00\x00\x0094740152925920q\x01a.\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
/// `pickle.dumps` of a numpy array, protocols 2, 4 (a scalar) and 5.
const NUMPY: [&[u8]; 3] = [
    b"\
      \x80\x02cnumpy._core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02c_codecs\nen\
      code\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\x87q\x08Rq\x09(K\x01K\
      \x02\x85q\ncnumpy\ndtype\nq\x0bX\x02\x00\x00\x00f8q\x0c\x89\x88\x87q\x0dRq\x0e(K\x03X\x01\x00\x00\
      \x00<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\x89h\x03X\x10\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00q\x11h\x05\x86q\x12Rq\x13tq\x14b.",
    b"\
      \x80\x04\x95f\x00\x00\x00\x00\x00\x00\x00\x8c\x16numpy._core.multiarray\x94\x8c\x06scalar\x94\x93\
      \x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94\
      NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bC\x04\x00\x00\x00@\x94\x86\x94R\x94.",
    b"\
      \x80\x05\x95\x84\x00\x00\x00\x00\x00\x00\x00\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\
      \x93\x94(\x96\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f8\x94\x89\x88\x87\x94R\x94(K\x03\
      \x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bK\x02\x85\x94\x8c\x01C\x94t\x94R\x94.",
];

fn observed(bytes: &[u8]) -> Vec<Observation> {
    let mut found = Vec::new();
    observe("file", bytes, Expected::Nothing, &mut found);
    found
}

fn checks(bytes: &[u8]) -> Vec<Check> {
    observed(bytes).iter().map(|observation| observation.check).collect()
}

/// Every import as `module.name`, whether or not the walk got to the end.
fn imports(bytes: &[u8]) -> Vec<String> {
    let content = read(bytes).unwrap_or_else(|error| *error.seen);
    content.imports.iter().map(|import| format!("{}.{}", import.module, import.name)).collect()
}

#[test]
fn a_command_is_found_however_it_is_spelt() {
    let spellings: [&[u8]; 12] = [
        b"cos\nsystem\n(S'id'\ntR.",
        b"(S'id'\nios\nsystem\n.",
        b"(cos\nsystem\nS'id'\no.",
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
        b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x02id\x85R.",
        b"\x80\x04X\x02\x00\x00\x00os\
          r\xff\xff\x00\x000(U\x06system1j\xff\xff\x00\x00\x8d\x06\x00\x00\x00\x00\x00\x00\x00system\x93.",
        b"S'o\\x73'\np7\n0g7\nV\\u0073ystem\n\x93(NtR.",
        b"T\x02\x00\x00\x00osB\x06\x00\x00\x00system\x93.",
        b"C\x02os\x8e\x06\x00\x00\x00\x00\x00\x00\x00system\x93.",
        b"N0(1\x8c\x06systemq\x00\x8c\x02os2h\x00\x93.",
        b"](K\x01e0\x8c\x02os\x96\x06\x00\x00\x00\x00\x00\x00\x00system\x93)\x81.",
    ];
    for bytes in spellings {
        assert_eq!(imports(bytes), ["os.system"], "{}", bytes.escape_ascii());
        read(bytes).unwrap();
        assert_eq!(checks(bytes), [Check::Pickle, Check::PickleImport]);
        assert!(observed(bytes)[1].place.starts_with("os.system, byte "));
    }
}

#[test]
fn calls_within_calls_are_followed() {
    let bytes = b"\x80\x02cbuiltins\neval\ncbuiltins\ngetattr\ncos\npopen\nX\x04\x00\x00\x00read\x86R\x85R.";
    assert_eq!(imports(bytes), ["builtins.eval", "builtins.getattr", "os.popen"]);
    assert_eq!(read(bytes).unwrap().calls, 2);
}

#[test]
fn what_has_no_name_is_reported() {
    let hidden = |bytes: &[u8]| read(bytes).unwrap().unresolved[0].hidden;
    assert_eq!(hidden(b"\x80\x04cbuiltins\nstr\n)R\x8c\x06system\x93."), Hidden::BuiltName);
    assert_eq!(hidden(b"\x82\x07."), Hidden::Extension(7));
    assert_eq!(hidden(b"\x83\x01\x02."), Hidden::Extension(513));
    assert_eq!(hidden(b"\x84\x01\x00\x00\x01."), Hidden::Extension(0x0100_0001));
    assert_eq!(hidden(b"ccollections\nOrderedDict\n}b."), Hidden::ChangedImport);
    assert_eq!(checks(b"\x82\x07."), [Check::Pickle, Check::PickleImport]);
}

#[test]
fn a_broken_tail_hides_nothing() {
    let payload = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R";
    for tail in [b"".as_slice(), b"\xff", b"X\xff\xff\xff\xff", b"h\x63.", b"000.", b"t", b"\x80\x09"] {
        let bytes = [payload.as_slice(), tail].concat();
        assert_eq!(imports(&bytes), ["os.system"]);
        assert_eq!(checks(&bytes), [Check::Pickle, Check::PickleImport, Check::PickleMalformed]);
        assert!(looks_like(&bytes));
    }
}

#[test]
fn faults_name_the_byte() {
    let fault = |bytes: &[u8]| read(bytes).unwrap_err().fault;
    assert_eq!(fault(b""), PickleFault::Truncated { at: 0 });
    assert_eq!(fault(b"N"), PickleFault::Truncated { at: 1 });
    assert_eq!(fault(b"N\xfe."), PickleFault::UnknownOpcode { opcode: 0xfe, at: 1 });
    assert_eq!(fault(b"\x8e\0\0\0\0\0\0\0\x80x."), PickleFault::Truncated { at: 0 });
    assert_eq!(fault(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx."), PickleFault::Truncated { at: 0 });
    assert_eq!(fault(b"T\xff\xff\xff\xffx."), PickleFault::Operand { what: "a length", at: 0 });
    assert_eq!(fault(b"N(0R."), PickleFault::Underflow { at: 3 });
    assert_eq!(fault(b"N(R."), PickleFault::Underflow { at: 2 });
    assert_eq!(fault(b"Nt."), PickleFault::NoMark { at: 1 });
    assert_eq!(fault(b"h\x05."), PickleFault::MissingMemo { index: 5, at: 0 });
    assert_eq!(fault(b"\x80\x06."), PickleFault::Protocol { version: 6, at: 0 });
    assert_eq!(fault(b"Sx\n."), PickleFault::Operand { what: "a quoted string", at: 0 });
    assert_eq!(fault(b"Nz.").to_string(), "0x7a at byte 1 is no opcode");
}

#[test]
fn bombs_are_stopped() {
    let limit = |bytes: &[u8]| matches!(read(bytes).unwrap_err().fault, PickleFault::Limit { .. });
    assert!(limit(&vec![b'('; (1 << 20) + 1]));
    assert!(limit(&vec![b'N'; (1 << 20) + 1]));
    assert!(limit(&b"N0".repeat(1 << 24)));
    let memo: Vec<u8> = (0..600_000_u32).flat_map(|index| [b"r".as_slice(), &index.to_le_bytes()].concat()).collect();
    assert!(limit(&[b"N".as_slice(), &memo].concat()));
    let names: Vec<u8> = (0..5000).flat_map(|index| format!("cm{index}\nn\n0").into_bytes()).collect();
    assert!(limit(&names));
    assert!(limit(&b"\x82\x010".repeat(5000)));
    // A long string that is looked up over and over is not read over and over.
    let long = [b"V".as_slice(), &vec![b'a'; 1 << 20], b"\np0\n", &b"g0\ng0\n\x930".repeat(100_000), b"."].concat();
    assert_eq!(imports(&long).len(), 1);
}

#[test]
fn torch_files_need_only_what_is_known() {
    assert_eq!(checks(STATE_DICT), [Check::Pickle]);
    let content = read(STATE_DICT).unwrap();
    assert_eq!((content.end, content.persistent_ids, content.protocol), (STATE_DICT.len() as u64, 2, 2));
    for bytes in NUMPY {
        assert_eq!(checks(bytes), [Check::Pickle]);
    }
    assert_eq!(checks(OLD_LAYOUT), [Check::Pickle]);
    let file = read_file(OLD_LAYOUT);
    assert_eq!((file.pickles, file.trailing, file.content.imports.len()), (5, 24, 3));
}

#[test]
fn later_pickles_are_followed_too() {
    let second = [b"\x80\x02}.".as_slice(), b"cos\nsystem\n(S'id'\ntR"].concat();
    assert_eq!(checks(&second), [Check::Pickle, Check::PickleImport, Check::PickleMalformed]);
    let raw = [b"\x80\x02}.".as_slice(), &[0; 100]].concat();
    assert_eq!(checks(&raw), [Check::Pickle]);
    assert_eq!(read_file(&raw).trailing, 100);
}

#[test]
fn long_lists_are_cut() {
    let names: Vec<u8> = (0..50).flat_map(|index| format!("cm{index}\nn\n0").into_bytes()).collect();
    let found = observed(&[&names, b"N.".as_slice()].concat());
    assert_eq!(found.iter().filter(|observation| observation.check == Check::PickleImport).count(), 21);
    assert!(found[21].message.contains("30 more"), "{}", found[21].message);
}

#[test]
fn names_are_shown_escaped() {
    let found = observed("ca\u{202e}\u{1b}[31m\nx\r\n.".as_bytes());
    assert_eq!(found[1].place, "a\\u{202e}\\u{1b}[31m.x\\u{d}, byte 0");
}

#[test]
fn only_what_tensors_need_is_known() {
    let known = [
        ("torch", "FloatStorage"),
        ("torch.cuda", "HalfStorage"),
        ("torch", "bfloat16"),
        ("torch", "ByteTensor"),
        ("__builtin__", "set"),
        ("numpy.core.multiarray", "_reconstruct"),
    ];
    assert!(known.iter().all(|(module, name)| is_known_safe(module, name)));
    let unknown = [
        ("torch.storage", "_load_from_bytes"),
        ("torch", "storage._load_from_bytes"),
        ("torch", "load"),
        ("torch", "EvilStorage"),
        ("torch", "FloatStorage.from_file"),
        ("torch.jit", "load"),
        ("torch.hub", "load"),
        ("builtins", "getattr"),
        ("builtins", "eval"),
        ("collections", "OrderedDict.__init__"),
        ("collections", "defaultdict"),
        ("numpy", "load"),
        ("numpy.testing._private.utils", "runstring"),
        ("_codecs", "decode"),
        ("copyreg", "_reconstructor"),
        ("torch._utils", ""),
        ("", ""),
    ];
    assert!(!unknown.iter().any(|(module, name)| is_known_safe(module, name)));
}

#[test]
fn text_is_no_pickle() {
    let texts: [&str; 16] = [
        "",
        "{\"a\": [1, 2, 3]}",
        "[]",
        "# Title\n\nSome *text*.\n",
        "cat\ndog\nbird\n",
        "cat\ndog\nIguana\nLion\nPig\nVole\n",
        "cache\ndist\n.venv\n",
        "(see below)\n",
        "()",
        "]",
        "}\n",
        "N.",
        "import os\nos.system('id')\n.",
        "X-ray of a model",
        "license: mit\nbase_model: x\n---\n",
        "version https://git-lfs.github.com/spec/v1\n",
    ];
    for text in texts {
        assert!(!looks_like(text.as_bytes()), "{text:?}");
    }
    assert!(!looks_like(b"\x80\x02\0\0\0\0"));
}

#[test]
fn pickles_are_recognised() {
    let pickles: [&[u8]; 9] = [
        STATE_DICT,
        OLD_LAYOUT,
        b"\x80\x04\x95",
        b"cposix\nsystem\n(S'id'\ntR.",
        b"cposix\nsystem\n(S'a command that is cut",
        b"N0cposix\nsystem\n(S'id'\ntR rubbish",
        b"(S'id'\niposix\nsystem\n.",
        b"\x80\x00cposix\nsystem\n(S'id'\ntR.",
        b"(dp0\nS'a'\np1\nI1\ns.",
    ];
    for bytes in pickles {
        assert!(looks_like(bytes), "{}", bytes.escape_ascii());
    }
}

/// Opcodes and small operands that get far on a symbolic stack.
const OPCODES: &[u8] = b"(0123tlduesab)]}NIS'cio\nRpgqhXUVQP.\x80\x82\x85\x86\x87\x93\x94\x8c\x01\x02";

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(read_file(&bytes).content.end <= bytes.len() as u64);
        prop_assert!(!observed(&bytes).is_empty());
        looks_like(&bytes);
    }

    #[test]
    fn random_opcodes_do_no_harm(
        bytes in prop::collection::vec(prop::sample::select(OPCODES.to_vec()), 0..400),
    ) {
        observed(&bytes);
        looks_like(&bytes);
    }

    #[test]
    fn mutated_pickles_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        which in 0..5_usize,
    ) {
        let mut bytes = [STATE_DICT, OLD_LAYOUT, NUMPY[0], NUMPY[1], NUMPY[2]][which].to_vec();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        observed(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        observed(&bytes);
    }

    #[test]
    fn a_cut_keeps_what_came_before(cut in 40..300_usize) {
        prop_assume!(cut < STATE_DICT.len());
        prop_assert!(imports(STATE_DICT).starts_with(&imports(&STATE_DICT[..cut])));
    }
}
