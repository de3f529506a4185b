//! What an audit found: the plain types that `report.json` is made of.
//!
//! Nothing here computes. Every field is a number that a metric of `lcr-analysis` produced, or a fact that the caller
//! put in; [`json`] writes these types as they are, `lcr-gate` judges them. The JSON names are stable: keys are added,
//! never moved. Where a quantity is undefined (no variance, too few rows) the field is `None` and the JSON says `null`.

mod adapter;
mod findings;
pub mod json;
mod provenance;
mod questions;
mod rows;
mod site;
mod tokens;
mod trajectories;
mod weights;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::adapter::{AdapterFacts, Base, Coverage, ResizedTable};
pub use self::findings::{Checked, Finding, Judgement, Level, Part, PartState, Size, Verdict};
pub use self::provenance::{Asked, Probes, ProfilePin, Provenance, SetPin, Stacked, Tool};
pub use self::questions::{Answer, Depth, Question, Seen};
pub use self::rows::{ROW_FACTOR, ROW_GONE, ROW_TURNED};
pub use self::site::{
    AttentionChange, AttentionJs, Clusters, Cosines, Procrustes, RdmStability, Shift, SiteChange, Spectrum,
    SpectrumPair, Subspace,
};
pub use self::tokens::{Entropies, KlSummary, Prediction, TokenChange, WorstToken};
pub use self::trajectories::{PairOf, Path, Track, Trajectories};
pub use self::weights::{Coherence, MergeSurvival, RowNormChange, RowRotation, WeightChange};

/// The schema that [`Audit`] is written under.
pub const SCHEMA: &str = "lcr-audit/report/1";

/// One adapter compared with its base: the whole of `report.json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The program that wrote this.
    pub tool: Tool,
    /// The unmodified model.
    pub base: Base,
    /// The adapter.
    pub adapter: AdapterFacts,
    /// The text that both models read.
    pub probes: Probes,
    /// Digests of everything that the numbers rest on; `None` in reports of versions that did not pin it.
    #[serde(default, rename = "composition")]
    pub provenance: Option<Provenance>,
    /// What was asked of the models; `None` in reports of versions that did not say.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// What changed in the weights, by `<module path>.weight`; needs no forward pass.
    pub weights: IndexMap<String, WeightChange>,
    /// What changed in the activations, by site: `resid.0`, `attn_out.0`, `mlp_out.0`, `resid.1`, …
    pub layers: IndexMap<String, SiteChange>,
    /// What changed in the next-token distributions.
    pub tokens: Option<TokenChange>,
    /// The paths of single tokens through the residual stream, seen through the logit lens.
    pub trajectories: Option<Trajectories>,
    /// Whether the modules of the adapter all write, or all read, one direction.
    pub coherence: Coherence,
    /// What was asked about the adapter, by the question's name, with answers; empty where nothing was.
    #[serde(default)]
    pub questions: IndexMap<String, Question>,
    /// Questions that the policy requires and that have no answer, each with the reason; filled by the judge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
    /// Numbers measured on nulls (numeric floor, random adapters), by name; empty where none was run.
    pub null: IndexMap<String, f64>,
    /// Sizes that a policy has a limit for, whether or not it judges by them.
    #[serde(default)]
    pub sizes: Vec<Size>,
    /// What the report's rules say of all this; filled by the judge in `lcr-gate`.
    pub findings: Vec<Finding>,
    /// Which parts of the adapter were looked at; `None` in reports of versions that did not say.
    #[serde(default)]
    pub checked: Option<Checked>,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// The verdict, and where it is `pass` whether a size is beyond its limit without being judged; `None` in reports
    /// of versions that did not tell these apart.
    #[serde(default)]
    pub judgement: Option<Judgement>,
}

impl Audit {
    /// The judgement; that of the verdict where the report does not say.
    pub fn outcome(&self) -> Judgement {
        self.judgement.unwrap_or(match self.verdict {
            Verdict::Pass => Judgement::NoObjection,
            Verdict::Warn => Judgement::Warn,
            Verdict::Fail => Judgement::Fail,
        })
    }
}
