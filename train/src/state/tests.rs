//! What becomes of a run that is killed, whose disk is full, whose files somebody changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lcr_formats::adapter::Adapter;
use serde_json::json;

use super::*;
use crate::lcr::Progress;
use crate::step::optimizer::{AdamW, OptimizerOptions};

mod resume;

fn golden_adapter() -> Adapter {
    Adapter::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/qwen3_dora_qv/adapter")).unwrap()
}

fn provenance() -> Provenance {
    let config = json!({"optimizer": {"learning_rate": 5e-6, "clip": 1.0}, "group": 3});
    Provenance::new(&config, "base".to_owned(), "data".to_owned(), 7).unwrap()
}

fn state(step: u64) -> TrainerState {
    let progress = Progress { step, iteration: 2 * step, ..Progress::default() };
    TrainerState::new(progress, LogLengths::default(), provenance())
}

fn optimizer() -> AdamW {
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[3]).unwrap();
    optimizer.step(&mut [&mut [0.0; 3]], &[&[0.1, 0.2, 0.3]], 1e-3).unwrap();
    optimizer
}

/// A run with checkpoints of these steps.
fn run(steps: &[u64]) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let folder = RunFolder::create(&path).unwrap();
    for step in steps {
        folder.write_checkpoint(&state(*step), &golden_adapter(), &optimizer()).unwrap();
    }
    (parent, path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn a_checkpoint_reads_back_equal() {
    let (_parent, path) = run(&[1, 12]);
    let newest = RunFolder::resume(&path).unwrap().newest().unwrap();
    assert!(newest.notes.is_empty(), "{:?}", newest.notes);
    let checkpoint = newest.checkpoint.unwrap();
    assert!(checkpoint.folder().ends_with("checkpoints/step_000012"));
    assert_eq!(*checkpoint.state(), state(12));
    let expected = ["adapter_config.json", "adapter_model.safetensors", MANIFEST, OPTIMIZER, STATE];
    assert_eq!(names(checkpoint.folder()), expected);
    assert_eq!(checkpoint.adapter().unwrap().modules, golden_adapter().modules);
    let mut restored = AdamW::new(OptimizerOptions::default(), &[3]).unwrap();
    checkpoint.restore_optimizer(&mut restored).unwrap();
    assert_eq!(restored, optimizer());
}

/// The manifest's digests are those of `sha256sum`.
#[test]
fn digests_are_sha256() {
    assert_eq!(digest_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    assert_eq!(digest_file(&path).unwrap(), (digest_bytes(b"abc"), 3));
}

#[test]
fn a_checkpoint_with_a_damaged_file_is_passed_over_with_a_note() {
    for file in ["adapter_model.safetensors", "adapter_config.json", OPTIMIZER, STATE, MANIFEST] {
        let (_parent, path) = run(&[1, 2]);
        cut_in_half(&path.join("checkpoints/step_000002").join(file));
        let newest = RunFolder::resume(&path).unwrap().newest().unwrap();
        assert_eq!(newest.checkpoint.unwrap().state().progress.step, 1, "{file}");
        let [note] = newest.notes.as_slice() else { panic!("{:?}", newest.notes) };
        assert!(note.contains("step_000002") && note.contains(file), "{note}");
    }
}

/// A flipped bit leaves the length as it was.
#[test]
fn a_flipped_bit_is_seen() {
    let (_parent, path) = run(&[1, 2]);
    let file = path.join("checkpoints/step_000002/adapter_model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(RunFolder::resume(&path).unwrap().newest().unwrap().checkpoint.unwrap().state().progress.step, 1);
}

#[test]
fn a_run_without_one_complete_checkpoint_does_not_start_from_zero() {
    let (_parent, path) = run(&[1]);
    cut_in_half(&path.join("checkpoints/step_000001").join(STATE));
    let error = RunFolder::resume(&path).unwrap().newest().unwrap_err();
    assert!(matches!(error, StateError::NoneComplete { .. }) && error.to_string().contains("step_000001"), "{error}");
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_anew() {
    let (_parent, path) = run(&[]);
    assert_eq!(RunFolder::resume(&path).unwrap().newest().unwrap(), Newest { checkpoint: None, notes: Vec::new() });
}

#[test]
fn a_missing_optimizer_is_refused() {
    let (_parent, path) = run(&[1, 2]);
    fs::remove_file(path.join("checkpoints/step_000002").join(OPTIMIZER)).unwrap();
    let error = RunFolder::resume(&path).unwrap().newest().unwrap_err();
    assert!(matches!(error, StateError::Missing { file: OPTIMIZER, .. }), "{error}");
}

#[test]
fn what_a_killed_run_left_half_made_is_cleared_away() {
    let (_parent, path) = run(&[1, 2, 3]);
    let checkpoints = path.join("checkpoints");
    fs::create_dir(checkpoints.join(".writing-abc")).unwrap();
    fs::write(checkpoints.join(".writing-abc/adapter_model.safetensors"), "half").unwrap();
    fs::create_dir(path.join(".writing-xyz")).unwrap();
    // Killed while step 3 was replaced, before its successor came; and step 2, after.
    fs::rename(checkpoints.join("step_000003"), checkpoints.join(".replaced-step_000003")).unwrap();
    fs::create_dir(checkpoints.join(".replaced-step_000002")).unwrap();
    let folder = RunFolder::resume(&path).unwrap();
    assert_eq!(names(&checkpoints), ["step_000001", "step_000002", "step_000003"]);
    assert_eq!(names(&path), [".lock", "checkpoints"]);
    assert_eq!(folder.notes().len(), 4, "{:?}", folder.notes());
    assert_eq!(folder.newest().unwrap().checkpoint.unwrap().state().progress.step, 3);
}

/// `/dev/full` answers every write as a full disk does, after half of the checkpoint is on the disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_last_good_checkpoint() {
    let (_parent, path) = run(&[1]);
    let checkpoints = path.join("checkpoints");
    let error = super::publish::publish(&checkpoints.join("step_000002"), |stage| {
        golden_adapter().save_peft(stage)?;
        super::publish::write_file(Path::new("/dev/full"), b"moments")
    })
    .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("/dev/full") && message.contains("No space left"), "{message}");
    assert_eq!(names(&checkpoints), ["step_000001"], "nothing half-made is left");
    assert_eq!(RunFolder::resume(&path).unwrap().newest().unwrap().checkpoint.unwrap().state().progress.step, 1);
}

#[test]
fn a_diverged_adapter_is_named_and_not_kept() {
    let (_parent, path) = run(&[1]);
    let folder = RunFolder::resume(&path).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.01e6, -1.01e6] {
        let mut adapter = golden_adapter();
        let module = adapter.modules.get_mut("model.layers.1.self_attn.q_proj").unwrap();
        Arc::make_mut(module).lora_b[5] = bad;
        let error = folder.write_checkpoint(&state(2), &adapter, &optimizer()).unwrap_err();
        let StateError::Unhealthy(unhealthy) = &error else { panic!("{error}") };
        assert_eq!(unhealthy.tensor, "model.layers.1.self_attn.q_proj.lora_B.weight");
        assert_eq!((unhealthy.element, unhealthy.value.to_bits()), (5, bad.to_bits()));
        assert!(folder.publish_adapter(&adapter).is_err());
    }
    assert_eq!(names(&path.join("checkpoints")), ["step_000001"]);
    assert_eq!(check_values("x", &[1e6, -1e6, 0.0]), Ok(()));
}

#[test]
fn a_state_that_json_cannot_hold_is_refused() {
    let (_parent, path) = run(&[]);
    let folder = RunFolder::resume(&path).unwrap();
    let mut state = state(1);
    state.progress.tally.rewards = f64::NAN;
    let error = folder.write_checkpoint(&state, &golden_adapter(), &optimizer()).unwrap_err();
    assert!(matches!(error, StateError::NotFinite { what: STATE }), "{error}");
}

#[test]
fn pruning_keeps_the_newest_complete_ones() {
    let (_parent, path) = run(&[1, 2, 3, 4, 5, 6]);
    let folder = RunFolder::resume(&path).unwrap();
    let checkpoints = path.join("checkpoints");
    for damaged in ["step_000003", "step_000005", "step_000006"] {
        cut_in_half(&checkpoints.join(damaged).join(STATE));
    }
    // 5 and 6 are newer than any complete one: a resumed run will write them again.
    folder.prune(2).unwrap();
    assert_eq!(names(&checkpoints), ["step_000002", "step_000004", "step_000005", "step_000006"]);
    folder.prune(0).unwrap();
    assert_eq!(names(&checkpoints), ["step_000004", "step_000005", "step_000006"]);
}

#[test]
fn a_step_written_again_replaces_a_damaged_one_and_leaves_an_equal_one() {
    let (_parent, path) = run(&[1, 2]);
    let folder = RunFolder::resume(&path).unwrap();
    let first = path.join("checkpoints/step_000001").join(STATE);
    let written = fs::metadata(&first).unwrap().modified().unwrap();
    folder.write_checkpoint(&state(1), &golden_adapter(), &optimizer()).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), written);
    cut_in_half(&path.join("checkpoints/step_000002").join(OPTIMIZER));
    folder.write_checkpoint(&state(2), &golden_adapter(), &optimizer()).unwrap();
    assert_eq!(folder.newest().unwrap().checkpoint.unwrap().state().progress.step, 2);
    assert_eq!(names(&path.join("checkpoints")), ["step_000001", "step_000002"]);
}

#[test]
fn two_runs_cannot_have_one_folder() {
    let (_parent, path) = run(&[1]);
    let folder = RunFolder::resume(&path).unwrap();
    let error = RunFolder::resume(&path).unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(folder);
    let again = RunFolder::resume(&path).unwrap();
    assert!(again.notes().is_empty(), "{:?}", again.notes());
    drop(again);
    let occupied = RunFolder::create(&path).unwrap_err();
    assert!(matches!(occupied, StateError::Occupied { found: "checkpoints", .. }), "{occupied}");
}

/// A killed process leaves its number, but not its lock.
#[test]
fn a_stale_lock_is_taken_over_with_a_note() {
    let (_parent, path) = run(&[1]);
    fs::write(path.join(".lock"), "4194303\n").unwrap();
    let folder = RunFolder::resume(&path).unwrap();
    let [note] = folder.notes() else { panic!("{:?}", folder.notes()) };
    assert!(note.contains("4194303"), "{note}");
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(RunFolder::resume(folder.path()), Err(StateError::NoRun { .. })));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_changed_run_is_refused_and_every_change_named() {
    let (_parent, path) = run(&[3]);
    let checkpoint = RunFolder::resume(&path).unwrap().newest().unwrap().checkpoint.unwrap();
    checkpoint.check(&provenance()).unwrap();
    let config = json!({"optimizer": {"learning_rate": 2.5e-6, "clip": 1.0}, "epochs": 2});
    let now = Provenance::new(&config, "other base".to_owned(), "other data".to_owned(), 8).unwrap();
    let message = checkpoint.check(&now).unwrap_err().to_string();
    for part in [
        "step_000003",
        "optimizer.learning_rate was 5e-6, is 2.5e-6",
        "group was 3, is absent",
        "epochs was absent, is 2",
        "base model differs: SHA-256 was base, is other base",
        "training data differs",
        "seed differs: was 7, is 8",
    ] {
        assert!(message.contains(part), "`{part}` in: {message}");
    }
    assert!(!message.contains("clip"), "{message}");
}

#[test]
fn another_format_is_refused_as_such() {
    let (_parent, path) = run(&[1]);
    let folder = path.join("checkpoints/step_000001");
    fs::write(folder.join(STATE), r#"{"format": 99, "unheard_of": true}"#).unwrap();
    let error = Checkpoint::open(&folder).unwrap_err();
    assert!(matches!(error, StateError::Format { found: 99, .. }), "{error}");
}

#[test]
fn the_trained_adapter_and_json_files_come_whole() {
    let (_parent, path) = run(&[]);
    let folder = RunFolder::resume(&path).unwrap();
    folder.publish_adapter(&golden_adapter()).unwrap();
    folder.write_json("run.json", &provenance()).unwrap();
    folder.write_json("run.json", &provenance()).unwrap();
    let expected = [".lock", "adapter_config.json", "adapter_model.safetensors", "checkpoints", "run.json"];
    assert_eq!(names(&path), expected);
    assert_eq!(Adapter::open(&path).unwrap().modules, golden_adapter().modules);
    let read: Provenance = serde_json::from_slice(&fs::read(path.join("run.json")).unwrap()).unwrap();
    assert_eq!(read, provenance());
}

#[test]
fn an_interrupt_is_seen_by_every_clone() {
    let interrupt = Interrupt::default();
    let clone = interrupt.clone();
    assert!(!clone.requested());
    interrupt.request();
    assert!(clone.requested() && clone.flag().load(std::sync::atomic::Ordering::Relaxed));
}
