//! Each command from the command line to its files, on the bundled model.

mod support;

use std::collections::HashMap;
use std::path::Path;

use lcr_documents::digest::sha256;
use serde_json::{Value, json};
use support::{
    Stored, audit, audit_in, copied, edit_tensors, golden_adapter, golden_base, leaves, read_json, repository, text,
    tree,
};

const STORIES: &str = "bundled/stories260K";
const DRAGONS: &str = "bundled/dragons";
/// A LoRA and a DoRA adapter of the bundled model, made at random.
const LORA: &str = "formats/tests/data/adapters/stories260K/lora_layers_1_3";
const DORA: &str = "formats/tests/data/adapters/stories260K/dora_rslora_r4_all";

/// `compare` of the bundled model on a few prompts.
fn compare(adapters: &[&str], out: &Path, more: &[&str]) -> support::Run {
    let fixed = ["--out", text(out), "--max-prompts", "3", "--max-tokens", "24", "--quiet"];
    audit(["compare", STORIES].iter().chain(adapters).chain(&fixed).chain(more))
}

fn generated(prompt: &str, more: &[&str]) -> (Vec<u64>, Vec<u64>) {
    let run = audit(["generate", STORIES, "--prompt", prompt, "--json"].iter().chain(more));
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    let document = run.json();
    (numbers(&document["prompt_tokens"]), numbers(&document["tokens"]))
}

#[test]
fn greedy_continuations_are_those_of_the_reference() {
    let reference = read_json(repository("tests/data/stories260K/reference_output.json"));
    let prompts = reference["gen"].as_object().unwrap();
    assert_eq!(prompts.len(), 3);
    for (prompt, expected) in prompts {
        let expected: Vec<u64> = expected["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let prompt = if prompt == "<bos>" { "" } else { prompt };
        let (mut got, continuation) = generated(prompt, &["--max-new-tokens", "230"]);
        got.extend(continuation);
        got.truncate(expected.len());
        assert_eq!(got, expected, "{prompt:?}");
    }
}

#[test]
fn printed_text_is_that_of_the_tokens() {
    let arguments = ["generate", STORIES, "--prompt", "Once upon a time", "--max-new-tokens", "30"];
    let printed = audit(arguments);
    let document = audit(arguments.iter().chain(&["--json"])).json();
    assert_eq!(printed.stdout, format!("{}\n", document["text"].as_str().unwrap()));
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let draw =
        |seed: &str| generated("Once upon a time", &["--temperature", "1", "--seed", seed, "--max-new-tokens", "40"]).1;
    assert_eq!(draw("7"), draw("7"));
    assert_ne!(draw("7"), draw("8"));
}

#[test]
fn an_adapter_changes_what_is_written() {
    let write = |adapter: &[&str]| {
        let arguments = ["--prompt", "Once upon a time", "--max-new-tokens", "40"];
        audit(["generate", STORIES].iter().chain(adapter).chain(&arguments)).stdout
    };
    assert_ne!(write(&[]), write(&[DRAGONS]));
}

/// The second run reads what the first kept, and both say the same; verify runs a stack again.
#[test]
fn kept_answers_and_stacks_give_the_same_report_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let questions = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let run = compare(&[LORA], &out, &[&["--metrics", "tokens"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        read_json(out.join("report.json"))["questions"].clone()
    };
    let fresh = questions("fresh", &[]);
    let kept = ["--base-cache", text(&cache)];
    assert_eq!(questions("first", &kept), fresh);
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(questions("second", &kept), fresh);
    assert_eq!(fresh["composition"]["answer"], json!("not-asked"));
    let other = format!("{DORA}=0.5");
    let refused = compare(&[LORA], &folder.path().join("refused"), &["--stack", &other]);
    assert!(refused.code == 2 && refused.stderr.contains("both change `"), "{}", refused.stderr);
    // An adapter and its opposite are the base: the parts account for more than all.
    let opposite = format!("{LORA}=-1");
    let stacked = questions("stacked", &["--stack", &opposite]);
    assert_eq!(stacked["composition"]["answer"], json!("no"), "{stacked}");
    let report = folder.path().join("stacked/report.json");
    let again = audit(["verify", text(&report), "--quiet"]);
    assert_eq!(again.code, 0, "{}{}", again.stdout, again.stderr);
}

/// Two adapters make a profile; a third is held against it by `compare`, by a gate's policy and by `verify`, and a profile
/// of other probes is refused.
#[test]
fn an_adapter_is_held_against_known_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let few = ["--max-prompts", "3", "--max-tokens", "24", "--quiet"];
    let profile = place("profile.json");
    let calibrate = |adapters: &[&str], more: &[&str]| {
        let out = ["--out", text(&profile)];
        audit(["calibrate", STORIES].iter().chain(adapters).chain(&out).chain(&few).chain(more))
    };
    let first = calibrate(&[LORA], &["--date", "2026-12-01"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let started = read_json(&profile);
    let run = calibrate(&[LORA, DORA], &["--date", "2026-12-01"]);
    assert!(run.code == 0 && run.stdout.contains("2 known-good adapters"), "{}{}", run.stdout, run.stderr);
    let known = read_json(&profile);
    let of_lora =
        |profile: &Value| profile["adapters"].as_array().unwrap().iter().find(|one| one["method"] == "LoRA").cloned();
    assert_eq!(of_lora(&known), of_lora(&started), "what was measured is kept");
    assert_eq!(known["adapters"].as_array().unwrap().len(), 2);
    assert!(known["adapters"][1]["scores"]["constant"].is_f64(), "{known}");

    let pinned = ["--metrics", "tokens", "--profile", text(&profile)];
    let held = compare(&[DRAGONS], &place("held"), &pinned);
    assert_eq!(held.code, 0, "{}", held.stderr);
    let report = read_json(place("held/report.json"));
    let question = &report["questions"]["profile"];
    // One of three can be at no rate below a third.
    assert_ne!(question["answer"], json!("yes"), "{question}");
    let thirds = question["p"].as_f64().unwrap() * 3.0;
    assert!((thirds - thirds.round()).abs() < 1e-9, "{question}");
    assert!(report["questions"]["constant"]["p_known_good"].is_f64());
    let again = audit(["verify", text(&place("held/report.json")), "--quiet"]);
    assert_eq!(again.code, 0, "{}{}", again.stdout, again.stderr);
    let itself = compare(&[LORA], &place("itself"), &pinned);
    assert!(itself.stdout.contains("was left out of it"), "{}", itself.stdout);
    let refused = compare(&[DRAGONS], &place("refused"), &["--profile", text(&profile), "--probes", "math"]);
    assert!(refused.code == 2 && refused.stderr.contains("other probes"), "{}", refused.stderr);

    let quick = compare(&[DRAGONS], &place("refused"), &["--profile", text(&profile), "--depth", "quick"]);
    assert!(quick.code == 2 && quick.stderr.contains("not `quick`"), "{}", quick.stderr);

    // A gate reads 512 tokens of each prompt: its profile is made so.
    let of_gate = place("gate.json");
    let arguments = ["--max-prompts", "3", "--quiet", "--json", "--out", text(&of_gate)];
    let made = audit(["calibrate", STORIES, LORA, DORA].iter().chain(&arguments));
    assert_eq!(made.code, 0, "{}", made.stderr);
    let gated = |profile: &Path, sha256: &str| {
        let policy = format!(
            "version = 1\n[compare]\nmax_prompts = 3\n[profile]\npath = {:?}\nsha256 = \"{sha256}\"\n",
            profile.file_name().unwrap()
        );
        std::fs::write(place("policy.toml"), policy).unwrap();
        audit(["gate", DRAGONS, "--base", STORIES, "--policy", text(&place("policy.toml")), "--quiet"])
    };
    let digest = |profile: &Path| sha256(&std::fs::read(profile).unwrap());
    let passed = gated(&of_gate, &digest(&of_gate));
    assert_eq!(passed.code, 0, "{}{}", passed.stdout, passed.stderr);
    let other = gated(&of_gate, &"0".repeat(64));
    assert!(other.code == 2 && other.stderr.contains("is not the profile that the policy"), "{}", other.stderr);
    let read_otherwise = gated(&profile, &digest(&profile));
    assert!(read_otherwise.code == 2 && read_otherwise.stderr.contains("other probes"), "{}", read_otherwise.stderr);
}

/// `answers.identity` on a user's own prompts: by `compare`, again by `verify` while the file is what it was, and by a gate.
#[test]
fn a_set_is_asked_on_prompts_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mine = place("mine.txt");
    std::fs::write(&mine, "Lily saw a red ball\nTom had a big dog\nThe sun was warm\n").unwrap();
    let named = format!("identity={}", mine.display());
    let run = compare(&[LORA], &place("own"), &["--metrics", "tokens", "--probe-set", &named]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let usual = compare(&[LORA], &place("usual"), &["--metrics", "tokens"]);
    assert_eq!(usual.code, 0, "{}", usual.stderr);
    let (own, usual) = (read_json(place("own/report.json")), read_json(place("usual/report.json")));
    assert_eq!(own["asked"]["sets"][0]["sha256"], json!(sha256(&std::fs::read(&mine).unwrap())));
    assert_ne!(own["questions"]["answers.identity"], usual["questions"]["answers.identity"]);
    assert_eq!(own["questions"]["answers.refusal"], usual["questions"]["answers.refusal"]);

    let verify = || audit(["verify", text(&place("own/report.json")), "--quiet"]);
    let again = verify();
    assert_eq!(again.code, 0, "{}{}", again.stdout, again.stderr);
    std::fs::write(&mine, "Lily saw a red ball\n").unwrap();
    let changed = verify();
    assert!(changed.code == 2 && changed.stderr.contains("is not what it was"), "{}{}", changed.stdout, changed.stderr);

    let policy = "version = 1\n[compare]\nrequired = true\ndepth = \"standard\"\nmax_prompts = 2\nprobe_sets = { NAME = \"mine.txt\" }\n";
    let gated = |name: &str| {
        std::fs::write(place("policy.toml"), policy.replace("NAME", name)).unwrap();
        audit(["gate", LORA, "--base", STORIES, "--policy", text(&place("policy.toml")), "--quiet", "--json"])
    };
    let found = gated("identity").json();
    assert_eq!(found["pins"]["asked"]["sets"][0]["name"], json!("identity"), "{found}");
    let unknown = gated("idnetity");
    assert!(unknown.code == 2 && unknown.stderr.contains("identity"), "{}", unknown.stderr);
}

/// Weights alone find what a question's line says; what is trained works on prompts that it was not trained on, and says how
/// often.
#[test]
fn a_selftest_plants_in_closed_form_and_by_training() {
    let closed = audit(["selftest", "bundled/nano", "--weights-only", "--payload", "erasure", "--json"]).json();
    assert_eq!(closed["payloads"].as_array().unwrap().len(), 1);
    assert_eq!(closed["payloads"][0]["weakest_found"], json!(0.31), "{closed}");

    let few = ["--trained", "--payload", "identity", "--max-prompts", "8", "--json", "--quiet"];
    let run = audit(["selftest", "bundled/nano"].iter().chain(&few));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let trained = run.json();
    let strongest = &trained["payloads"][0]["tried"][0];
    assert_eq!(strongest["strength"], json!(1.0));
    assert!(strongest["works"].as_f64().unwrap() >= 0.5, "{strongest}");
    assert!(strongest["false_fires"].as_f64().unwrap() <= 0.1, "{strongest}");
    assert_ne!(strongest["answer"], json!("not-asked"));

    let nothing = audit(["selftest", STORIES, "--payload", "token-backdoor", "--quiet"]);
    assert!(nothing.code == 2 && nothing.stderr.contains("--trained"), "{}", nothing.stderr);
}

#[test]
fn compare_without_arguments_writes_a_report_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .current_dir(folder.path())
        .env("TMPDIR", scratch.path())
        .arg("compare")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("bundled:nano-lcr on bundled:nano") && printed.contains("verdict"), "{printed}");
    let files = tree(folder.path());
    let is_expected =
        |name: &str| name.starts_with("audit/figures/") || ["audit/report.json", "audit/index.html"].contains(&name);
    assert!(files.contains_key("audit/report.json") && files.contains_key("audit/index.html"));
    assert!(files.keys().any(|name| name.starts_with("audit/figures/")), "{:?}", files.keys());
    assert!(files.keys().all(|name| is_expected(name)), "{:?}", files.keys());
    assert!(tree(scratch.path()).is_empty(), "temporary files are left");
    for (name, bytes) in files.iter().filter(|(name, _)| name.contains("/figures/")) {
        assert!(bytes.starts_with(b"\x89PNG"), "{name}");
    }
    let page = String::from_utf8(files["audit/index.html"].clone()).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") || page.starts_with("<!doctype html>"));
    conforms(&serde_json::from_slice(&files["audit/report.json"]).unwrap());
}

/// Holds a report against the published schema: the parts of JSON Schema that it uses.
#[track_caller]
fn conforms(report: &Value) {
    fn matches_type(value: &Value, name: &str) -> bool {
        match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("the schema has a type `{other}`"),
        }
    }
    fn faults(value: &Value, schema: &Value, root: &Value, path: &str) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not defined"));
            return faults(value, target, root, path);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(options) = schema[choice].as_array() {
                let of_each: Vec<Vec<String>> =
                    options.iter().map(|option| faults(value, option, root, path)).collect();
                let fits = of_each.iter().any(Vec::is_empty);
                return if fits { Vec::new() } else { of_each.into_iter().flatten().collect() };
            }
        }
        let mut found = Vec::new();
        let fits = match &schema["type"] {
            Value::String(name) => matches_type(value, name),
            Value::Array(names) => names.iter().any(|name| matches_type(value, name.as_str().unwrap())),
            _ => true,
        };
        let listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
        if !fits || !listed || schema.get("const").is_some_and(|only| only != value) {
            found.push(format!("{path}: {value} is not {}", schema["type"]));
        }
        if let Some(fields) = value.as_object() {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(required.filter(|key| !fields.contains_key(*key)).map(|key| format!("{path}/{key}: missing")));
            for (key, field) in fields {
                let path = format!("{path}/{key}");
                match (schema["properties"].get(key), schema.get("additionalProperties")) {
                    (Some(inner), _) | (None, Some(inner @ Value::Object(_))) => {
                        found.extend(faults(field, inner, root, &path));
                    }
                    _ => found.push(format!("{path}: not in the schema")),
                }
            }
        }
        if let (Some(items), Some(inner)) = (value.as_array(), schema.get("items")) {
            found.extend(items.iter().flat_map(|item| faults(item, inner, root, path)));
        }
        found
    }
    let schema = read_json(repository("documents/report.schema.json"));
    let found = faults(report, &schema, &schema, "");
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut broken = report.clone();
    broken.as_object_mut().unwrap().remove("verdict");
    assert!(!faults(&broken, &schema, &schema, "").is_empty(), "the check finds nothing");
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str, threads: &str| {
        let out = folder.path().join(name);
        let run = compare(&[DRAGONS], &out, &["--seed", "7", "--threads", threads]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        tree(&out)
    };
    let (first, second, alone) = (report("first", "2"), report("second", "2"), report("alone", "1"));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(second[name] == *bytes, "{name} differs from one run to the next");
    }
    assert!(first["report.json"] == alone["report.json"], "report.json depends on the number of threads");
}

#[test]
fn printed_json_is_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let run = compare(&[LORA], folder.path(), &["--json"]);
    assert_eq!(run.json(), read_json(folder.path().join("report.json")));
    conforms(&run.json());
}

#[test]
fn several_adapters_in_one_pass_are_as_each_alone() {
    let folder = tempfile::tempdir().unwrap();
    let adapters = [LORA, DORA, DRAGONS];
    let together = folder.path().join("together");
    let run = compare(&adapters, &together, &["--json"]);
    assert_eq!(run.json().as_array().unwrap().len(), 3);
    let index = fs_err::read_to_string(together.join("index.html")).unwrap();
    for adapter in adapters {
        let name = Path::new(adapter).file_name().unwrap().to_str().unwrap();
        assert!(index.contains(name), "the index does not name {name}");
        let alone = folder.path().join(name);
        assert_eq!(compare(&[adapter], &alone, &[]).code, 0);
        let other: HashMap<String, Value> = leaves(&read_json(alone.join("report.json"))).into_iter().collect();
        let shared = leaves(&read_json(together.join(name).join("report.json")));
        assert_eq!(shared.len(), other.len(), "{name}");
        for (key, value) in shared {
            let near = match (value.as_f64(), other[&key].as_f64()) {
                (Some(left), Some(right)) => (left - right).abs() <= 1e-6 * left.abs().max(1.0),
                _ => value == other[&key],
            };
            assert!(near, "{name}{key}: {value} in company, {} alone", other[&key]);
        }
    }
}

#[test]
fn metrics_not_asked_for_are_null() {
    let folder = tempfile::tempdir().unwrap();
    let report = compare(&[DRAGONS], folder.path(), &["--metrics", "tokens", "--json"]).json();
    assert!(report["tokens"]["kl"]["mean"].as_f64().unwrap() > 0.0);
    assert_eq!(report["trajectories"], Value::Null);
    assert_eq!(report["weights"], json!({}));
    for key in ["cka", "procrustes", "knn_overlap", "subspace", "spectrum", "drift", "clusters", "attention"] {
        assert_eq!(report["layers"]["resid.3"][key], Value::Null, "{key}");
    }
    conforms(&report);
}

#[test]
fn inspect_describes_the_bundled_adapter() {
    let found = audit(["inspect", DRAGONS, "--json"]).json();
    assert_eq!((&found["method"], &found["ranks"]), (&json!("DoRA"), &json!([4])));
    assert_eq!((&found["base_model"], &found["zero_effect"]), (&json!("stories260K"), &json!(false)));
    assert_eq!((&found["tensors"], &found["layers"]), (&json!(105), &json!([0, 1, 2, 3, 4])));
    assert_eq!(found["modules"].as_object().unwrap().len(), 35);
    let printed = audit(["inspect", DRAGONS]).stdout;
    assert!(printed.contains("DoRA") && printed.contains("model.layers.0.mlp.down_proj"), "{printed}");
}

#[test]
fn inspect_describes_a_golden_adapter() {
    let found = audit(["inspect", &golden_adapter("qwen3_lora_qv"), "--json"]).json();
    assert_eq!((&found["method"], &found["ranks"]), (&json!("LoRA"), &json!([4])));
    assert_eq!(found["targets"], json!(["q_proj", "v_proj"]));
    assert_eq!(found["modules"].as_object().unwrap().len(), 8);
    let first = &found["modules"]["model.layers.0.self_attn.q_proj"];
    assert_eq!(first["shape"], json!([32, 32]));
    assert_eq!(first["singular_values"].as_array().unwrap().len(), 4);
}

#[test]
fn an_adapter_without_effect_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let idle = copied(&repository(LORA), folder.path(), "idle");
    edit_tensors(idle.join("adapter_model.safetensors"), |tensors| {
        for (_, stored) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
            *stored = Stored::f32(&stored.shape.clone(), vec![0.0; stored.values().len()]);
        }
    });
    assert!(audit(["inspect", text(&idle)]).stdout.contains("changes nothing"));
    let run = compare(&[text(&idle)], &folder.path().join("report"), &["--json"]);
    assert!(run.stderr.contains("warning: ") && run.stderr.contains("changes nothing"), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["adapter"]["zero_effect"], json!(true));
    for (site, change) in report["layers"].as_object().unwrap() {
        assert_eq!(change["relative_change"], json!(0.0), "{site}");
        assert_eq!(change["cosine"]["one_minus_mean"], json!(0.0), "{site}");
        assert_eq!(change["procrustes"]["residual_squared"], json!(0.0), "{site}");
        // The models share no computation here, so CKA is a quotient of equal sums, to rounding.
        assert!((change["cka_debiased"].as_f64().unwrap() - 1.0).abs() < 1e-14, "{site}");
    }
    assert_eq!((&report["tokens"]["kl"]["max"], &report["tokens"]["top1_flip_rate"]), (&json!(0.0), &json!(0.0)));
}

#[test]
fn capture_writes_the_sites_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (prompts, out) = (folder.path().join("prompts.txt"), folder.path().join("states.safetensors"));
    fs_err::write(&prompts, "Once upon a time\nThe dog\n").unwrap();
    let arguments = ["--probes", text(&prompts), "--sites", "resid,logits", "--out", text(&out), "--json"];
    let run = audit(["capture", STORIES].iter().chain(&arguments));
    // Six streams, logits, ids and lengths.
    assert_eq!(run.json()["tensors"], json!(9));
    let tensors = support::tensors(&out);
    assert!(
        tensors.keys().all(|name| !name.contains("attn_out") && !name.starts_with("adapted")),
        "{:?}",
        tensors.keys()
    );
    assert_eq!((tensors["base.resid.5"].shape[0], tensors["base.resid.5"].shape[2]), (2, 64));
    assert_eq!(tensors["base.logits"].shape[2], 512);
}

#[test]
fn exit_codes_tell_how_a_run_ended() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(audit(["inspect", DRAGONS]).code, 0);
    assert_eq!(audit(["--help"]).code, 0);
    assert_eq!(audit(["--version"]).code, 0);
    let absent = audit(["inspect", "no/such/adapter"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (2, ""));
    assert!(absent.stderr.starts_with("error: ") && absent.stderr.contains("no/such/adapter"), "{}", absent.stderr);
    let out = text(folder.path());
    for usage in [
        vec!["compare", STORIES],
        vec!["compare", STORIES, DRAGONS, "--metrics", "charm", "--out", out],
        vec!["compare", STORIES, DRAGONS, "--depth", "--out", out],
        vec!["generate", STORIES],
        vec!["capture", STORIES],
        vec!["inspect"],
        vec!["divine"],
        vec![],
    ] {
        let run = audit(&usage);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{usage:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{usage:?}");
    }
}

#[test]
fn a_killed_module_fails_the_verdict() {
    let case = "qwen3_dora_qv";
    let folder = tempfile::tempdir().unwrap();
    let dead = copied(&golden_adapter(case), folder.path(), "dead");
    edit_tensors(dead.join("adapter_model.safetensors"), |tensors| {
        let (_, stored) = tensors.iter_mut().find(|(name, _)| name.contains("magnitude")).unwrap();
        *stored = Stored::f32(&stored.shape.clone(), vec![0.0; stored.values().len()]);
    });
    let ids = folder.path().join("ids.json");
    fs_err::write(&ids, "[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]").unwrap();
    let run = audit_in(
        folder.path(),
        ["compare", &golden_base(case), text(&dead), "--tokens", text(&ids), "--json", "--quiet"],
    );
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["verdict"], json!("fail"));
    assert!(!report["findings"].as_array().unwrap().is_empty());
}

#[test]
fn help_shows_examples_of_every_command() {
    for command in ["compare", "capture", "inspect", "generate"] {
        let run = audit([command, "--help"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.contains("Examples:") && run.stdout.contains(&format!("lcr-audit {command} ")), "{command}");
        assert!(audit(["--help"]).stdout.contains(command), "{command}");
    }
}
