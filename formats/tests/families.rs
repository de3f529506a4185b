//! The registry of families and the table of docs/support.md are one.

use std::path::Path;

use lcr_formats::families::{FAMILIES, find};

#[test]
fn the_table_of_what_is_supported_is_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/support.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<String> =
        FAMILIES.iter().map(|family| format!("| `{}` | {} |", family.model_type, family.models)).collect();
    let table = format!("| `model_type` | models |\n|---|---|\n{}\n\n", rows.join("\n"));
    assert!(text.contains(&table), "docs/support.md lacks this table:\n{table}");
}

#[test]
fn a_family_is_found_by_its_own_name_only() {
    for family in FAMILIES {
        assert_eq!(find(family.model_type), Some(family));
        assert_eq!(FAMILIES.iter().filter(|other| other.model_type == family.model_type).count(), 1);
    }
    assert_eq!(find("bert"), None);
    assert_eq!(find(""), None);
}
