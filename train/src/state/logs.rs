//! The three logs of a run, opened, cut and synced together.

use std::path::Path;

use lcr_documents::rollout::RolloutRecord;

use super::{EventFile, LogLengths};
use crate::log::tensorboard::{EventWriter, is_event_file};
use crate::log::{JsonLines, LogError, StepRecord};

/// `metrics.jsonl`, `rollouts.jsonl` and the TensorBoard file of a run.
#[derive(Debug)]
pub struct Logs {
    metrics: JsonLines,
    rollouts: JsonLines,
    events: EventWriter,
}

impl Logs {
    /// Opens the logs in `folder` as they were at these lengths: zero for a new run, those of the checkpoint for a
    /// resumed one. What was written later is cut off. `wall_time` (seconds since 1970) is that of a new TensorBoard
    /// file.
    pub fn open(folder: &Path, lengths: &LogLengths, wall_time: f64) -> Result<Self, LogError> {
        let metrics = JsonLines::truncated(&folder.join("metrics.jsonl"), lengths.metrics)?;
        let rollouts = JsonLines::truncated(&folder.join("rollouts.jsonl"), lengths.rollouts)?;
        let events = if let Some(file) = &lengths.events {
            EventWriter::truncated(&folder.join(&file.name), file.length)?
        } else {
            // A run that died before its first checkpoint begins anew, and its events with it.
            remove_events(folder)?;
            EventWriter::create(folder, wall_time)?
        };
        Ok(Self { metrics, rollouts, events })
    }

    /// Appends a step to `metrics.jsonl` and to the charts.
    pub fn step(&mut self, record: &StepRecord, wall_time: f64) -> Result<(), LogError> {
        self.metrics.append(record)?;
        self.events.scalars(wall_time, record.step, &record.scalars())
    }

    /// Appends a rollout to `rollouts.jsonl`.
    pub fn rollout(&mut self, record: &RolloutRecord) -> Result<(), LogError> {
        self.rollouts.append(record)
    }

    /// Further values for the charts, such as those of an evaluation.
    pub fn scalars(&mut self, wall_time: f64, step: u64, values: &[(String, f64)]) -> Result<(), LogError> {
        self.events.scalars(wall_time, step, values)
    }

    /// Waits until all of it is on the disk and returns the lengths that a checkpoint records.
    pub fn sync(&self) -> Result<LogLengths, LogError> {
        let events = EventFile { name: self.events.file_name().to_owned(), length: self.events.sync()? };
        Ok(LogLengths { metrics: self.metrics.sync()?, rollouts: self.rollouts.sync()?, events: Some(events) })
    }
}

fn remove_events(folder: &Path) -> Result<(), LogError> {
    let fault = LogError::io("look into", folder);
    for entry in std::fs::read_dir(folder).map_err(&fault)? {
        let entry = entry.map_err(&fault)?;
        if entry.file_name().to_str().is_some_and(is_event_file) {
            std::fs::remove_file(entry.path()).map_err(LogError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}
