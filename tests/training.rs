//! `train`, `eval` and `rollouts` from the command line to their files, on the bundled nano reasoner.

mod support;

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use support::{audit, read_json, repository, text};

const NANO: &str = "bundled/nano";

/// `train` on the bundled base and problems, a few small steps.
fn train(out: &Path, more: &[&str]) -> support::Run {
    let fixed =
        ["train", "--out", text(out), "--samples", "8", "--groups-per-step", "4", "--heldout-count", "0", "--quiet"];
    audit(fixed.iter().chain(more))
}

fn adapter(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("adapter_model.safetensors")).unwrap()
}

fn lines(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of `metrics.jsonl` without what depends on the machine.
fn without_measurements(mut line: Value) -> Value {
    for key in ["tokens_per_second", "peak_anonymous_memory", "peak_resident_memory", "seconds"] {
        line.as_object_mut().unwrap().remove(key);
    }
    line
}

#[test]
fn a_run_leaves_adapter_logs_and_rollouts_and_repeats_by_seed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, other) = (folder.path().join("one"), folder.path().join("two"), folder.path().join("other"));
    for (out, seed) in [(&one, "1"), (&two, "1"), (&other, "2")] {
        let run = train(out, &["--seed", seed]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    assert_eq!(adapter(&one), adapter(&two));
    assert_ne!(adapter(&one), adapter(&other));
    assert_eq!(std::fs::read(one.join("rollouts.jsonl")).unwrap(), std::fs::read(two.join("rollouts.jsonl")).unwrap());
    let manifest = read_json(one.join("run.json"));
    assert_eq!(manifest["config"]["seed"], 1);
    assert_eq!(manifest["ending"], "finished");
    assert_eq!(manifest["progress"]["iteration"], 8);
    let rollouts = lines(one.join("rollouts.jsonl"));
    assert!(rollouts.iter().any(|line| line["view"] == "naked"));
    for line in &rollouts {
        let segments = line["segments"].as_array().unwrap();
        let counted: u64 = segments.iter().map(|segment| segment["token_count"].as_u64().unwrap()).sum();
        let counts = line["token_counts"].as_object().unwrap();
        assert_eq!(counted, counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>());
        // Injected text carries no loss.
        assert!(segments.iter().all(|segment| (segment["source"] == "injected") == (segment["masked"] == true)));
    }
    // A group whose naked rollout is right has no other.
    for line in rollouts.iter().filter(|line| line["view"] == "naked" && line["correct"] == true) {
        let group = rollouts.iter().filter(|other| other["iteration"] == line["iteration"]).count();
        assert_eq!(group, 1);
    }
    assert!(
        std::fs::read_dir(&one)
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents") })
    );
    // The adapter is one that every other command takes.
    let inspected = audit(["inspect", text(&one), "--json"]).json();
    assert_eq!(inspected["method"], "DoRA");
    // The folder that the bundled base was unpacked to is gone by now.
    assert_eq!(inspected["base_model"], "nano");
    // Its folder, checkpoints and all, passes the gate's scan; the optimizer's moments are a warning each.
    let scan = audit(["scan", text(&one), "--json"]);
    assert_eq!(scan.code, 0, "{}", scan.stdout);
    let report = scan.json();
    let found: Vec<&Value> =
        report["artifacts"].as_array().unwrap().iter().flat_map(|each| each["findings"].as_array().unwrap()).collect();
    let told = |finding: &&&Value| finding["level"] != "allow" && finding["rule"] != "trainer-state";
    assert!(!found.iter().any(|finding| told(&finding)), "{found:?}");
    assert!(found.iter().any(|finding| finding["file"] == "optimizer.safetensors"), "{found:?}");
    let page = audit(["rollouts", text(&one)]);
    assert_eq!(page.code, 0, "{}", page.stderr);
    let page = std::fs::read_to_string(one.join("rollouts.html")).unwrap();
    assert!(page.contains("scaffold_0") && page.contains("What the expert said, view by view"));
    // Each later view holds more of the expert, by what was injected, and the page counts the groups in which that is
    // so.
    let said = |view: &str| {
        let of_view = rollouts.iter().filter(|line| line["view"] == view);
        of_view.map(|line| line["injected_share"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (first, second) = (said("scaffold_0"), said("scaffold_1"));
    let grown = first.iter().zip(&second).filter(|(first, second)| second > first).count();
    assert!(first.len() == second.len() && grown + 1 >= first.len(), "{first:?} {second:?}");
    assert!(page.contains(&format!("In {grown} of {} groups", first.len())));
}

/// What a run says of itself.
struct Logs {
    rollouts: Vec<Value>,
    steps: Vec<Value>,
    adapter: Vec<u8>,
}

impl Logs {
    fn of(out: &Path, more: &[&str]) -> Self {
        // Short enough that some thinking is closed by force, and answers may leak, so that more rollouts are right.
        let fixed = ["--thinking-budget", "64", "--set", "scaffold.leak_guard=flag"];
        let run = train(out, &[&fixed, more].concat());
        assert_eq!(run.code, 0, "{more:?}: {}", run.stderr);
        assert_eq!(read_json(out.join("run.json"))["progress"]["iteration"], 8, "{more:?}");
        let (rollouts, steps) = (lines(out.join("rollouts.jsonl")), lines(out.join("metrics.jsonl")));
        Self { rollouts, steps, adapter: adapter(out) }
    }

    /// Whether this holds for every stretch with one of these tags, of which there is one at least.
    fn every(&self, tags: &[&str], holds: fn(&Value) -> bool) -> bool {
        let mut found = self.segments(tags).peekable();
        found.peek().is_some() && found.all(holds)
    }

    fn segments<'a>(&'a self, tags: &'a [&str]) -> impl Iterator<Item = &'a Value> {
        let all = self.rollouts.iter().flat_map(|rollout| rollout["segments"].as_array().unwrap());
        all.filter(|segment| tags.contains(&segment["tag"].as_str().unwrap()))
    }

    fn numbers<'a>(&'a self, field: &'a str) -> impl Iterator<Item = f64> {
        self.rollouts.iter().map(move |rollout| rollout[field].as_f64().unwrap())
    }

    fn naked(&self) -> impl Iterator<Item = bool> {
        self.rollouts.iter().map(|rollout| rollout["view"].as_str().unwrap().starts_with("naked"))
    }
}

fn weights(segment: &Value) -> Vec<f64> {
    segment["weights"].as_array().into_iter().flatten().map(|weight| weight.as_f64().unwrap()).collect()
}

fn weighs_one(segment: &Value) -> bool {
    weights(segment).len() as u64 == segment["token_count"].as_u64().unwrap()
        && weights(segment).iter().all(|weight| *weight == 1.0)
}

/// Weights that nothing but the distance from the expert decides.
fn only_decays(segment: &Value) -> bool {
    let expected = |place: i32| Some(3.5 * 0.85_f64.powi(place)).filter(|weight| *weight >= 0.1).unwrap_or(0.0);
    weights(segment).iter().zip(0..).all(|(weight, place)| (weight - expected(place)).abs() < 1e-6)
}

/// What the logs show where a method is chosen or a mechanism off, and only then.
type Sign = fn(&Logs) -> bool;

const METHODS: [(&str, Sign); 4] = [
    ("sft", |logs| {
        // Where nothing is written there is no naked context to measure in.
        logs.rollouts.is_empty()
            && logs.steps.len() == 2
            && logs.steps.iter().all(|step| step["tokens_generated"] == 0)
            && logs.steps.iter().all(|step| step["kl_naked"].is_null())
            && logs.steps.iter().any(|step| step["kl_scaffolded"].is_object())
    }),
    ("filtered-sft", |logs| {
        logs.every(&["model", "answer"], weighs_one) && logs.numbers("advantage").eq(logs.numbers("reward"))
    }),
    ("rft", |logs| {
        logs.naked().all(|naked| naked)
            && logs.rollouts.len() == 24
            && logs.every(&["model", "answer"], weighs_one)
            && logs.numbers("advantage").eq(logs.numbers("reward"))
    }),
    ("grpo", |logs| {
        logs.naked().all(|naked| naked)
            && logs.rollouts.len() == 24
            && logs.every(&["model", "answer"], weighs_one)
            && logs.numbers("advantage").any(|advantage| advantage < 0.0)
    }),
];

const MECHANISMS: [(&str, Sign); 10] = [
    ("varied-boundaries", |logs| logs.numbers("expert_share").all(|share| share == 0.0 || share == 0.4)),
    ("masking", |logs| {
        logs.every(&["expert", "tail", "close", "opener"], weighs_one)
            && logs.every(&["prompt"], |segment| segment["masked"] == true)
    }),
    ("proximity", |logs| logs.every(&["model"], |segment| weights(segment).windows(2).all(|pair| pair[0] == pair[1]))),
    ("jaccard", |logs| logs.every(&["model"], only_decays)),
    ("naked-first", |logs| logs.naked().all(|naked| !naked) && logs.rollouts.len() == 24),
    ("early-stop", |logs| logs.rollouts.len() == 24 && logs.naked().filter(|naked| *naked).count() == 8),
    ("positive-only", |logs| {
        logs.naked().any(|naked| !naked) && logs.numbers("advantage").any(|advantage| advantage < 0.0)
    }),
    ("relative", |logs| {
        let of_right = |value: f64| value == 0.0 || value == 1.0;
        logs.numbers("advantage").all(of_right) && logs.numbers("advantage").any(|advantage| advantage == 1.0)
    }),
    ("forced-close", |logs| {
        logs.segments(&["tail", "close"]).next().is_none()
            && logs.rollouts.iter().all(|rollout| rollout["forced_close"] == false)
            && logs.rollouts.iter().any(|rollout| rollout["generated_answer"].is_null())
    }),
    ("answer-turn", |logs| {
        logs.segments(&["opener"]).next().is_none()
            && logs.segments(&["answer"]).any(|segment| segment["text"].as_str().unwrap().contains("\\boxed{"))
    }),
];

#[test]
fn every_method_and_every_mechanism_switched_off_shows_in_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    let usual = Logs::of(&folder.path().join("usual"), &[]);
    let methods = METHODS.map(|(name, sign)| (["--method", name], sign));
    let mechanisms = MECHANISMS.map(|(name, sign)| (["--off", name], sign));
    for (more, sign) in methods.iter().chain(&mechanisms) {
        let off = Logs::of(&folder.path().join(more[1]), more);
        assert!(sign(&off), "{more:?} does not show");
        assert!(!sign(&usual), "{more:?} shows where nothing is off");
        // The groups that an early stop ends may have been dead.
        assert!(more[1] == "early-stop" || off.adapter != usual.adapter, "{more:?} changes nothing in the adapter");
    }
}

/// The bundled settings have no anchors: a file that asks for two is switched off.
#[test]
fn anchors_stand_in_the_prompt_unless_they_are_off() {
    let folder = tempfile::tempdir().unwrap();
    let settings = std::fs::read_to_string(repository("bundled/nano/train.toml")).unwrap();
    let anchored = settings.replace("[anchors]\ncount = 0", "[anchors]\ncount = 2");
    assert_ne!(anchored, settings);
    let file = folder.path().join("anchored.toml");
    std::fs::write(&file, anchored).unwrap();
    let prompts = |name: &str, more: &[&str]| -> Vec<String> {
        let logs = Logs::of(&folder.path().join(name), more);
        logs.segments(&["prompt"]).map(|segment| segment["text"].as_str().unwrap().to_owned()).collect()
    };
    let without = prompts("without", &[]);
    assert_eq!(prompts("off", &["--config", text(&file), "--off", "anchors"]), without);
    let with = prompts("with", &["--config", text(&file)]);
    let lines = |prompt: &String| prompt.lines().count();
    assert!(with.iter().all(|prompt| lines(prompt) > lines(&without[0])), "{with:?}");
}

/// A run of many steps that saves often; `end` says at which of its writes it gets a signal.
fn long_run(out: &Path, end: Option<&str>) -> ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["train", "--out", text(out), "--samples", "96", "--groups-per-step", "4", "--heldout-count", "0"])
        .args(["--set", "checkpoint.every=2", "--quiet"])
        .envs(end.map(|end| ("LCR_AUDIT_END_AT", end)))
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

fn resume(out: &Path) {
    let arguments =
        ["--samples", "96", "--groups-per-step", "4", "--heldout-count", "0", "--set", "checkpoint.every=2"];
    let run = audit(["train", "--out", text(out), "--resume", "--quiet"].iter().chain(&arguments));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    assert!(long_run(&whole, None).success());
    // A checkpoint takes eleven writes: asked to end at the second, killed in it, right after it, and in a later one.
    for (name, end) in [("asked", "18:TERM"), ("killed", "18"), ("killed_after", "24"), ("killed_later", "41")] {
        let out = folder.path().join(name);
        let ended = long_run(&out, Some(end));
        if name == "asked" {
            assert_eq!(ended.code(), Some(5), "an interrupted run has its own exit code");
            assert!(out.join("adapter_model.safetensors").exists());
        } else {
            assert_eq!(ended.code(), None, "{name}: it was not killed");
        }
        assert!(out.join("checkpoints").read_dir().unwrap().count() > 0, "{name}: no checkpoint to go on from");
        let steps = |out: &Path| lines(out.join("metrics.jsonl")).len();
        assert!(steps(&out) < steps(&whole), "{name}: it had taken all of its steps, so that nothing is resumed");
        resume(&out);
        assert_eq!(adapter(&out), adapter(&whole), "{name}");
        assert_eq!(
            std::fs::read_to_string(out.join("rollouts.jsonl")).unwrap(),
            std::fs::read_to_string(whole.join("rollouts.jsonl")).unwrap(),
            "{name}"
        );
        let [resumed, straight] = [&out, &whole]
            .map(|out| lines(out.join("metrics.jsonl")).into_iter().map(without_measurements).collect::<Vec<Value>>());
        assert_eq!(resumed, straight, "{name}");
    }
}

#[test]
fn a_dry_run_shows_who_says_what_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = audit(["train", "--dry-run", "--off", "early-stop", "--out", text(&out)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("scaffold_0") && run.stdout.contains("expert"), "{}", run.stdout);
    assert!(!out.exists());
}

#[test]
fn a_run_is_not_overwritten_and_a_changed_one_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_eq!(train(&out, &[]).code, 0);
    let before = adapter(&out);
    let again = train(&out, &[]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("--resume"), "{}", again.stderr);
    let changed = train(&out, &["--resume", "--rank", "2"]);
    assert_eq!(changed.code, 2);
    assert!(changed.stderr.contains("rank"), "{}", changed.stderr);
    assert_eq!(adapter(&out), before);
}

#[test]
fn wrong_settings_are_named() {
    for (arguments, expected) in [
        (vec!["--set", "scaffold.no_such_field=1"], "no_such_field"),
        (vec!["--set", "group.size=0"], "group.size"),
        (vec!["--adapter", "vera"], "vera"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let run = train(&out, &arguments);
        assert_eq!(run.code, 3, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        assert!(!out.exists());
    }
    let folder = tempfile::tempdir().unwrap();
    let run = train(&folder.path().join("run"), &["--targets", "no_proj"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("no_proj") && run.stderr.contains("q_proj"), "{}", run.stderr);
}

#[test]
fn lines_that_cannot_be_used_are_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let good = std::fs::read_to_string(repository("bundled/nano/problems/train.jsonl")).unwrap();
    let good: Vec<&str> = good.lines().take(4).collect();
    std::fs::write(&data, format!("{}\n{{\"prompt\": \"\"}}\nnot json\n", good.join("\n"))).unwrap();
    let run = train(&folder.path().join("run"), &["--base", NANO, "--data", text(&data)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("line 5") && run.stderr.contains("line 6"), "{}", run.stderr);
    std::fs::write(&data, "not json\n").unwrap();
    let run = train(&folder.path().join("none"), &["--base", NANO, "--data", text(&data)]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("line 1"), "{}", run.stderr);
}

#[test]
fn an_evaluation_does_not_depend_on_its_batch_and_is_paired_with_another() {
    let folder = tempfile::tempdir().unwrap();
    let data = repository("bundled/nano/problems/heldout.jsonl");
    let saved = folder.path().join("base.jsonl");
    let fixed = ["eval", NANO, "--data", &data, "--max-problems", "24", "--thinking-budget", "160", "--json"];
    let one = audit(fixed.iter().chain(&["--batch", "1", "--save", text(&saved)])).json();
    let many = audit(fixed.iter().chain(&["--batch", "24", "--against", text(&saved)])).json();
    assert_eq!(one["accuracy"]["correct"], many["accuracy"]["correct"]);
    assert_eq!((&many["against"]["gained"], &many["against"]["lost"]), (&0.into(), &0.into()));
    assert_eq!(many["against"]["p_value"], 1.0);
    assert_eq!(lines(&saved).len(), 24);
    let text_file = repository("bundled/nano/problems/text.txt");
    let perplexity = audit(["eval", NANO, "--text", &text_file, "--json"]).json();
    let value = perplexity["perplexity"]["perplexity"].as_f64().unwrap();
    // What transformers computes in f32 on the same windows of 256 tokens.
    assert!((value / 46.981_238_7 - 1.0).abs() < 1e-5, "{value}");
}
