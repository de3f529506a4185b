//! `report.json`: its schema, its digits, and what must not be written.

mod support;

use std::path::Path;

use lcr_documents::DocumentError;
use lcr_documents::audit::{Audit, json};

/// The schema in the repository is the one that the types give. `UPDATE_SCHEMA=1 cargo test -p lcr-documents` writes it
/// anew.
#[test]
fn schema_in_the_repository_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("report.schema.json");
    let current = serde_json::to_string_pretty(&json::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &current).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap() == current,
        "report.schema.json differs from the types; UPDATE_SCHEMA=1 writes it anew, keys are added and never moved"
    );
}

#[test]
fn every_digit_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let mut audit = support::deep();
    let kl = &mut support::tokens_of(&mut audit).kl;
    kl.mean = 0.1 + 0.2;
    kl.max = f64::MIN_POSITIVE;
    json::write(&audit, &path).unwrap();
    let read = json::read(&path).unwrap();
    let kl = &read.tokens.as_ref().unwrap().kl;
    assert_eq!(kl.mean.to_bits(), (0.1f64 + 0.2).to_bits());
    assert_eq!(kl.max.to_bits(), f64::MIN_POSITIVE.to_bits());
    assert_eq!(json::to_string(&read).unwrap(), json::to_string(&audit).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the report");
}

/// The keys that the specification names, where it names them.
#[test]
fn keys_are_where_the_specification_says() {
    let value: serde_json::Value = serde_json::to_value(support::toy()).unwrap();
    for pointer in [
        "/schema",
        "/adapter/coverage/unmatched",
        "/weights/model.layers.0.self_attn.q_proj.weight/relative_norm",
        "/layers/resid.2/cosine/p05",
        "/layers/attn_out.1/attention/js/head",
        "/tokens/top1_flip_rate",
        "/trajectories/js",
        "/coherence/write",
        "/verdict",
    ] {
        assert!(value.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn what_is_not_finite_is_refused_by_name() {
    let mut audit = support::toy();
    support::tokens_of(&mut audit).js_mean = f64::NAN;
    match json::to_string(&audit) {
        Err(DocumentError::NotFinite { line, .. }) => assert!(line.contains("js_mean"), "{line}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let audit = Audit { schema: "lcr-audit/report/2".to_owned(), ..support::toy() };
    json::write(&audit, &path).unwrap();
    assert!(matches!(json::read(&path), Err(DocumentError::Schema { .. })));
}
