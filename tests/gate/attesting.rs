//! `--attest` and `verify --attestation`: what a gate said, of which files.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bench::{Bench, items};
use crate::support::edit_json;

/// A gate with a base that wrote its report and its statement.
fn attested() -> Bench {
    let bench = Bench::new();
    bench.base();
    bench.sound("adapters/a");
    bench.hostile("adapters/b");
    let fixed = ["gate", "adapters", "--base", "base", "--date", "2026-11-29", "--write", "json=gate.json"];
    let run = bench.run(fixed.iter().chain(&["--attest", "gate.intoto.json", "--quiet"]));
    assert_eq!(run.code, 1, "{}", run.stderr);
    bench
}

#[test]
fn every_file_of_adapters_and_base_is_a_subject() {
    let bench = attested();
    let statement = bench.json("gate.intoto.json");
    assert_eq!(
        (&statement["predicate"]["verdict"], &statement["predicate"]["pins"]["date"]),
        (&"fail".into(), &"2026-11-29".into())
    );
    let subjects: Vec<(&str, &str)> = items(&statement, "/subject")
        .iter()
        .map(|subject| (subject["name"].as_str().expect("text"), subject["digest"]["sha256"].as_str().expect("text")))
        .collect();
    let mut files = 0;
    for folder in ["adapters/a", "adapters/b", "base"] {
        for (name, content) in crate::support::tree(&bench.path(folder)) {
            let digest: String =
                Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert!(subjects.contains(&(format!("{folder}/{name}").as_str(), digest.as_str())), "{folder}/{name}");
            files += 1;
        }
    }
    assert_eq!(subjects.len(), files, "and nothing else");
}

#[test]
fn a_statement_is_made_again_from_report_and_files() {
    let bench = attested();
    let verify = || {
        let fixed = ["verify", "gate.json", "--date", "2026-11-29", "--attestation", "gate.intoto.json", "--json"];
        bench.run(fixed)
    };
    let run = verify();
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let sound = fs_err::read(bench.path("gate.intoto.json")).expect("readable");
    let forgeries: [fn(&mut Value); 5] = [
        |statement| statement["predicate"]["verdict"] = "pass".into(),
        |statement| statement["predicate"]["adapters"][1]["findings"]["deny"] = 0.into(),
        |statement| statement["subject"][0]["digest"]["sha256"] = "00".repeat(32).into(),
        |statement| {
            statement["subject"].as_array_mut().expect("an array").remove(0);
        },
        |statement| statement["predicateType"] = "https://slsa.dev/provenance/v1".into(),
    ];
    for forge in forgeries {
        edit_json(bench.path("gate.intoto.json"), forge);
        let run = verify();
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        bench.write("gate.intoto.json", &sound);
    }
    // A file of the base that the report does not pin: the statement alone speaks of it.
    bench.write("base/generation_config.json", "{}");
    assert_eq!(verify().code, 1);
}
