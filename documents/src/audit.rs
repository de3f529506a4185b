//! What an audit found: the plain types that `report.json` is made of.
//!
//! Nothing here computes. Every field is a number that a metric of `lcr-analysis` produced, or a fact that the caller put in;
//! [`json`] writes these types as they are, `lcr-gate` judges them. The JSON names are stable: keys are added, never
//! moved. Where a quantity is undefined (no variance, too few rows) the field is `None` and the JSON says `null`.

pub mod json;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The verdict, and where it is `pass` whether a size is beyond its limit without being judged; `None` in reports of versions that
    /// did not tell these apart.
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

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `lcr-audit`.
    pub name: String,
    /// Version of the program.
    pub version: String,
}

/// What a report rests on, by SHA-256 in hexadecimal. Folders are digested over the lines `<sha256>  <name>` of their files, sorted
/// by name, as `sha256sum` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The program's own file.
    pub tool: Option<String>,
    /// The base's weights and config.json.
    pub base: Option<String>,
    /// The base's tokenizer files.
    pub tokenizer: Option<String>,
    /// The base's files that hold a chat template.
    pub template: Option<String>,
    /// All files of the adapter's folder.
    pub adapter: Option<String>,
    /// The token ids that both models read, as JSON without blanks.
    pub probes: String,
    /// The text of the policy that gave the verdict; `None` where the built-in rules did.
    pub policy: Option<String>,
    /// Day that the expiry of the policy's waivers was held against, YYYY-MM-DD; `None` where it has none.
    #[serde(default)]
    pub date: Option<String>,
}

/// What was asked of the models beside the probes' source: with it the comparison can be run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// Metrics by name, sorted.
    pub metrics: Vec<String>,
    /// Prompts that are read at most.
    pub max_prompts: Option<usize>,
    /// Tokens of a prompt that are read at most.
    pub max_tokens: usize,
    /// Whether the probes are token ids.
    pub tokens: bool,
    /// Whether the tokenizer's chat template is left out.
    pub raw: bool,
    /// Whether sinks are kept.
    pub keep_sinks: bool,
    /// Dimensions of the subspaces that are compared.
    pub subspace_dimensions: usize,
    /// Tokens that are followed through the layers.
    pub tracked: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Facts about the base model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Base {
    /// Folder, as given on the command line.
    pub path: String,
    /// `model_type` of config.json.
    pub family: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Parameters in the checkpoint.
    pub parameters: u64,
    /// Bytes of the checkpoint's tensors.
    pub bytes: u64,
    /// How the weights are stored: `BF16`, `F16`, `F32`, or several joined by `+`. Both models compute in f32.
    pub storage_dtype: String,
}

/// Facts about the adapter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AdapterFacts {
    /// Folder, as given on the command line.
    pub path: String,
    /// Last component of the path, to tell several adapters apart.
    pub name: String,
    /// The base that the adapter's config says it was trained on.
    #[serde(default)]
    pub base_model: Option<String>,
    /// `PEFT` or `MLX`.
    pub format: String,
    /// `LoRA`, `DoRA`, with `rsLoRA` scaling named where used.
    pub method: String,
    /// Ranks found, ascending, without repetition.
    pub ranks: Vec<usize>,
    /// Scales used (alpha/rank or alpha/√rank), ascending, without repetition.
    pub scales: Vec<f64>,
    /// Kinds of module changed: `q_proj`, `v_proj`, …
    pub targets: Vec<String>,
    /// Parameters in the adapter's file.
    pub parameters: u64,
    /// Bytes of the adapter's file.
    pub bytes: u64,
    /// SHA-256 of the adapter's tensor file, in hex.
    pub sha256: String,
    /// Whether the adapter leaves every weight as it was.
    pub zero_effect: bool,
    /// Every tensor accounted for.
    pub coverage: Coverage,
}

/// Every tensor of an adapter is applied or named.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Tensors in the file.
    pub tensors: usize,
    /// Tensors that took part in the forward pass.
    pub applied: usize,
    /// Names of the others. A run with any does not get as far as a report.
    pub unmatched: Vec<String>,
    /// Tensors of a classification head, which a language model does not have: they took no part, and are not among the others.
    #[serde(default)]
    pub set_aside: Vec<String>,
    /// Tables over the vocabulary of another size than the base's, compared over the rows that both have.
    #[serde(default)]
    pub vocabulary: Vec<ResizedTable>,
    /// Modules that the config targets and the file holds no tensor for: they stay as in the base.
    pub targeted_without_tensors: Vec<String>,
}

impl Coverage {
    /// Tensors that were neither applied nor set aside.
    pub fn uncovered(&self) -> usize {
        self.tensors.saturating_sub(self.applied + self.set_aside.len()).max(self.unmatched.len())
    }
}

/// An embedding or output head of another size than the base's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ResizedTable {
    /// Tensor of the adapter.
    pub tensor: String,
    /// Rows in the base.
    pub base_rows: usize,
    /// Rows in the adapter.
    pub adapter_rows: usize,
}

/// Facts about the text that both models read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Probes {
    /// Built-in set's name, or the file.
    pub source: String,
    /// Prompts.
    pub prompts: usize,
    /// Tokens in all of them.
    pub tokens: usize,
    /// Whether the tokenizer's chat template was applied.
    pub chat_template: bool,
    /// Positions left out of every metric because they open a sequence.
    pub first_positions: usize,
    /// Positions left out because their norm exceeds ten times the median, by site; sites without any are not listed.
    pub sinks: IndexMap<String, usize>,
    /// Whether sinks were kept after all (`--keep-sinks`).
    pub keep_sinks: bool,
    /// Seed of every random choice.
    pub seed: u64,
}

/// What one module's weight W became: W' = W + ΔW, DoRA's rescaling included.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WeightChange {
    /// Rows (outputs) and columns (inputs) of W.
    pub shape: [usize; 2],
    /// `lora`, `dora`, or `whole` where the adapter carries the tensor itself.
    pub kind: String,
    /// ‖ΔW‖_F/‖W‖_F; `None` where W is zero.
    pub relative_norm: Option<f64>,
    /// σ₁(ΔW)/σ₁(W); `None` where W is zero.
    pub spectral_ratio: Option<f64>,
    /// Cosine of W and W' flattened: the "weight cosine" that says 1.0000.
    pub cosine: f64,
    /// 1 − `cosine`, computed without the cancellation.
    pub one_minus_cosine: f64,
    /// Singular values of ΔW above 10⁻⁶ σ₁.
    pub rank: usize,
    /// Σσ²/σ₁² of ΔW.
    pub stable_rank: Option<f64>,
    /// exp H(σ/Σσ) of ΔW.
    pub rankme: Option<f64>,
    /// exp H(σ²/Σσ²) of ΔW.
    pub effective_rank: Option<f64>,
    /// σ₁²/Σσ² of ΔW.
    pub top1_share: Option<f64>,
    /// Pearson kurtosis of ΔW's entries (3 for a normal distribution).
    pub kurtosis: Option<f64>,
    /// Share of ‖ΔW‖² in its eight heaviest rows.
    pub row_top8_share: Option<f64>,
    /// Angle between the rows of W and of W', degrees.
    pub row_rotation_deg: RowRotation,
    /// ‖w'‖/‖w‖ − 1 over rows.
    pub row_norm_change: RowNormChange,
    /// Of a bias or a norm's weights: the largest change of one entry over the typical size of what it joins, ‖W‖_F/√n of its module's
    /// weight W with n outputs, which of a norm is the vector itself; `None` of matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_change: Option<f64>,
    /// ‖U₁₀(W)ᵀ U(ΔW)‖_F²/rank: does the change write where W already writes?
    pub output_overlap: Option<f64>,
    /// Of the ten leading left singular vectors of W', how many have |cos| < 0.5 with every one of W's.
    pub intruder_dimensions: Option<usize>,
    /// √(2 ln n/d): the largest |cos| that n random directions of d dimensions reach.
    pub intruder_chance_cosine: f64,
    /// What is left of the change after a merge into the base's bf16.
    pub merge_survival: MergeSurvival,
    /// Largest singular values of ΔW, descending, at most 64.
    pub singular_values: Vec<f64>,
}

/// Angles between corresponding rows, degrees.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RowRotation {
    /// Mean over rows.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

/// Relative changes of row norms.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RowNormChange {
    /// Mean of |‖w'‖/‖w‖ − 1|.
    pub mean_abs: f64,
    /// Largest |‖w'‖/‖w‖ − 1|.
    pub max_abs: f64,
    /// Smallest ‖w'‖/‖w‖ − 1, with its sign: −1 is a row that is gone.
    pub min: f64,
}

/// bf16(W') − bf16(W) against ΔW: small adapters vanish when merged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MergeSurvival {
    /// Cosine of the two; `None` where nothing changed.
    pub cosine: Option<f64>,
    /// Share of entries that change at all.
    pub changed_share: f64,
}

/// How far apart the two models' activations are at one site. Rows are tokens, columns the width of the stream.
///
/// A metric that was not asked for is `None`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteChange {
    /// Tokens compared.
    pub rows: usize,
    /// ‖Δ‖_F/‖X‖_F.
    pub relative_change: f64,
    /// Cosine of each token with itself in the other model.
    pub cosine: Cosines,
    /// Cosine of the flattened matrices: usually quoted, never judged on.
    pub cosine_flat: f64,
    /// Mean over tokens of the cosine after removing each model's mean.
    pub cosine_centered: f64,
    /// Linear CKA (Kornblith et al. 2019).
    pub cka: Option<f64>,
    /// The same with the unbiased HSIC estimator (Song et al. 2012).
    pub cka_debiased: Option<f64>,
    /// Orthogonal Procrustes.
    pub procrustes: Option<Procrustes>,
    /// Mean share of a token's ten cosine neighbours that it keeps.
    pub knn_overlap: Option<f64>,
    /// What `knn_overlap` would be for unrelated states: 10/(n − 1).
    pub knn_chance: Option<f64>,
    /// Leading right singular subspaces of both.
    pub subspace: Option<Subspace>,
    /// Spectra of both.
    pub spectrum: Option<SpectrumPair>,
    /// Δ itself.
    pub drift: Option<Drift>,
    /// Clusterings of both.
    pub clusters: Option<Clusters>,
    /// Attention patterns; at `attn_out` sites only.
    pub attention: Option<AttentionChange>,
}

/// Statistics over tokens of cos(x_t, y_t).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Cosines {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Fifth percentile.
    pub p05: f64,
    /// Smallest.
    pub min: f64,
    /// 1 − `mean`, computed without the cancellation.
    pub one_minus_mean: f64,
    /// Mean angle, degrees.
    pub mean_angle_deg: f64,
}

/// Orthogonal Procrustes of the centred, unit-norm matrices. In-sample, so never judged on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Procrustes {
    /// ‖A − B‖².
    pub raw_squared: f64,
    /// min over orthogonal R of ‖A − BR‖².
    pub residual_squared: f64,
    /// 1 − residual/raw; `None` where raw is zero.
    pub explained: Option<f64>,
}

/// Leading k right singular subspaces V, W of both centred matrices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Subspace {
    /// Dimensions compared.
    pub k: usize,
    /// ‖VᵀW‖_F²/k.
    pub overlap: f64,
    /// Largest principal angle, degrees.
    pub max_angle_deg: f64,
    /// s_k/s_{k+1} of the base: without a gap the overlap means nothing.
    pub base_gap: Option<f64>,
    /// s_k/s_{k+1} of the adapted model.
    pub adapted_gap: Option<f64>,
}

/// Spectra of both centred matrices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SpectrumPair {
    /// Of the base.
    pub base: Spectrum,
    /// Of the adapted model.
    pub adapted: Spectrum,
    /// Jensen–Shannon divergence (nats) between the two λ/Σλ, sorted.
    pub js: f64,
}

/// Functions of the singular values s, and of λ = s².
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Spectrum {
    /// exp H(s/Σs) (Garrido et al. 2023).
    pub rankme: Option<f64>,
    /// exp H(λ/Σλ), the entropy rank of the variances.
    pub effective_rank: Option<f64>,
    /// (Σλ)²/Σλ².
    pub participation_ratio: Option<f64>,
    /// Σλ/λ₁.
    pub stable_rank: Option<f64>,
    /// −slope of ln λ_i on ln i, i = 11 … min(100, rank) (Agrawal et al. 2022); `None` under five points.
    pub alpha_req: Option<f64>,
    /// Largest singular values, descending, at most 64.
    pub singular_values: Vec<f64>,
}

/// Size and direction of Δ.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// mean‖Δ_t‖/mean‖x_t‖.
    pub size: f64,
    /// ‖mean Δ_t‖/mean‖Δ_t‖; `None` where nothing moved.
    pub coherence: Option<f64>,
    /// 1/√n: the coherence of unrelated directions.
    pub coherence_chance: f64,
    /// σ₁²/Σσ² of uncentred Δ; `None` where nothing moved.
    pub pc1_share: Option<f64>,
}

/// k-means on both, same seeds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Clusters {
    /// Clusters asked for.
    pub k: usize,
    /// Adjusted Rand index of the two labelings.
    pub ari: f64,
    /// Normalised mutual information (arithmetic mean) of the two labelings.
    pub nmi: f64,
    /// Adjusted Rand index of two bootstraps of the base: the agreement that chance in k-means allows.
    pub ceiling: f64,
}

/// Jensen–Shannon divergence (nats) between the two models' attention rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AttentionChange {
    /// See the type.
    pub js: AttentionJs,
}

/// Attention divergences by head.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AttentionJs {
    /// Mean over heads and rows.
    pub mean: f64,
    /// Largest of any row of any head.
    pub max: f64,
    /// Mean over rows, by head.
    pub head: Vec<f64>,
}

/// Next-token distributions, over the positions compared.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenChange {
    /// Positions compared.
    pub positions: usize,
    /// KL(base‖adapted), nats.
    pub kl: KlSummary,
    /// Mean Jensen–Shannon divergence, nats.
    pub js_mean: f64,
    /// Share of positions whose most likely next token differs.
    pub top1_flip_rate: f64,
    /// Mean entropy, nats.
    pub entropy: Entropies,
    /// The positions with the largest KL, worst first.
    pub worst: Vec<WorstToken>,
}

/// KL(base‖adapted) over positions, nats.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KlSummary {
    /// Mean.
    pub mean: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Largest.
    pub max: f64,
}

/// Mean entropies, nats.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Entropies {
    /// Of the base's next-token distributions.
    pub base: f64,
    /// Of the adapted model's.
    pub adapted: f64,
}

/// A position where the two models disagree most about what comes next.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WorstToken {
    /// Index of the prompt.
    pub prompt: usize,
    /// Index of the token in the prompt.
    pub position: usize,
    /// KL(base‖adapted), nats.
    pub kl: f64,
    /// The text up to and including this token (its last 160 characters); token ids where there is no tokenizer.
    pub context: String,
    /// The base's most likely next tokens, most likely first.
    pub base_top: Vec<Prediction>,
    /// The adapted model's.
    pub adapted_top: Vec<Prediction>,
}

/// One next-token candidate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// Token id.
    pub token: u32,
    /// Its text; `#id` where there is no tokenizer.
    pub text: String,
    /// Probability.
    pub probability: f64,
}

/// Paths of the tracked tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Trajectories {
    /// Mean over tracked tokens of the Jensen–Shannon divergence (nats) between both lenses, by site `resid.0` … `resid.L`.
    pub js: Vec<f64>,
    /// Share of tracked tokens whose lens says the same top token in both, by site.
    pub top1_agreement: Vec<f64>,
    /// Mean commit layer.
    pub commit_layer: PairOf,
    /// Mean straightness (net displacement over path length).
    pub straightness: PairOf,
    /// The tracked tokens.
    pub tracked: Vec<Track>,
}

/// The same mean for both models.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PairOf {
    /// Of the base.
    pub base: f64,
    /// Of the adapted model.
    pub adapted: f64,
}

/// One token's way through the layers in both models.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Track {
    /// Index of the prompt.
    pub prompt: usize,
    /// Index of the token in the prompt.
    pub position: usize,
    /// The token's text (or `#id`).
    pub text: String,
    /// Jensen–Shannon divergence (nats) between both lenses, by site `resid.0` … `resid.L`.
    pub js: Vec<f64>,
    /// The base's path.
    pub base: Path,
    /// The adapted model's path.
    pub adapted: Path,
}

/// One token's way through the layers of one model. Every list runs over `resid.0` … `resid.L`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// First layer from which the lens's top token never changes again.
    pub commit_layer: usize,
    /// The lens's top token, as text.
    pub top: Vec<String>,
    /// Rank (0 = first) of the model's final top token.
    pub rank_of_final: Vec<usize>,
    /// Σ‖h_{l+1} − h_l‖.
    pub length: f64,
    /// ‖h_L − h_0‖.
    pub net: f64,
    /// net/length.
    pub straightness: Option<f64>,
    /// The stream on the two leading principal axes of all tracked tokens of both models, each state scaled to unit norm.
    pub plane: Vec<[f64; 2]>,
}

/// Whether the adapter's modules agree on one direction of the stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Coherence {
    /// Mean |cos| over pairs of modules of the leading left singular vectors of ΔW of the writers (o, down).
    pub write: Option<f64>,
    /// Mean |cos| over pairs of the leading right singular vectors of the readers (q, k, v, gate, up).
    pub read: Option<f64>,
    /// √(2/πd): what unrelated directions give.
    pub chance: f64,
}

/// One thing worth a reader's attention.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Code of the rule, such as `zero-effect`.
    pub rule: String,
    /// How bad.
    pub level: Level,
    /// Module or site; in a file, the place there.
    #[serde(rename = "where")]
    pub location: String,
    /// The file of the adapter that it is about; empty where it is about the comparison.
    #[serde(default)]
    pub file: String,
    /// The number that was judged.
    pub measured: Option<f64>,
    /// What arithmetic alone gives.
    pub floor: Option<f64>,
    /// What chance gives.
    pub null: Option<f64>,
    /// 95 % interval of the measured number.
    pub interval: Option<[f64; 2]>,
    /// The limit it was held against.
    pub limit: Option<f64>,
    /// What it means, for a reader.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Look before you merge.
    Warn,
    /// Do not merge.
    Fail,
}

/// The worst of the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing above a note.
    Pass,
    /// At least one warning.
    Warn,
    /// At least one failure.
    Fail,
}

/// What a reader is told: the verdict, with sizes that nobody judges kept apart from an adapter that nothing stands against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// No rule objects to what was checked.
    NoObjection,
    /// No rule objects, and a size is beyond its limit, which no rule judges.
    LargeChangeNotJudged,
    /// At least one warning.
    Warn,
    /// At least one failure.
    Fail,
}

/// A size and the limit that the policy, or the catalogue of rules, has for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Size {
    /// Code of the rule that has the limit.
    pub rule: String,
    /// Module, where it is one's.
    #[serde(rename = "where")]
    pub location: String,
    /// The size.
    pub measured: f64,
    /// Its limit.
    pub limit: f64,
    /// Whether going beyond the limit is held against the adapter.
    pub judged: bool,
}

/// Which parts of an adapter were looked at, and by how many rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// The adapter's files: kinds, pickles, templates, tokenizer, config, tensors by themselves.
    pub files: Part,
    /// Its change of every weight.
    pub weights: Part,
    /// What the adapted model says next on the probes.
    pub behaviour: Part,
}

/// How one part was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What was done.
    pub state: PartState,
    /// Rules that were tried.
    pub tried: usize,
    /// Rules that there are for this part.
    pub rules: usize,
    /// Warnings and failures.
    pub findings: usize,
    /// Notes, which are held against nobody.
    pub notes: usize,
}

/// What was done about a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// Rules were held against it.
    Judged,
    /// Its sizes are shown, and no rule judges them.
    Shown,
    /// It was not looked at in this run.
    NotChecked,
}
