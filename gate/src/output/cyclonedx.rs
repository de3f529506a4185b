//! The report as a bill of materials, CycloneDX 1.6: adapters are components with their files, the base is their
//! ancestor, and what the gate said stands as a claim with its evidence.

use lcr_documents::DocumentError;
use lcr_documents::text::{shortened, visible};
use serde_json::{Value, json};

use crate::pin::digest_of_bytes;
use crate::report::{ArtifactReport, BasePin, GateFinding, GateReport, to_string};
use crate::verdict::GateVerdict;

/// Longest text of a finding; whoever needs the rest finds it in the report's own JSON.
const LONGEST_TEXT: usize = 1000;

/// The report as a CycloneDX document.
pub fn cyclonedx(report: &GateReport) -> Result<String, DocumentError> {
    let created = format!("{}T00:00:00Z", report.pins.date);
    let tool = json!({
        "type": "application",
        "bom-ref": "lcr-audit",
        "name": report.tool.name,
        "version": report.tool.version,
        "hashes": hashes(report.pins.tool.as_deref().unwrap_or_default()),
    });
    let artifacts = || report.artifacts.iter().enumerate();
    let claims: Vec<Value> = artifacts().map(|(index, artifact)| claim(index, artifact)).collect();
    let map: Vec<Value> = claims.iter().map(|claim| json!({ "claims": [claim["bom-ref"]] })).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(&digest_of_bytes(to_string(report)?.as_bytes())),
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": { "components": [tool] },
            "properties": properties(&[
                ("verdict", verdict(report.verdict)),
                ("fail-on", report.fail_on.name()),
                ("policy", &report.pins.policy.source),
                ("policy-sha256", &report.pins.policy.sha256),
                ("probes", report.pins.probes.as_ref().map_or("", |probes| &probes.source)),
                ("probes-sha256", report.pins.probes.as_ref().map_or("", |probes| &probes.sha256)),
                ("baseline-sha256", report.pins.baseline.as_deref().unwrap_or_default()),
            ]),
        },
        "components": artifacts().map(|(index, artifact)| component(index, artifact, report)).collect::<Vec<Value>>(),
        "declarations": {
            "assessors": [{
                "bom-ref": "assessor",
                "thirdParty": false,
                "organization": { "name": format!("{} {}", report.tool.name, report.tool.version) },
            }],
            "attestations": [{
                "summary": format!("What the policy {} makes of the adapters", visible(&report.pins.policy.source)),
                "assessor": "assessor",
                "map": map,
            }],
            "claims": claims,
            "evidence": artifacts()
                .map(|(index, artifact)| evidence(index, artifact, &created))
                .collect::<Vec<Value>>(),
        },
    });
    let text = serde_json::to_string_pretty(&document).map_err(DocumentError::Serialize)?;
    Ok(text + "\n")
}

/// An adapter: its files within it, the base before it.
#[expect(clippy::indexing_slicing, reason = "keys set in the object that is made here")]
fn component(index: usize, artifact: &ArtifactReport, report: &GateReport) -> Value {
    let facts = artifact.adapter.as_ref();
    let files: Vec<Value> = artifact
        .files
        .iter()
        .map(|file| json!({ "type": "file", "name": visible(&file.path), "hashes": hashes(&file.sha256) }))
        .collect();
    let mut component = json!({
        "type": "machine-learning-model",
        "bom-ref": adapter_reference(index),
        "name": visible(name_of(&artifact.path)),
        "components": files,
        "properties": properties(&[
            ("path", &artifact.path),
            ("sha256", &artifact.sha256),
            ("verdict", verdict(artifact.verdict)),
            ("compared", if artifact.compared { "true" } else { "false" }),
            ("base-named-by-adapter", facts.and_then(|facts| facts.base_model.as_deref()).unwrap_or_default()),
        ]),
    });
    if let Some(facts) = facts {
        let ranks: Vec<String> = facts.ranks.iter().map(ToString::to_string).collect();
        let about = format!("{} adapter, rank {}, on {}", facts.method, ranks.join(", "), facts.targets.join(", "));
        component["description"] = json!(shortened(&visible(&about), LONGEST_TEXT));
    }
    let ancestor = match (&report.pins.base, facts.and_then(|facts| facts.base_model.as_deref())) {
        (Some(base), _) => Some(given_base(index, base)),
        (None, Some(named)) => Some(json!({
            "type": "machine-learning-model",
            "bom-ref": format!("base-of-{}", adapter_reference(index)),
            "name": visible(named),
            "description": "Named by the adapter's config; it was not at hand",
        })),
        (None, None) => None,
    };
    if let Some(ancestor) = ancestor {
        component["pedigree"] = json!({ "ancestors": [ancestor] });
    }
    component
}

fn given_base(index: usize, base: &BasePin) -> Value {
    json!({
        "type": "machine-learning-model",
        "bom-ref": format!("base-of-{}", adapter_reference(index)),
        "name": visible(name_of(&base.path)),
        "properties": properties(&[
            ("path", &base.path),
            ("weights-sha256", base.sha256.as_deref().unwrap_or_default()),
            ("tokenizer-sha256", base.tokenizer.as_deref().unwrap_or_default()),
            ("template-sha256", base.template.as_deref().unwrap_or_default()),
        ]),
    })
}

/// That an adapter meets the policy, with what speaks for or against it.
#[expect(clippy::indexing_slicing, reason = "a key set in the object that is made here")]
fn claim(index: usize, artifact: &ArtifactReport) -> Value {
    let side = if artifact.verdict == GateVerdict::Pass { "evidence" } else { "counterEvidence" };
    let mut claim = json!({
        "bom-ref": format!("claim-{index}"),
        "target": adapter_reference(index),
        "predicate": "The adapter meets the policy",
        "reasoning": reasoning(artifact),
    });
    claim[side] = json!([evidence_reference(index)]);
    claim
}

fn reasoning(artifact: &ArtifactReport) -> String {
    let counted = artifact.findings.iter().filter(|finding| finding.counts()).count();
    let error = artifact.error.as_ref().map_or_else(String::new, |error| format!("; not analysed: {error}"));
    let text = format!("{}: {}{error}", verdict(artifact.verdict), lcr_documents::number::plural(counted, "finding"));
    shortened(&visible(&text), LONGEST_TEXT)
}

fn evidence(index: usize, artifact: &ArtifactReport, created: &str) -> Value {
    let data: Vec<Value> = artifact.findings.iter().map(data).collect();
    json!({
        "bom-ref": evidence_reference(index),
        "propertyName": "lcr-audit:verdict",
        "description": reasoning(artifact),
        "data": data,
        "created": created,
    })
}

/// A finding as data of the evidence.
fn data(finding: &GateFinding) -> Value {
    let place = [finding.file.as_str(), finding.location.as_str()];
    let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
    let standing = match (&finding.waiver, finding.counts()) {
        (Some(waiver), _) => format!("{}, waived until {} by {}", finding.level.name(), waiver.expires, waiver.owner),
        (None, false) => format!("{}, known to the baseline", finding.level.name()),
        (None, true) => finding.level.name().to_owned(),
    };
    let text = format!("{standing}: {}: {}", place.join(" at "), finding.message);
    json!({
        "name": finding.rule,
        "contents": {
            "attachment": { "contentType": "text/plain", "content": shortened(&visible(&text), LONGEST_TEXT) },
        },
    })
}

fn verdict(verdict: GateVerdict) -> &'static str {
    match verdict {
        GateVerdict::Pass => "pass",
        GateVerdict::Incomplete => "incomplete",
        GateVerdict::Fail => "fail",
    }
}

/// Facts that the format has no field of its own for; those that are not known are left out.
fn properties(facts: &[(&str, &str)]) -> Value {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| json!({ "name": format!("lcr-audit:{name}"), "value": visible(value) })).collect()
}

fn hashes(sha256: &str) -> Value {
    if sha256.is_empty() { json!([]) } else { json!([{ "alg": "SHA-256", "content": sha256 }]) }
}

fn adapter_reference(index: usize) -> String {
    format!("adapter-{index}")
}

fn evidence_reference(index: usize) -> String {
    format!("evidence-{index}")
}

/// Last component of a path.
fn name_of(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// A number of the form that RFC 9562 keeps for schemes of one's own (version 8), made of the report: the same report
/// has the same.
fn serial_number(sha256: &str) -> String {
    let digits = |from: usize, to: usize| sha256.get(from..to).unwrap_or_default();
    format!("urn:uuid:{}-{}-8{}-8{}-{}", digits(0, 8), digits(8, 12), digits(12, 15), digits(15, 18), digits(18, 30))
}
