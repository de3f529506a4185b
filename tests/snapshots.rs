//! What people and machines read of the program, as it stands: the help of every command, and a scan in every format.
//!
//! A flag that goes, or a line of output that moves, is a change that somebody will see, and here a diff.
//! `INSTA_UPDATE=always cargo test --test snapshots` writes what is new.

mod support;

use std::path::Path;

use support::{audit, audit_in, repository};

/// The commands below one, by the list in its help.
fn commands(parent: &[&str]) -> Vec<String> {
    let help = audit(parent.iter().chain(&["--help"])).stdout;
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    // What goes on from the line before is further in.
    let named = lines.filter(|line| !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).filter(|name| name != "help").collect()
}

#[test]
fn help_is_as_recorded() {
    let names = commands(&[]);
    assert!(names.iter().any(|name| name == "compare") && names.iter().any(|name| name == "scan"), "{names:?}");
    insta::assert_snapshot!("help", audit(["--help"]).stdout);
    for name in &names {
        insta::assert_snapshot!(format!("help-{name}"), audit([name.as_str(), "--help"]).stdout);
        for below in commands(&[name]) {
            let help = audit([name.as_str(), below.as_str(), "--help"]).stdout;
            insta::assert_snapshot!(format!("help-{name}-{below}"), help);
        }
    }
}

/// What changes from day to day or from build to build is taken out.
fn steady(text: &str) -> String {
    let program = digest_of_the_program();
    let version = env!("CARGO_PKG_VERSION");
    let text = text.replace(&program, "PROGRAM").replace(version, "VERSION");
    let day = fancy_regex::Regex::new(r"\d{4}-\d\d-\d\d(T[\d:]+Z)?").expect("a pattern");
    // A digest of the whole report, the program's own included.
    let serial = fancy_regex::Regex::new("urn:uuid:[0-9a-f-]+").expect("a pattern");
    serial.replace_all(&day.replace_all(&text, "DAY"), "SERIAL").into_owned()
}

/// SHA-256 of the program that is run, which reports name.
fn digest_of_the_program() -> String {
    lcr_gate::digest_of_file(Path::new(env!("CARGO_BIN_EXE_lcr-audit"))).expect("readable")
}

#[test]
fn a_scan_is_as_recorded_in_every_format() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3_modules_to_save");
    assert!(folder.is_dir(), "{}", repository("tests/golden"));
    for format in ["table", "json", "sarif", "junit", "codequality", "summary", "badge", "cyclonedx"] {
        let run = audit_in(&folder, ["scan", "adapter", "--format", format]);
        assert!(run.code <= 1, "{format}: {}", run.stderr);
        insta::assert_snapshot!(format!("scan-{format}"), steady(&run.stdout));
    }
}
