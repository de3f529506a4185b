//! What is printed, and to whom: the exit code does not depend on it, and no stranger's name steers the terminal.

use std::process::{Command, Stdio};

use lcr_documents::characters::is_deceptive;

use super::bench::Bench;
use crate::support::text;

/// What a stranger may call a thing: it sets the window's title, clears a line, climbs one up, and writes another.
const NAME: &str = "x\u{1b}]0;pwn\u{7}\u{1b}[2K\u{1b}[1A\nFORGED \u{202e}\u{61c}";

/// Exit code of the program with nobody reading what it prints.
fn unread(bench: &Bench, arguments: &[&str]) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .args(arguments)
        .current_dir(bench.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    // The reading end is closed before a byte is written, or while the first ones are.
    drop(child.stdout.take());
    child.wait().expect("it ends").code()
}

#[test]
fn a_reader_that_stops_reading_changes_no_exit_code() {
    let bench = Bench::new();
    bench.sound("good");
    bench.hostile("bad");
    for format in ["table", "json", "sarif", "junit", "summary", "badge"] {
        assert_eq!(unread(&bench, &["scan", "bad", "--format", format]), Some(1), "{format}");
        assert_eq!(unread(&bench, &["gate", "bad", "--format", format]), Some(1), "{format}");
        assert_eq!(unread(&bench, &["scan", "good", "--format", format]), Some(0), "{format}");
    }
    assert_eq!(unread(&bench, &["scan", "bad", "--json"]), Some(1));
    assert_eq!(unread(&bench, &["scan", "nowhere"]), Some(2));
    assert_eq!(unread(&bench, &["inspect", "good"]), Some(0));
    let report = bench.run(["scan", "bad", "--json"]).stdout.replace("\"verdict\": \"fail\"", "\"verdict\": \"pass\"");
    bench.write("forged.json", report);
    assert_eq!(unread(&bench, &["verify", "forged.json"]), Some(1));
}

#[test]
fn a_full_disk_under_the_output_is_no_pass() {
    let bench = Bench::new();
    bench.sound("good");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lcr-audit"));
    let ended = command.args(["scan", "good"]).current_dir(bench.root()).stdout(full).output().expect("it ends");
    assert_eq!(ended.status.code(), Some(2), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn without_memory_the_program_says_so_and_does_not_pass() {
    let bench = Bench::new();
    bench.sound("good");
    let script = format!("ulimit -v 40000; exec {} scan good", env!("CARGO_BIN_EXE_lcr-audit"));
    let ended = Command::new("bash").args(["-c", &script]).current_dir(bench.root()).output().expect("bash starts");
    // Either it fits, or it ends with the code that says that nothing was decided; never by a signal.
    assert!(
        matches!(ended.status.code(), Some(0 | 2)),
        "{:?} {}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[test]
fn no_name_of_a_stranger_steers_the_terminal() {
    let bench = Bench::new();
    bench.base();
    let adapter = bench.sound(NAME);
    bench.write(&format!("{NAME}/a{NAME}.pkl"), super::bench::PICKLE);
    let config = fs_err::read_to_string(adapter.join("adapter_config.json")).expect("readable");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["base_model_name_or_path"] = NAME.into();
    config["target_modules"].as_array_mut().expect("a list").push(NAME.into());
    fs_err::write(adapter.join("adapter_config.json"), config.to_string()).expect("written");
    bench.write("p.toml", format!("version = 1\n[rules]\n{} = \"deny\"\n", serde_json::Value::from(NAME)));
    let adapter = text(&adapter).to_owned();
    let missing = format!("{adapter}{NAME}");
    let commands: [&[&str]; 9] = [
        &["scan", &adapter],
        &["scan", &adapter, "--json"],
        &["scan", &missing],
        &["inspect", &adapter],
        &["inspect", &adapter, "--json"],
        &["compare", "base", &adapter, "--tokens", "ids.json", "--metrics", "tokens", "--out", "o"],
        &["compare", "base", &missing, "--tokens", "ids.json", "--out", "o"],
        &["policy", "check", "p.toml"],
        &["scan", &adapter, "--format", &missing],
    ];
    for arguments in commands {
        let run = bench.run(arguments);
        for (stream, printed) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            let steering = printed.chars().find(|character| is_deceptive(*character) && *character != '\n');
            assert_eq!(steering, None, "{arguments:?} {stream}: {printed}");
            assert!(!printed.lines().any(|line| line.starts_with("FORGED")), "{arguments:?} {stream}: {printed}");
        }
    }
}
