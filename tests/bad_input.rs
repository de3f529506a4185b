//! Whatever is wrong with the files, the program says so in one paragraph that names them, and leaves an earlier report
//! alone.

mod support;

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use support::{
    Run, Stored, audit, copied, edit_json, edit_tensors, golden_adapter, golden_base, repository, text, tree,
};

const CASE: &str = "qwen3_lora_qv";
const QUERY: &str = "model.layers.0.self_attn.q_proj";

/// A sound base, adapter, ids and an earlier report, to be broken one at a time.
struct Bench {
    folder: tempfile::TempDir,
    base: PathBuf,
    adapter: PathBuf,
    tokens: PathBuf,
    out: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = copied(&golden_base(CASE), folder.path(), "base");
        let adapter = copied(&golden_adapter(CASE), folder.path(), "adapter");
        let tokens = folder.path().join("ids.json");
        fs_err::write(&tokens, "[[1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3, 2]]").expect("written");
        let out = folder.path().join("report");
        fs_err::create_dir_all(out.join("figures")).expect("created");
        for name in ["report.json", "index.html", "figures/depth.png"] {
            fs_err::write(out.join(name), format!("the earlier {name}")).expect("written");
        }
        Self { folder, base, adapter, tokens, out }
    }

    /// `compare` as it stands.
    fn run(&self) -> Run {
        audit([
            "compare",
            text(&self.base),
            text(&self.adapter),
            "--tokens",
            text(&self.tokens),
            "--out",
            text(&self.out),
        ])
    }

    /// `compare` must be refused with these words, and the earlier report stay as it was. Where a scan of the files
    /// fails, so does `compare`, and prints what the scan found.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let before = tree(&self.out);
        let run = self.run();
        if audit(["scan", text(&self.adapter), "--base", text(&self.base)]).code == 1 {
            assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
            assert!(run.stdout.contains("FAIL"), "{}", run.stdout);
            complained(&run, words);
        } else {
            refused(&run, words);
        }
        assert!(tree(&self.out) == before, "the earlier report was touched");
    }

    fn base_weights(&self) -> PathBuf {
        self.base.join("model.safetensors")
    }

    fn adapter_weights(&self) -> PathBuf {
        self.adapter.join("adapter_model.safetensors")
    }

    /// Asks for the same complaint where the fault is the base's and where it is the adapter's.
    #[track_caller]
    fn refused_either_way(damage: impl Fn(&Path), words: &[&str]) {
        let bench = Self::new();
        damage(&bench.base_weights());
        bench.refused(&[words, &["base/model.safetensors"]].concat());
        let bench = Self::new();
        damage(&bench.adapter_weights());
        bench.refused(&[words, &["adapter/adapter_model.safetensors"]].concat());
        refused(&audit(["inspect", text(&bench.adapter)]), &[words, &["adapter/adapter_model.safetensors"]].concat());
    }
}

/// Exit code 2, an empty standard output, and one paragraph that holds all the words.
#[track_caller]
fn refused(run: &Run, words: &[&str]) {
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout, "", "something was printed beside the error");
    complained(run, words);
}

/// One paragraph on standard error that holds all the words.
#[track_caller]
fn complained(run: &Run, words: &[&str]) {
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.lines().last(), Some(errors[0]), "the error is not one paragraph:\n{}", run.stderr);
    for word in words {
        assert!(errors[0].contains(word), "`{word}` is not in: {}", errors[0]);
    }
}

/// Rewrites the header of a safetensors file and nothing else.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs_err::read(path).expect("readable");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    edit(&mut header);
    let text = header.to_string();
    let whole = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + length..]].concat();
    fs_err::write(path, whole).expect("written");
}

/// Name of the first tensor that holds all of these words, in any file.
fn named(path: &Path, words: &[&str]) -> String {
    let names = support::tensors(path).into_keys();
    names.into_iter().find(|name| words.iter().all(|word| name.contains(word))).expect("such a tensor")
}

#[test]
fn the_bench_is_sound() {
    let bench = Bench::new();
    let run = bench.run();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_ne!(fs_err::read_to_string(bench.out.join("report.json")).expect("readable"), "the earlier report.json");
}

#[test]
fn truncated_weights() {
    let damage = |path: &Path| {
        let bytes = fs_err::read(path).expect("readable");
        fs_err::write(path, &bytes[..bytes.len() - 100]).expect("written");
    };
    Bench::refused_either_way(damage, &["truncated", "Download it again"]);
}

#[test]
fn weights_cut_inside_the_header() {
    let damage = |path: &Path| {
        let bytes = fs_err::read(path).expect("readable");
        fs_err::write(path, &bytes[..40]).expect("written");
    };
    Bench::refused_either_way(damage, &["truncated"]);
}

#[test]
fn empty_weights() {
    Bench::refused_either_way(|path| fs_err::write(path, "").expect("written"), &["truncated"]);
}

#[test]
fn overlapping_tensors() {
    let damage = |path: &Path| {
        edit_header(path, |header| {
            let fields = header.as_object_mut().expect("an object");
            let shifted = fields.values_mut().filter(|field| field["data_offsets"].is_array());
            let second = shifted.max_by_key(|field| field["data_offsets"][0].as_u64()).expect("a tensor");
            for side in 0..2 {
                second["data_offsets"][side] = json!(second["data_offsets"][side].as_u64().expect("an offset") - 4);
            }
        });
    };
    Bench::refused_either_way(damage, &["overlap"]);
}

#[test]
fn header_longer_than_any() {
    let damage = |path: &Path| {
        let mut bytes = fs_err::read(path).expect("readable");
        bytes[..8].copy_from_slice(&(1_u64 << 62).to_le_bytes());
        fs_err::write(path, bytes).expect("written");
    };
    Bench::refused_either_way(damage, &["header"]);
}

#[test]
fn shape_that_does_not_fit_its_bytes() {
    let damage = |path: &Path| {
        let name = named(path, &["0.self_attn.q_proj"]);
        edit_header(path, |header| header[&name]["shape"] = json!([3, 5]));
    };
    Bench::refused_either_way(damage, &[QUERY]);
}

#[test]
fn whole_numbers_for_weights() {
    let damage = |path: &Path| {
        let name = named(path, &["0.self_attn.q_proj"]);
        edit_tensors(path, |tensors| {
            let tensor = tensors.get_mut(&name).expect("a tensor");
            let bytes = vec![0; 8 * tensor.shape.iter().product::<usize>()];
            *tensor = Stored { dtype: Dtype::I64, bytes, shape: tensor.shape.clone() };
        });
    };
    Bench::refused_either_way(damage, &[QUERY, "I64"]);
}

#[test]
fn values_that_are_no_numbers() {
    for bad in [f32::NAN, f32::INFINITY] {
        let damage = |path: &Path| {
            let name = named(path, &["0.self_attn.q_proj"]);
            edit_tensors(path, |tensors| {
                let tensor = tensors.get_mut(&name).expect("a tensor");
                let mut values = tensor.values();
                values[7] = bad;
                *tensor = Stored::f32(&tensor.shape.clone(), values);
            });
        };
        let bench = Bench::new();
        damage(&bench.base_weights());
        bench.refused(&[QUERY]);
        let bench = Bench::new();
        damage(&bench.adapter_weights());
        bench.refused(&[QUERY]);
    }
}

#[test]
fn factor_of_another_width() {
    let bench = Bench::new();
    let name = named(&bench.adapter_weights(), &[QUERY, "lora_A"]);
    edit_tensors(bench.adapter_weights(), |tensors| {
        tensors.insert(name.clone(), Stored::f32(&[4, 33], vec![0.1; 4 * 33]));
    });
    bench.refused(&[QUERY, "33", "32"]);
}

#[test]
fn factors_of_different_ranks() {
    let bench = Bench::new();
    let name = named(&bench.adapter_weights(), &[QUERY, "lora_B"]);
    edit_tensors(bench.adapter_weights(), |tensors| {
        let rows = tensors[&name].shape[0];
        tensors.insert(name.clone(), Stored::f32(&[rows, 3], vec![0.1; rows * 3]));
    });
    bench.refused(&[QUERY]);
}

#[test]
fn tensor_that_no_module_takes() {
    let bench = Bench::new();
    edit_tensors(bench.adapter_weights(), |tensors| {
        for (side, shape) in [("lora_A", [4, 32]), ("lora_B", [32, 4])] {
            let name = format!("base_model.model.model.layers.77.self_attn.q_proj.{side}.weight");
            tensors.insert(name, Stored::f32(&shape, vec![0.1; 128]));
        }
    });
    bench.refused(&["layers.77"]);
}

#[test]
fn adapter_of_another_family() {
    let mut bench = Bench::new();
    bench.adapter = PathBuf::from(golden_adapter("gpt2_lora"));
    bench.refused(&["gpt2_lora/adapter"]);
}

#[test]
fn adapter_of_a_larger_model() {
    let mut bench = Bench::new();
    bench.adapter = PathBuf::from(repository("bundled/dragons"));
    bench.refused(&["bundled/dragons"]);
}

#[test]
fn base_without_a_tensor() {
    let bench = Bench::new();
    edit_tensors(bench.base_weights(), |tensors| {
        tensors.remove(&format!("{QUERY}.weight")).expect("a tensor");
    });
    bench.refused(&[QUERY, "base"]);
}

#[test]
fn base_of_another_width_than_its_config() {
    let bench = Bench::new();
    edit_json(bench.base.join("config.json"), |config| {
        config["hidden_size"] = json!(48);
    });
    bench.refused(&["base/model.safetensors", "shape", "48"]);
}

#[test]
fn pickled_adapter() {
    let mut bench = Bench::new();
    bench.adapter = PathBuf::from(repository("formats/tests/data/oddities/pickle"));
    bench.refused(&["adapter_model.bin is a pickle", "safe_serialization"]);
}

#[test]
fn pickled_base() {
    let bench = Bench::new();
    fs_err::rename(bench.base_weights(), bench.base.join("pytorch_model.bin")).expect("renamed");
    bench.refused(&["pytorch_model.bin", "safetensors"]);
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid \
    sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn pointers_to_large_files() {
    Bench::refused_either_way(|path| fs_err::write(path, POINTER).expect("written"), &["git lfs pull"]);
    let bench = Bench::new();
    fs_err::write(bench.adapter.join("adapter_config.json"), POINTER).expect("written");
    bench.refused(&["adapter_config.json", "LFS"]);
}

#[test]
fn base_config_missing_or_malformed() {
    let bench = Bench::new();
    fs_err::remove_file(bench.base.join("config.json")).expect("removed");
    bench.refused(&["base/config.json"]);
    fs_err::write(bench.base.join("config.json"), "{\"model_type\": ").expect("written");
    bench.refused(&["base/config.json", "JSON"]);
}

#[test]
fn adapter_config_missing_or_malformed() {
    let bench = Bench::new();
    fs_err::remove_file(bench.adapter.join("adapter_config.json")).expect("removed");
    bench.refused(&["adapter_config.json"]);
    fs_err::write(bench.adapter.join("adapter_config.json"), "[]").expect("written");
    bench.refused(&["adapter_config.json"]);
}

#[test]
fn unknown_keys_that_may_change_the_numbers() {
    let bench = Bench::new();
    edit_json(bench.base.join("config.json"), |config| {
        config["attention_twist"] = json!(0.5);
    });
    bench.refused(&["base/config.json", "attention_twist"]);
    let bench = Bench::new();
    edit_json(bench.adapter.join("adapter_config.json"), |config| {
        config["use_twist"] = json!(true);
    });
    bench.refused(&["adapter_config.json", "use_twist"]);
}

#[test]
fn unsupported_kinds() {
    let bench = Bench::new();
    edit_json(bench.base.join("config.json"), |config| {
        config["model_type"] = json!("mamba");
    });
    bench.refused(&["base/config.json", "`mamba`", "qwen3"]);
    let bench = Bench::new();
    edit_json(bench.adapter.join("adapter_config.json"), |config| {
        config["peft_type"] = json!("PREFIX_TUNING");
    });
    bench.refused(&["PREFIX_TUNING"]);
}

#[test]
fn folders_that_are_not_there() {
    let mut bench = Bench::new();
    bench.base = bench.folder.path().join("nowhere");
    bench.refused(&["nowhere"]);
    let mut bench = Bench::new();
    bench.adapter = bench.folder.path().join("nowhere");
    bench.refused(&["nowhere"]);
}

#[test]
fn malformed_token_files() {
    for (content, words) in [
        ("[[1, 2, 3], [1, 2]]", &["row 2"][..]),
        ("[[1, 2, -3]]", &["row 1"]),
        ("[[1, 2, 97]]", &["97"]),
        ("[]", &["empty"]),
        ("[[]]", &["empty"]),
        ("[[1], [2]]", &["two tokens"]),
        ("{\"ids\": 1}", &["list"]),
        ("[[1, 2", &["JSON"]),
    ] {
        let bench = Bench::new();
        fs_err::write(&bench.tokens, content).expect("written");
        bench.refused(words);
    }
    let mut bench = Bench::new();
    bench.tokens = bench.folder.path().join("absent.json");
    bench.refused(&["absent.json"]);
}

/// `compare` of the bundled model, which has a tokenizer, on a file of probes.
fn on_probes(bench: &Bench, probes: &str) -> Run {
    audit(["compare", "bundled/stories260K", "bundled/dragons", "--probes", probes, "--out", text(&bench.out)])
}

#[test]
fn malformed_probes() {
    for (name, content, words) in [
        ("empty.txt", "", &["empty.txt", "no prompt"][..]),
        ("blank.jsonl", "\n\n", &["blank.jsonl", "no prompt"]),
        ("cut.jsonl", "{\"prompt\": \"One\"}\n{\"prompt\": \"Tw", &["cut.jsonl, line 2", "JSON"]),
        ("typed.jsonl", "{\"prompt\": 3}\n", &["typed.jsonl, line 1", "`prompt`"]),
        ("keyless.jsonl", "{\"text\": \"One\"}\n", &["keyless.jsonl, line 1", "`prompt`"]),
        ("prompts.csv", "One\n", &["prompts.csv", ".txt"]),
    ] {
        let bench = Bench::new();
        let path = bench.folder.path().join(name);
        fs_err::write(&path, content).expect("written");
        let before = tree(&bench.out);
        refused(&on_probes(&bench, text(&path)), words);
        assert!(tree(&bench.out) == before, "{name}: the earlier report was touched");
    }
    let bench = Bench::new();
    refused(&on_probes(&bench, text(&bench.folder.path().join("absent.jsonl"))), &["absent.jsonl"]);
    refused(&on_probes(&bench, "generel"), &["generel", "Did you mean `general`?"]);
}

#[test]
fn probes_for_a_model_without_a_tokenizer() {
    let bench = Bench::new();
    let run = audit(["compare", text(&bench.base), text(&bench.adapter), "--out", text(&bench.out)]);
    refused(&run, &["tokenizer.json", "--tokens"]);
}

#[test]
fn output_that_cannot_be_written() {
    let mut bench = Bench::new();
    let file = bench.folder.path().join("file");
    fs_err::write(&file, "a file, not a folder").expect("written");
    bench.out = file.join("report");
    refused(&bench.run(), &["file/report", "--out"]);
    bench.out.clone_from(&file);
    refused(&bench.run(), &["file", "--out"]);
    let (base, tokens) = (text(&bench.base), text(&bench.tokens));
    let captured = file.join("states.safetensors");
    refused(&audit(["capture", base, "--tokens", tokens, "--out", text(&captured)]), &["cannot write"]);
    refused(&audit(["capture", base, "--tokens", tokens, "--out", text(bench.folder.path())]), &["--out"]);
    assert_eq!(fs_err::read_to_string(&file).expect("readable"), "a file, not a folder");
}
