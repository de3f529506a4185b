//! Configurations of a run: the first line is an assignment as of `--set`, the rest the file.
#![no_main]

use lcr_fuzz::{Folder, first_line};
use lcr_train::config::TrainConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (assignment, file) = first_line(bytes);
    let Some(folder) = Folder::with(&[("train.toml", file)]) else { return };
    let Ok(config) = TrainConfig::read(&folder.path().join("train.toml")) else { return };
    let config = match std::str::from_utf8(assignment).map(|assignment| config.with(assignment)) {
        Ok(Ok(changed)) => changed,
        _ => config,
    };
    if config.check().is_ok() {
        // What a run was made with is written to run.json, and a resumed run reads it.
        let text = serde_json::to_string(&config).expect("a config can be written");
        let back: TrainConfig = serde_json::from_str(&text).expect("a config can be read back");
        assert_eq!(config, back, "a config is not what was written of it");
    }
});
