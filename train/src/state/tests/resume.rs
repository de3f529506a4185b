//! A toy run in the form of the real one: interrupted anywhere and resumed, it writes the bytes of one that was not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{golden_adapter, names, provenance};
use crate::lcr::Progress;
use crate::log::StepRecord;
use crate::optimizer::{AdamW, OptimizerOptions};
use crate::state::MANIFEST;
use crate::state::{Checkpoint, Interrupt, LogLengths, Logs, RunFolder, TrainerState};

const MODULE: &str = "model.layers.0.self_attn.q_proj";
const INTERVAL: u64 = 3;
/// Name of the variable that tells [`child`] where to write.
const CHILD_FOLDER: &str = "LCR_TRAIN_TEST_FOLDER";

/// Takes a run up where it is, or begins it, and trains until step `end` or an interrupt.
fn train(path: &Path, end: u64, interrupt: &Interrupt) {
    let (folder, checkpoint) = if path.exists() {
        let folder = RunFolder::resume(path).unwrap();
        let newest = folder.newest().unwrap();
        (folder, newest.checkpoint)
    } else {
        (RunFolder::create(path).unwrap(), None)
    };
    let fresh = TrainerState::new(Progress::default(), LogLengths::default(), provenance());
    let mut state = checkpoint.as_ref().map_or(fresh, |found| found.state().clone());
    let mut adapter = checkpoint.as_ref().map_or_else(golden_adapter, |found| found.adapter().unwrap());
    let values = adapter.modules[MODULE].up.len();
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[values]).unwrap();
    if let Some(checkpoint) = &checkpoint {
        checkpoint.check(&provenance()).unwrap();
        checkpoint.restore_optimizer(&mut optimizer).unwrap();
    }
    let mut logs = Logs::open(path, &state.lengths, 1000.0).unwrap();
    while state.progress.step < end && !interrupt.requested() {
        let up = &mut adapter.modules.get_mut(MODULE).unwrap().up;
        // A function of the state alone, like every random choice of the trainer.
        let gradient: Vec<f32> = up
            .iter()
            .enumerate()
            .map(|(index, value)| value + ((index as u64 + state.progress.iteration) % 5) as f32)
            .collect();
        let report = optimizer.step(&mut [up], &[&gradient], 1e-2).unwrap();
        state.progress.step += 1;
        state.progress.iteration += 2;
        state.progress.tally.rewards += report.gradient_norm;
        let record = StepRecord {
            step: state.progress.step,
            iteration: state.progress.iteration,
            gradient_norm: report.gradient_norm,
            update_norm: report.update_norm,
            loss: state.progress.tally.rewards,
            ..StepRecord::default()
        };
        logs.step(&record, 1000.0 + state.progress.step as f64).unwrap();
        if state.progress.step.is_multiple_of(INTERVAL) {
            state.lengths = logs.sync().unwrap();
            folder.write_checkpoint(&state, &adapter, &optimizer).unwrap();
            folder.prune(2).unwrap();
        }
    }
    if interrupt.requested() {
        return;
    }
    folder.publish_adapter(&adapter).unwrap();
}

/// Every file of a run and its bytes; the checkpoints' by their manifests, which hold the digests.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let files = names(path).into_iter().filter(|name| name != "checkpoints" && name != ".lock");
    let mut contents: Vec<(String, Vec<u8>)> =
        files.map(|name| (name.clone(), fs::read(path.join(name)).unwrap())).collect();
    for name in names(&path.join("checkpoints")) {
        let manifest = path.join("checkpoints").join(&name).join(MANIFEST);
        contents.push((name, fs::read(manifest).unwrap()));
    }
    contents
}

#[test]
fn a_run_resumed_from_anywhere_is_the_uninterrupted_one() {
    let parent = tempfile::tempdir().unwrap();
    let whole = parent.path().join("whole");
    train(&whole, 8, &Interrupt::default());
    let expected = contents(&whole);
    assert_eq!(fs::read_to_string(whole.join("metrics.jsonl")).unwrap().lines().count(), 8);
    for killed in 0..=8 {
        let path = parent.path().join(format!("killed_at_{killed}"));
        train(&path, killed, &Interrupt::default());
        // What a kill in the middle of the next step leaves: half a line, half an event, half a checkpoint.
        for name in names(&path).iter().filter(|name| name.contains("jsonl") || name.contains("tfevents")) {
            let mut bytes = fs::read(path.join(name)).unwrap();
            bytes.extend(b"{\"step\": 9, \"iterat");
            fs::write(path.join(name), bytes).unwrap();
        }
        fs::create_dir(path.join("checkpoints/.writing-half")).unwrap();
        fs::write(path.join("checkpoints/.writing-half/state.json"), "{").unwrap();
        train(&path, 8, &Interrupt::default());
        assert_eq!(contents(&path), expected, "killed at step {killed}");
    }
}

#[test]
fn an_interrupt_stops_between_steps() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let interrupt = Interrupt::default();
    interrupt.request();
    train(&path, 8, &interrupt);
    assert_eq!(fs::read(path.join("metrics.jsonl")).unwrap(), b"");
}

/// Not a test by itself: what [`a_run_killed_for_real_loses_at_most_one_interval`] starts and kills.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        train(Path::new(&folder), u64::MAX, &Interrupt::default());
    }
}

/// Kills a writing process again and again; each time a complete checkpoint is found, at most an interval behind the log.
#[cfg(unix)]
#[test]
fn a_run_killed_for_real_loses_at_most_one_interval() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let mut reached = 0;
    for round in 0..6_u64 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "state::tests::resume::child", "--ignored"])
            .env(CHILD_FOLDER, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_progress(&path, reached);
        std::thread::sleep(Duration::from_micros(700 * (round * 7 % 11)));
        process.kill().unwrap();
        process.wait().unwrap();

        let logged = fs::read_to_string(path.join("metrics.jsonl")).unwrap().matches('\n').count() as u64;
        let folder = RunFolder::resume(&path).unwrap();
        assert!(folder.notes().iter().any(|note| note.contains("was killed")), "{:?}", folder.notes());
        let newest: Checkpoint = folder.newest().unwrap().checkpoint.unwrap();
        let step = newest.state().progress.step;
        assert!(logged <= step + INTERVAL, "{logged} steps logged, the checkpoint is of step {step}");
        assert!(step > reached, "the run got on from step {reached}");
        reached = step;
    }
}

/// Waits until a checkpoint of a step after `reached` is there.
fn wait_for_progress(path: &Path, reached: u64) {
    for _ in 0..3000 {
        let steps = fs::read_dir(path.join("checkpoints")).into_iter().flatten().flatten();
        let later = |name: &str| {
            name.strip_prefix("step_").and_then(|step| step.parse().ok()).is_some_and(|step: u64| step > reached)
        };
        if steps.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| later(&name)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no checkpoint after step {reached} within 30 seconds");
}
