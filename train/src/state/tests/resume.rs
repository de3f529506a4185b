//! A toy run in the form of the real one: interrupted anywhere and resumed, it writes the bytes of one that was not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{golden_adapter, names, provenance};
use crate::lcr::Progress;
use crate::log::StepRecord;
use crate::state::MANIFEST;
use crate::state::{Checkpoint, Interrupt, LogLengths, Logs, RunFolder, TrainerState};
use crate::step::optimizer::{AdamW, OptimizerOptions};

const MODULE: &str = "model.layers.0.self_attn.q_proj";
const INTERVAL: u64 = 3;
/// Steps of a run that is killed.
const STEPS: u64 = 8;
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
    let values = adapter.modules[MODULE].lora_b.len();
    let mut optimizer = AdamW::new(OptimizerOptions::default(), &[values]).unwrap();
    if let Some(checkpoint) = &checkpoint {
        checkpoint.check(&provenance()).unwrap();
        checkpoint.restore_optimizer(&mut optimizer).unwrap();
    }
    let mut logs = Logs::open(path, &state.lengths, 1000.0).unwrap();
    while state.progress.step < end && !interrupt.requested() {
        let lora_b = &mut Arc::make_mut(adapter.modules.get_mut(MODULE).unwrap()).lora_b;
        // A function of the state alone, like every random choice of the trainer.
        let gradient: Vec<f32> = lora_b
            .iter()
            .enumerate()
            .map(|(index, value)| value + ((index as u64 + state.progress.iteration) % 5) as f32)
            .collect();
        let report = optimizer.step(&mut [lora_b], &[&gradient], 1e-2).unwrap();
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

/// What [`a_run_killed_at_any_write_loses_at_most_one_interval`] starts in a process of its own; without its variable
/// it does nothing.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        train(Path::new(&folder), STEPS, &Interrupt::default());
    }
}

/// Trains in a process of its own, killed at one of its writes; whether it came to that.
#[cfg(unix)]
fn killed_at(path: &Path, write: u64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::resume::child"])
        .env(CHILD_FOLDER, path)
        .env("LCR_AUDIT_END_AT", write.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.code().is_none()
}

/// Kills a writing process at each of its writes; each time a complete checkpoint is found, at most an interval behind
/// the log, and what is resumed from there ends as if nothing had happened.
#[cfg(unix)]
#[test]
fn a_run_killed_at_any_write_loses_at_most_one_interval() {
    let parent = tempfile::tempdir().unwrap();
    let whole = parent.path().join("whole");
    train(&whole, STEPS, &Interrupt::default());
    let expected = contents(&whole);
    let (mut write, mut resumed_late) = (1, 0);
    loop {
        let path = parent.path().join(format!("killed_at_{write}"));
        if !killed_at(&path, write) {
            break;
        }
        let lines =
            |name: &str| fs::read_to_string(path.join(name)).map_or(0, |text| text.matches('\n').count() as u64);
        let logged = lines("metrics.jsonl");
        let folder = RunFolder::resume(&path).unwrap();
        assert!(folder.notes().iter().any(|note| note.contains("was killed")), "{:?}", folder.notes());
        let newest: Option<Checkpoint> = folder.newest().unwrap().checkpoint;
        let step = newest.map_or(0, |checkpoint| checkpoint.state().progress.step);
        assert!(
            logged <= step + INTERVAL,
            "{logged} steps logged, the checkpoint is of step {step}, killed at {write}"
        );
        resumed_late += u64::from(step > 0);
        drop(folder);
        train(&path, STEPS, &Interrupt::default());
        assert_eq!(contents(&path), expected, "killed at write {write}");
        write += 1;
    }
    assert!(
        write > 20 && resumed_late > 5,
        "{write} writes, {resumed_late} times from a checkpoint: hardly anything was tested"
    );
}
