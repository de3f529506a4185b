//! What CI reads of a gate's report, held against the formats' official schemas, with text in it that tries to break
//! each of them.

use lcr_documents::audit::Tool;
use lcr_gate::rules::Severity;
use lcr_gate::{
    ArtifactReport, BasePin, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, PolicyPin, Provenance,
    Statement, StatementSubject, WaiverUse, attest, badge, codequality, cyclonedx, junit, sarif, statement_to_string,
    step_summary, table,
};
use lcr_scan::{AdapterSummary, FileRecord};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xsd_schema::SchemaSetBuilder;
use xsd_schema::validation::{CollectingValidationSink, SchemaValidator, ValidationFlags, drive_quick_xml};

const SARIF_SCHEMA: &str = include_str!("data/sarif-schema-2.1.0.json");
const JUNIT_SCHEMA: &str = include_str!("data/JUnit.xsd");
const BOM_SCHEMA: &str = include_str!("data/bom-1.6.schema.json");
const SPDX_SCHEMA: &str = include_str!("data/spdx.schema.json");
const JSF_SCHEMA: &str = include_str!("data/jsf-0.82.schema.json");

/// Every character that means something in one of the formats, controls, direction marks, and what XML has no place
/// for.
const HOSTILE: &str = "q\"'&<script>alert(1)</script>]]>--><![CDATA[ |`*_[x](https://e.example){0} #1 @u $m$ \
                       \u{0}\u{1b}[31m\u{7f}\u{85}\
                       \u{202e}\u{2066}\u{feff}\u{fffe}\u{ffff} ä漢🦀\r\n\n# h\n::error::x\t%0A\\";

fn finding(rule: &str, level: Severity, file: &str, place: &str) -> GateFinding {
    GateFinding {
        rule: rule.to_owned(),
        level,
        artifact: "adapters/one".to_owned(),
        file: file.to_owned(),
        sha256: "ab".repeat(32),
        files: Vec::new(),
        location: place.to_owned(),
        measured: Some(12.5),
        limit: Some(8.0),
        message: format!("{rule}: something was seen"),
        fingerprint: "cd".repeat(32),
        state: BaselineState::New,
        waiver: None,
    }
}

fn waived(mut finding: GateFinding) -> GateFinding {
    finding.waiver = Some(WaiverUse {
        reason: format!("converted from our own training {HOSTILE}"),
        owner: "ann".to_owned(),
        expires: "2026-12-31".to_owned(),
    });
    finding
}

fn standing(mut finding: GateFinding, state: BaselineState) -> GateFinding {
    finding.state = state;
    finding
}

fn artifact(path: &str, findings: Vec<GateFinding>, error: Option<&str>) -> ArtifactReport {
    let file = |name: &str, sha256: &str| FileRecord { path: name.to_owned(), bytes: 1234, sha256: sha256.to_owned() };
    ArtifactReport {
        path: path.to_owned(),
        sha256: "ef".repeat(32),
        files: vec![file("adapter_config.json", &"01".repeat(32)), file("adapter_model.safetensors", "")],
        adapter: None,
        statistics: None,
        compared: false,
        findings,
        error: error.map(str::to_owned),
        verdict: GateVerdict::Pass,
    }
}

fn report(artifacts: Vec<ArtifactReport>) -> GateReport {
    let mut report = GateReport {
        schema: GATE_SCHEMA.to_owned(),
        tool: Tool { name: "lcr-audit".to_owned(), version: "0.1.0".to_owned() },
        pins: Provenance {
            policy: PolicyPin { source: "policy.toml".to_owned(), sha256: "23".repeat(32) },
            date: "2026-08-23".to_owned(),
            ..Provenance::default()
        },
        fail_on: Severity::Deny,
        artifacts,
        policy_findings: Vec::new(),
        absent: Vec::new(),
        verdict: GateVerdict::Pass,
    };
    report.conclude();
    report
}

/// One of everything: three levels, waived, in the baseline, gone, an error, an adapter without findings, the
/// policy's own.
fn full() -> GateReport {
    let mut hostile = finding("pickle-import", Severity::Deny, HOSTILE, HOSTILE);
    hostile.message = HOSTILE.repeat(100);
    let mut one = artifact(
        "adapters/one",
        vec![
            finding("pickle-import", Severity::Deny, "adapter_model.bin", "GLOBAL os.system"),
            hostile,
            waived(finding("disguised-file", Severity::Deny, "adapter_config.json", "")),
            standing(finding("pickle", Severity::Deny, "old.bin", ""), BaselineState::Unchanged),
            finding("norm-outlier", Severity::Warn, "adapter_config.json", "layers.3.mlp"),
            finding("rank", Severity::Allow, "", ""),
            finding("scale", Severity::Allow, "", ""),
        ],
        None,
    );
    one.adapter = Some(AdapterSummary {
        file: "adapter_model.safetensors".to_owned(),
        sha256: String::new(),
        format: "PEFT".to_owned(),
        method: format!("DoRA {HOSTILE}"),
        base_model: None,
        revision: None,
        ranks: vec![8, 64],
        scales: Vec::new(),
        targets: (0..12).map(|index| format!("q_proj{index}|{HOSTILE}")).collect(),
        layers: vec![0, 1, 2],
        tensors: 6,
        parameters: 1_234_567,
        zero_effect: false,
        whole: Vec::new(),
    });
    let broken = artifact(HOSTILE, Vec::new(), Some(HOSTILE));
    let mut report = report(vec![one, broken, artifact("adapters/quiet", Vec::new(), None)]);
    report.pins.baseline = Some("45".repeat(32));
    let mut expired = finding("waiver-expired", Severity::Warn, "", "waiver 1");
    expired.artifact = String::new();
    report.policy_findings = vec![expired];
    report.absent = vec![standing(finding("archive", Severity::Deny, "gone.zip", ""), BaselineState::Absent)];
    report.conclude();
    report
}

/// The log, known to satisfy the official schema.
fn valid_sarif(report: &GateReport) -> Value {
    let schema: Value = serde_json::from_str(SARIF_SCHEMA).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let text = sarif(report).unwrap();
    let log: Value = serde_json::from_str(&text).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    log
}

/// What the official schema has against a document.
fn junit_errors(xml: &str) -> Vec<String> {
    let schema =
        SchemaSetBuilder::new().add_source(JUNIT_SCHEMA, "JUnit.xsd").unwrap().compile().unwrap().into_schema_set();
    let validator = SchemaValidator::new(&schema, ValidationFlags::default());
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut run = validator.start_run(CollectingValidationSink { errors: &mut errors, warnings: &mut warnings });
    let malformed = drive_quick_xml(xml.as_bytes(), &mut run, &schema).err().map(|error| format!("{error:?}"));
    drop(run);
    let mut found: Vec<String> = errors.iter().map(|error| format!("{error:?}")).chain(malformed).collect();
    // The parser is lenient with characters; the standard is not.
    found.extend(xml.chars().filter(|character| !is_xml(*character)).map(|character| format!("{character:?} in XML")));
    found
}

/// What XML 1.0 calls a character.
fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn valid_junit(report: &GateReport) -> String {
    let xml = junit(report).unwrap();
    let errors = junit_errors(&xml);
    assert!(errors.is_empty(), "{errors:#?}\n{xml}");
    xml
}

#[test]
fn sarif_satisfies_the_standard() {
    let log = valid_sarif(&full());
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 9, "every finding, the policy's and those that are gone");
    assert_eq!(run["invocations"][0]["exitCode"], 1);
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    assert_eq!(run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap().len(), 1);
    let levels: Vec<_> = results.iter().map(|result| result["level"].as_str().unwrap()).collect();
    let expected = ["error", "error", "error", "error", "warning", "note", "note", "warning", "error"];
    assert_eq!(levels, expected);
    for result in results {
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(result["partialFingerprints"]["lcrAudit/v1"].is_string());
        assert!(result["suppressions"].is_array(), "on every result or on none");
    }
}

#[test]
fn sarif_tells_new_from_known_only_where_there_is_a_baseline() {
    let states = |report: &GateReport| -> Vec<Value> {
        let log = valid_sarif(report);
        log["runs"][0]["results"].as_array().unwrap().iter().map(|result| result["baselineState"].clone()).collect()
    };
    let mut report = full();
    let with = states(&report);
    assert_eq!((&with[0], &with[3], &with[8]), (&"new".into(), &"unchanged".into(), &"absent".into()));
    report.pins.baseline = None;
    report.absent.clear();
    assert!(states(&report).iter().all(Value::is_null));
}

#[test]
fn sarif_points_at_files_and_at_tensors() {
    let log = valid_sarif(&full());
    let run = &log["runs"][0];
    let place = |index: usize| &run["results"][index]["locations"][0];
    assert_eq!(place(0)["physicalLocation"]["artifactLocation"]["uri"], "adapters/one/adapter_model.bin");
    assert!(place(0)["physicalLocation"]["region"].is_null(), "a binary file has no lines");
    assert_eq!(place(0)["logicalLocations"][0]["fullyQualifiedName"], "GLOBAL os.system");
    assert_eq!(place(2)["physicalLocation"]["region"]["startLine"], 1);
    let listed = place(2)["physicalLocation"]["artifactLocation"]["index"].as_u64().unwrap() as usize;
    assert_eq!(run["artifacts"][listed]["hashes"]["sha-256"], "01".repeat(32));
    assert_eq!(place(5)["physicalLocation"]["artifactLocation"]["uri"], "adapters/one");
    assert_eq!(place(7)["physicalLocation"]["artifactLocation"]["uri"], "policy.toml");
    let suppression = &run["results"][2]["suppressions"][0];
    assert_eq!((&suppression["kind"], &suppression["status"]), (&"external".into(), &"accepted".into()));
}

#[test]
fn sarif_of_nothing_is_valid() {
    let log = valid_sarif(&report(Vec::new()));
    assert_eq!(log["runs"][0]["results"], Value::Array(Vec::new()));
}

#[test]
fn sarif_of_an_incomplete_run_says_so() {
    let log = valid_sarif(&report(vec![artifact("a", Vec::new(), Some("a device failed"))]));
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!((&invocation["executionSuccessful"], &invocation["exitCode"]), (&false.into(), &2.into()));
}

#[test]
fn junit_satisfies_the_schema() {
    let xml = valid_junit(&full());
    assert_eq!(xml.matches("<testsuite ").count(), 4, "three adapters and the policy");
    assert_eq!(xml.matches("<failure ").count(), 2);
    assert_eq!(xml.matches("<skipped ").count(), 2, "one waived, one in the baseline");
    assert_eq!(xml.matches("<error ").count(), 1);
    assert!(xml.contains("tests=\"4\" failures=\"2\" errors=\"0\" skipped=\"2\""), "{xml}");
    assert!(xml.contains("timestamp=\"2026-08-23T00:00:00\""));
    assert!(xml.contains("warn: norm-outlier: adapter_config.json: layers.3.mlp"), "milder findings are in the output");
    valid_junit(&report(Vec::new()));
}

#[test]
fn junit_of_a_quiet_adapter_is_one_passed_test() {
    let xml = valid_junit(&report(vec![artifact("adapters/quiet", Vec::new(), None)]));
    assert!(xml.contains("<testcase name=\"policy\" classname=\"adapters/quiet\" time=\"0\"/>"), "{xml}");
    assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\""), "{xml}");
}

#[test]
fn junit_fails_from_the_policys_level_on() {
    let mut report = full();
    report.fail_on = Severity::Warn;
    report.conclude();
    assert_eq!(valid_junit(&report).matches("<failure ").count(), 4);
}

#[test]
fn junit_needs_no_valid_day_and_no_path() {
    for date in ["", "2026-02-30", HOSTILE] {
        let mut report = report(vec![artifact(" ", Vec::new(), None)]);
        report.pins.date = date.to_owned();
        assert!(valid_junit(&report).contains("timestamp=\"1970-01-01T00:00:00\""));
    }
}

/// The validator is worth something only if it refuses what the schema forbids.
#[test]
fn the_schema_refuses_what_it_forbids() {
    let xml = valid_junit(&full());
    let broken = [
        (" hostname=\"localhost\"", ""),
        ("timestamp=\"2026-08-23T00:00:00\"", "timestamp=\"2026-08-23\""),
        ("failures=\"2\"", "failures=\"two\""),
        (" type=\"deny\"", ""),
        ("    <system-err></system-err>\n", ""),
        ("<properties>", "<testcase name=\"a\" classname=\"b\" time=\"0\"/><properties>"),
        (" id=\"0\"", ""),
        ("time=\"0\"/>", "time=\"soon\"/>"),
        ("package=", "parcel="),
        ("<system-out>", "<stdout/><system-out>"),
        ("<testsuites>", "<testsuites>stray text"),
        ("<skipped message", "<skipped massage"),
        ("name=\"sha256\"", "name=\"\""),
        ("<failure ", "<failed/><failure "),
        ("something was seen", "something \u{1} was seen"),
        ("something was seen", "something < was seen"),
    ];
    for (from, to) in broken {
        assert!(xml.contains(from), "{from}");
        assert!(!junit_errors(&xml.replacen(from, to, 1)).is_empty(), "{from} to {to} went unnoticed");
    }
}

#[test]
fn the_summary_begins_with_the_verdict_and_holds_no_markup_of_strangers() {
    let text = step_summary(&full());
    assert!(text.starts_with("## Adapter audit: FAIL\n"), "{text}");
    assert_no_markup(&text);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.matches('|').count() == 7), "{rows:#?}");
    assert!(rows[2].contains("adapters/one") && rows[3].contains("INCOMPLETE") && rows[4].contains("PASS"));
    assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
}

/// The only tags, links and code marks are our own.
fn assert_no_markup(text: &str) {
    let ours = ["<code>", "</code>", "<details>", "</details>", "<summary>", "</summary>"];
    let rest = ours.iter().fold(text.to_owned(), |text, tag| text.replace(tag, ""));
    for mark in ["<", ">", "`", "](", "https:", "\u{202e}", "\u{1b}", "\r"] {
        assert!(!rest.contains(mark), "{mark:?} in {rest}");
    }
}

#[test]
fn the_summary_is_capped_and_cuts_the_mildest() {
    let warnings = (0..80).map(|index| finding("norm-outlier", Severity::Warn, "f", &format!("m{index}"))).collect();
    let worst = vec![finding("pickle-import", Severity::Deny, "last.bin", "")];
    let text = step_summary(&report(vec![artifact("a", warnings, None), artifact("z", worst, None)]));
    assert!(text.contains("last&#46;bin"), "{text}");
    assert!(text.contains("… and 31 more"), "{text}");
}

#[test]
fn the_badge_says_the_verdict() {
    let read = |report: &GateReport| -> Value { serde_json::from_str(&badge(report)).unwrap() };
    let failed = read(&full());
    assert_eq!(failed["schemaVersion"], 1);
    assert_eq!((&failed["label"], &failed["message"]), (&"adapter audit".into(), &"fail: 2 findings".into()));
    assert_eq!(failed["color"], "red");
    let message = |report: &GateReport| read(report)["message"].as_str().unwrap().to_owned();
    assert_eq!(message(&report(vec![artifact("a", Vec::new(), None)])), "pass");
    assert_eq!(message(&report(vec![artifact("a", Vec::new(), Some("no"))])), "incomplete");
    let warned = vec![finding("norm-outlier", Severity::Warn, "", "")];
    assert_eq!(message(&report(vec![artifact("a", warned, None)])), "pass, 1 warning");
    assert_eq!(message(&report(Vec::new())), "no adapters");
}

#[test]
fn the_table_says_the_same_without_colour() {
    let report = full();
    let (plain, coloured) = (table(&report, false, 80), table(&report, true, 80));
    let codes = ["\u{1b}[1;31m", "\u{1b}[33m", "\u{1b}[32m", "\u{1b}[0m"];
    assert_eq!(codes.iter().fold(coloured, |text, code| text.replace(code, "")), plain);
    assert!(plain.chars().all(|character| character == '\n' || !character.is_control()), "{plain}");
    assert!(!plain.contains('\u{202e}'));
}

#[test]
fn the_table_lists_the_worst_first_and_sums_up_the_rest() {
    let text = table(&full(), false, 80);
    let position = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} is not in {text}"));
    assert!(position("FAIL  adapters/one") < position("  deny  pickle-import  adapter_model.bin: GLOBAL os.system"));
    assert!(position("deny  pickle-import") < position("warn  norm-outlier"));
    assert!(position("  2 allowed: rank, scale") < position("  1 waived: disguised-file"));
    assert!(position("  1 in the baseline: pickle") < position("INCOMPLETE  q"));
    assert!(position("PASS  adapters/quiet") < position("policy policy.toml"));
    assert!(text.contains("rank 8–64"));
    let last = "FAIL  3 adapters (1 pass, 1 fail, 1 incomplete); 2 deny, 2 warn, 2 allowed, 1 waived, \
                1 in the baseline; 1 of the baseline gone; fails from deny on\n";
    assert!(table(&full(), false, 500).ends_with(last), "{text}");
}

#[test]
fn the_table_fits_its_width() {
    for width in [40, 80, 133] {
        let text = table(&full(), false, width);
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width, "{longest} > {width}");
    }
    for width in [0, usize::MAX] {
        assert!(table(&full(), true, width).contains("adapters/one"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No text in any field breaks any of the formats.
    #[test]
    fn strangers_break_nothing(
        text in any::<String>(),
        other in "[ -~\\PC\u{0}-\u{ff}]{0,60}",
        waive in any::<bool>(),
    ) {
        let mut hostile = finding(&text, Severity::Deny, &other, &text);
        hostile.message = other.clone();
        hostile.artifact = text.clone();
        hostile.fingerprint = other.clone();
        let mut report = report(vec![artifact(&text, vec![hostile.clone()], Some(&other))]);
        if waive {
            hostile.waiver = Some(WaiverUse { reason: text.clone(), owner: other.clone(), expires: text.clone() });
        }
        report.policy_findings = vec![hostile];
        report.pins.policy.source = other.clone();
        report.pins.date = text.clone();
        report.conclude();
        valid_sarif(&report);
        valid_junit(&report);
        assert_no_markup(&step_summary(&report));
        let shown = table(&report, false, 80);
        prop_assert!(shown.chars().all(|character| character == '\n' || !character.is_control()));
        serde_json::from_str::<Value>(&badge(&report)).unwrap();
        serde_json::from_str::<Vec<Value>>(&codequality(&report).unwrap()).unwrap();
        let statement = attest(&report, Vec::new()).unwrap();
        let again: Statement = serde_json::from_str(&statement_to_string(&statement).unwrap()).unwrap();
        prop_assert_eq!(again, statement);
        // The one field whose form the standard asks for; the program takes days only.
        report.pins.date = "2026-08-23".to_owned();
        valid_bom(&report);
    }
}

/// The document, known to satisfy the official schema and those that it refers to.
fn valid_bom(report: &GateReport) -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let registry = jsonschema::Registry::new()
        .add("http://cyclonedx.org/schema/spdx.schema.json", read(SPDX_SCHEMA))
        .unwrap()
        .add("http://cyclonedx.org/schema/jsf-0.82.schema.json", read(JSF_SCHEMA))
        .unwrap()
        .prepare()
        .unwrap();
    let schema = read(BOM_SCHEMA);
    let validator =
        jsonschema::options().should_validate_formats(true).with_registry(&registry).build(&schema).unwrap();
    let bom = read(&cyclonedx(report).unwrap());
    let errors: Vec<String> =
        validator.iter_errors(&bom).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // What the schema asks for in words only: references are unique, and lead somewhere.
    let (mut names, mut uses) = (Vec::new(), Vec::new());
    references(&bom, &mut names, &mut uses);
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    assert!(uses.iter().all(|name| unique.contains(name)), "{uses:?}");
    bom
}

/// References that a document gives and takes.
fn references(value: &Value, names: &mut Vec<String>, uses: &mut Vec<String>) {
    if let Some(name) = value.get("bom-ref").and_then(Value::as_str) {
        names.push(name.to_owned());
    }
    for key in ["target", "assessor", "claims", "evidence", "counterEvidence"] {
        let listed = value.get(key).into_iter().flat_map(|used| used.as_array().cloned().unwrap_or(vec![used.clone()]));
        uses.extend(listed.filter_map(|used| used.as_str().map(str::to_owned)));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, names, uses)),
        Value::Object(entries) => entries.values().for_each(|entry| references(entry, names, uses)),
        _ => {}
    }
}

#[test]
fn a_bill_of_materials_satisfies_the_standard() {
    let mut report = full();
    report.pins.base = Some(BasePin { path: "models/base".to_owned(), ..BasePin::default() });
    let bom = valid_bom(&report);
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    let components = bom["components"].as_array().unwrap();
    assert_eq!(components.len(), 3);
    for component in components {
        assert_eq!(component["type"], "machine-learning-model");
        assert_eq!(component["pedigree"]["ancestors"][0]["name"], "base");
        let hashes = &component["components"][0]["hashes"];
        assert_eq!(hashes, &json!([{ "alg": "SHA-256", "content": "01".repeat(32) }]));
    }
    let claims = bom["declarations"]["claims"].as_array().unwrap();
    let speaks = |index: usize| ["evidence", "counterEvidence"].map(|side| claims[index].get(side).is_some());
    assert_eq!([speaks(0), speaks(1), speaks(2)], [[false, true], [false, true], [true, false]]);
    assert_eq!(bom, valid_bom(&report), "the same report has the same bill");

    // Without the base its name in the adapter's config is all that is known.
    report.pins.base = None;
    report.artifacts[0].adapter.as_mut().unwrap().base_model = Some(HOSTILE.to_owned());
    let bom = valid_bom(&report);
    let ancestor = &bom["components"][0]["pedigree"]["ancestors"][0];
    assert!(ancestor["description"].as_str().unwrap().contains("not at hand"));
    assert!(bom["components"][1].get("pedigree").is_none(), "nothing is made up");
    assert!(!bom.to_string().contains('\u{202e}'));
}

/// The fields that GitLab documents, their types, and its five severities.
#[test]
fn code_quality_has_the_fields_that_gitlab_reads() {
    let issues: Vec<Value> = serde_json::from_str(&codequality(&full()).unwrap()).unwrap();
    let severities: Vec<&str> = issues.iter().map(|issue| issue["severity"].as_str().unwrap()).collect();
    // Two that fail, a waived and a known one, a warning, two that are allowed, the policy's, and what could not be
    // analysed.
    assert_eq!(severities, ["critical", "critical", "info", "info", "minor", "info", "info", "minor", "blocker"]);
    let mut prints = std::collections::BTreeSet::new();
    for issue in &issues {
        for key in ["description", "check_name", "fingerprint"] {
            assert!(!issue[key].as_str().unwrap().is_empty(), "{key}: {issue}");
        }
        let path = issue["location"]["path"].as_str().unwrap();
        assert!(!path.is_empty() && !path.starts_with("./") && !path.contains('\u{202e}'), "{path}");
        assert_eq!(issue["location"]["lines"]["begin"], 1);
        let description = issue["description"].as_str().unwrap();
        assert!(!description.contains(['\u{1b}', '\n', '\u{202e}']) && description.chars().count() <= 1000);
        prints.insert(issue["fingerprint"].as_str().unwrap().to_owned());
    }
    assert_eq!(prints.len(), issues.len(), "GitLab shows one finding of a fingerprint");
    assert_eq!(issues[0]["location"]["path"], "adapters/one/adapter_model.bin");
    assert_eq!(issues[0]["check_name"], "pickle-import");
    assert_eq!(codequality(&report(Vec::new())).unwrap(), "[]\n");
}

/// The fields and rules of an in-toto Statement, version 1, as its specification has them.
#[test]
fn a_statement_names_every_file_that_was_read() {
    let base = vec![StatementSubject::new("models/base/config.json".to_owned(), "67".repeat(32))];
    let report = full();
    let statement = attest(&report, base).unwrap();
    let text = statement_to_string(&statement).unwrap();
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "names of strangers are escaped");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["_type"], "https://in-toto.io/Statement/v1");
    let kind = value["predicateType"].as_str().unwrap();
    assert!(kind.split_once(':').is_some_and(|(scheme, rest)| scheme == "urn" && rest.ends_with(":v1")), "{kind}");
    let subjects = value["subject"].as_array().unwrap();
    let names: Vec<&str> = subjects.iter().map(|subject| subject["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"models/base/config.json") && names.contains(&"adapters/one/adapter_config.json"));
    for subject in subjects {
        let digest = subject["digest"]["sha256"].as_str().unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    }
    let predicate = &value["predicate"];
    assert_eq!((&predicate["verdict"], &predicate["failOn"]), (&json!("fail"), &json!("deny")));
    assert_eq!(predicate["pins"]["date"], "2026-08-23");
    let one = &predicate["adapters"][0];
    assert_eq!(one["findings"], json!({ "deny": 2, "warn": 1, "allow": 2, "waived": 1, "known": 1 }));
    assert_eq!(one["failing"], json!(["pickle-import"]));
    assert_eq!(one["unread"], json!(["adapter_model.safetensors"]), "said, and no subject");
    let written = lcr_gate::to_string(&report).unwrap();
    let digest: String = Sha256::digest(written).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!(predicate["report"]["sha256"], json!(digest), "as sha256sum prints it of the report");
    let again: Statement = serde_json::from_str(&text).unwrap();
    assert_eq!(again, statement);
}
