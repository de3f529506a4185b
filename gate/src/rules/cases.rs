//! For each rule and each way in which it judges, a case that raises it and one that passes it, through the gate's own
//! judge.
//!
//! What a scan's rules are raised by on the disk is the hostile folders' matter, in `tests/zoo`; here they are held to
//! their numbers.

use std::collections::BTreeSet;

use lcr_documents::audit::{Answer, Audit, Depth, Level, Question, ResizedTable, RowRotation, WeightChange};
use lcr_scan::{AdapterSummary, Check, FileRecord, Observation, Scan, WeightStatistics};

use super::allowed::{BASE_MODEL_NOT_ALLOWED, FORMAT_NOT_ALLOWED, REVISION_NOT_ALLOWED, TARGET_NOT_ALLOWED};
use super::base::{BASE_DIGEST, BASE_NAME_MISMATCH, BASE_REVISION};
use super::between_modules::{COHERENT_READS, COHERENT_WRITES, CONCENTRATED_MODULE, NORM_OUTLIER, UNKNOWN_MODULE};
use super::changed_modules::{
    BIAS_CHANGE, CLASSIFICATION_HEAD, EMBEDDING_CHANGE, ROUTER_CHANGE, TARGETED_WITHOUT_TENSORS, WHOLE_TENSOR,
    ZERO_EFFECT,
};
use super::comparison::coverage::{UNCOVERED_TENSORS, VOCABULARY_RESIZED};
use super::comparison::sizes::{FLIPPED_TOKENS, NEXT_TOKEN_KL, WEIGHT_CHANGE};
use super::comparison::weights::{
    INTRUDER_DIMENSIONS, LARGER_THAN_WEIGHT, MAGNITUDE_SPIKE, VANISHES_WHEN_MERGED, VECTOR_CHANGE,
};
use super::config::{
    ADAPTER_NAME_IN_KEYS, BASE_CHANGED, CONFIG_MISMATCH, CONFIG_SYNTAX, CONFIG_UNSUPPORTED, DUPLICATE_KEY,
    FOREIGN_FORMAT, LOADERS_DISAGREE, NO_ADAPTER, UNKNOWN_INITIALIZATION, WHOLE_MODEL,
};
use super::demands::{NOT_COMPARED, SIZE};
use super::file_kinds::{
    BEYOND_LIMITS, CACHE_MISMATCH, DECEPTIVE_NAME, DISGUISED_FILE, EXECUTABLE, GIT_FOLDER, LFS_POINTER, LINK_OUTSIDE,
    NOT_ENTERED, REMOTE_CODE, SCRIPT, SPECIAL_FILE, UNKNOWN_FILE, UNREADABLE_FILE,
};
use super::pickles_and_archives::{ARCHIVE, ARCHIVE_HOSTILE, PICKLE, PICKLE_IMPORT, PICKLE_MALFORMED, TRAINER_STATE};
use super::rows::{DEAD_ROWS, FLIPPED_ROWS, MAGNITUDE_OUTLIER};
use super::sizes_of_change::{
    BIAS_OUTLIER, CHANGE_SIZE, NEGATIVE_SCALE, OVERFLOW, RANK, SCALE, TENSOR_SIZE, UNTRAINED_TENSOR, WHOLE_OUTLIER,
};
use super::templates::{
    TEMPLATE_CARRIED, TEMPLATE_CONDITIONAL, TEMPLATE_DIFFERS, TEMPLATE_EQUIVALENT, TEMPLATE_SUSPICIOUS, TEMPLATE_UNREAD,
};
use super::tensor_files::{
    HEADER_SIZE, HEADER_SYNTAX, METADATA, NON_FINITE, OVERLAPPING_TENSORS, TENSOR_LAYOUT, TRUNCATED, UNANALYSED_TENSOR,
    UNCLAIMED_BYTES,
};
use super::tokenizer::{ADDED_TOKENS, TOKENIZER_CARRIED, TOKENIZER_DIFFERS, TOKENIZER_REWRITES, TOKENIZER_SETTINGS};
use super::waivers::{WAIVER_EXPIRED, WAIVER_REFUSED, WAIVER_STALE};
use super::{Judge, Rule, question_names, rules, support};
use crate::policy::Policy;
use crate::{BasePin, GateVerdict, Provenance, ScannedAdapter, judge, judge_numbers};

const TENSORS: &str = "adapter_model.safetensors";
const DAY: &str = "2026-06-30";

/// What is put before the judge.
struct Trial {
    scan: Scan,
    audit: Option<Audit>,
    not_compared: Option<String>,
    base_sha256: Option<String>,
    /// What the policy says beside `version = 1`.
    policy: String,
}

impl Trial {
    /// A sound adapter under the built-in levels and limits.
    fn sound() -> Self {
        let sha256 = "a".repeat(64);
        let adapter = AdapterSummary {
            file: TENSORS.to_owned(),
            sha256: sha256.clone(),
            format: "PEFT".to_owned(),
            method: "LoRA".to_owned(),
            base_model: Some("org/base".to_owned()),
            revision: None,
            ranks: vec![8],
            scales: vec!["2".to_owned()],
            targets: vec!["q_proj".to_owned()],
            layers: vec![0],
            tensors: 2,
            parameters: 1024,
            zero_effect: false,
            whole: Vec::new(),
        };
        let file = FileRecord { path: TENSORS.to_owned(), bytes: 4096, sha256 };
        let scan = Scan {
            files: vec![file],
            sha256: "f".repeat(64),
            adapter: Some(adapter),
            weights: WeightStatistics::default(),
            observations: Vec::new(),
        };
        Self { scan, audit: None, not_compared: None, base_sha256: None, policy: String::new() }
    }

    /// The same, of which the scan saw something.
    fn seeing(mut self, seen: Observation) -> Self {
        self.scan.observations.push(seen);
        self
    }

    /// The same, compared with its base, with this change to what the comparison measured.
    fn compared(self, change: impl FnOnce(&mut Audit)) -> Self {
        let mut audit = support::toy();
        change(&mut audit);
        Self { audit: Some(audit), ..self }
    }

    /// The same, with this change to what the scan read.
    fn with(mut self, change: impl FnOnce(&mut Scan, &mut AdapterSummary)) -> Self {
        let mut adapter = self.scan.adapter.take().expect("an adapter");
        change(&mut self.scan, &mut adapter);
        self.scan.adapter = Some(adapter);
        self
    }

    /// The same under a policy.
    fn under(self, policy: &str) -> Self {
        Self { policy: policy.to_owned(), ..self }
    }

    /// The codes of the rules that object.
    fn raised(self) -> BTreeSet<String> {
        let policy = Policy::parse("test", &format!("version = 1\n{}", self.policy)).expect("a policy");
        let base = self.base_sha256.map(|sha256| BasePin { sha256: Some(sha256), ..BasePin::default() });
        let pins = Provenance { base, date: DAY.to_owned(), ..Provenance::default() };
        let Self { scan, audit, not_compared, .. } = self;
        let subject = ScannedAdapter { path: "adapter".to_owned(), scan, audit, not_compared, error: None };
        judge(vec![subject], &policy, pins).findings().map(|finding| finding.rule.clone()).collect()
    }
}

/// A rule with what raises it and what passes it.
struct Case {
    rule: &'static Rule,
    raises: Trial,
    passes: Trial,
}

fn case(rule: &'static Rule, raises: Trial, passes: Trial) -> Case {
    Case { rule, raises, passes }
}

/// What a scan says under a check.
fn seen(check: Check) -> Observation {
    Observation::new(check, TENSORS, "what was seen")
}

/// A rule that finds whatever the scan observes; all other observations pass it.
fn noted(rule: &'static Rule, check: Check) -> Case {
    let others = Check::ALL.iter().filter(|other| **other != check);
    case(
        rule,
        Trial::sound().seeing(seen(check)),
        others.fold(Trial::sound(), |trial, other| trial.seeing(seen(*other))),
    )
}

/// A rule that finds numbers: one that passes it, the largest, and one beyond.
fn measured(rule: &'static Rule, check: Check, passes: f64, raises: f64) -> Case {
    let trial = |value: f64| Trial::sound().seeing(seen(check).measured(value));
    case(rule, trial(raises), trial(passes))
}

/// A rule on base and adapted model side by side: what raises it, and what does not quite.
fn beside(rule: &'static Rule, raises: fn(&mut Audit), passes: fn(&mut Audit)) -> Case {
    case(rule, Trial::sound().compared(raises), Trial::sound().compared(passes))
}

/// A rule on what a policy asks for: a policy that it objects to, and one that it does not.
fn asked(rule: &'static Rule, raises: &str, passes: &str) -> Case {
    case(rule, Trial::sound().under(raises), Trial::sound().under(passes))
}

fn first_weight(audit: &mut Audit) -> &mut WeightChange {
    audit.weights.values_mut().next().expect("a weight")
}

fn of_files() -> Vec<Case> {
    vec![
        noted(&UNREADABLE_FILE, Check::Unreadable),
        noted(&BEYOND_LIMITS, Check::BeyondLimits),
        noted(&LINK_OUTSIDE, Check::LinkOutside),
        noted(&SPECIAL_FILE, Check::SpecialFile),
        noted(&NOT_ENTERED, Check::NotEntered),
        noted(&GIT_FOLDER, Check::GitFolder),
        noted(&CACHE_MISMATCH, Check::CacheMismatch),
        noted(&DECEPTIVE_NAME, Check::DeceptiveName),
        noted(&DISGUISED_FILE, Check::DisguisedFile),
        noted(&EXECUTABLE, Check::Executable),
        noted(&SCRIPT, Check::Script),
        noted(&REMOTE_CODE, Check::RemoteCode),
        noted(&UNKNOWN_FILE, Check::UnknownFile),
        noted(&LFS_POINTER, Check::LfsPointer),
        noted(&PICKLE, Check::Pickle),
        noted(&TRAINER_STATE, Check::TrainerState),
        noted(&PICKLE_IMPORT, Check::PickleImport),
        noted(&PICKLE_MALFORMED, Check::PickleMalformed),
        noted(&ARCHIVE, Check::Archive),
        noted(&ARCHIVE_HOSTILE, Check::ArchiveHostile),
        noted(&HEADER_SIZE, Check::HeaderSize),
        noted(&HEADER_SYNTAX, Check::HeaderSyntax),
        noted(&TRUNCATED, Check::Truncated),
        noted(&TENSOR_LAYOUT, Check::TensorLayout),
        noted(&OVERLAPPING_TENSORS, Check::OverlappingTensors),
        noted(&UNCLAIMED_BYTES, Check::UnclaimedBytes),
        noted(&NON_FINITE, Check::NonFinite),
        noted(&METADATA, Check::Metadata),
        noted(&UNANALYSED_TENSOR, Check::UnanalysedTensor),
        noted(&TEMPLATE_CARRIED, Check::TemplateCarried),
        noted(&TEMPLATE_DIFFERS, Check::TemplateDiffers),
        noted(&TEMPLATE_EQUIVALENT, Check::TemplateEquivalent),
        noted(&TEMPLATE_SUSPICIOUS, Check::TemplateSuspicious),
        noted(&TEMPLATE_CONDITIONAL, Check::TemplateConditional),
        noted(&TEMPLATE_UNREAD, Check::TemplateUnread),
        noted(&TOKENIZER_CARRIED, Check::TokenizerCarried),
        noted(&TOKENIZER_DIFFERS, Check::TokenizerDiffers),
        noted(&TOKENIZER_SETTINGS, Check::TokenizerSettings),
        noted(&TOKENIZER_REWRITES, Check::TokenizerRewrites),
        noted(&ADDED_TOKENS, Check::AddedTokens),
    ]
}

fn of_the_adapter() -> Vec<Case> {
    vec![
        noted(&NO_ADAPTER, Check::NoAdapter),
        noted(&FOREIGN_FORMAT, Check::ForeignFormat),
        noted(&WHOLE_MODEL, Check::WholeModel),
        noted(&CONFIG_SYNTAX, Check::ConfigSyntax),
        noted(&DUPLICATE_KEY, Check::DuplicateKey),
        noted(&CONFIG_UNSUPPORTED, Check::ConfigUnsupported),
        noted(&CONFIG_MISMATCH, Check::ConfigMismatch),
        noted(&ADAPTER_NAME_IN_KEYS, Check::AdapterNameInKeys),
        noted(&LOADERS_DISAGREE, Check::LoadersDisagree),
        noted(&BASE_CHANGED, Check::BaseChanged),
        noted(&UNKNOWN_INITIALIZATION, Check::UnknownInitialization),
        noted(&TARGETED_WITHOUT_TENSORS, Check::TargetedWithoutTensors),
        noted(&ZERO_EFFECT, Check::ZeroEffect),
        noted(&WHOLE_TENSOR, Check::WholeTensor),
        noted(&CLASSIFICATION_HEAD, Check::ClassificationHead),
        noted(&EMBEDDING_CHANGE, Check::EmbeddingChange),
        noted(&BIAS_CHANGE, Check::BiasChange),
        noted(&ROUTER_CHANGE, Check::RouterChange),
        measured(&RANK, Check::Rank, 256.0, 257.0),
        measured(&SCALE, Check::Scale, 16.0, 16.01),
        noted(&NEGATIVE_SCALE, Check::NegativeScale),
        measured(&OVERFLOW, Check::Overflow, 65_504.0, 65_505.0),
        measured(&CHANGE_SIZE, Check::ChangeSize, 10.0, 10.01),
        measured(&TENSOR_SIZE, Check::TensorSize, 100.0, 100.1),
        measured(&WHOLE_OUTLIER, Check::WholeOutlier, 50.0, 50.1),
        measured(&UNTRAINED_TENSOR, Check::UntrainedTensor, 0.9, 0.91),
        measured(&BIAS_OUTLIER, Check::BiasOutlier, 50.0, 50.1),
        noted(&DEAD_ROWS, Check::DeadRows),
        noted(&FLIPPED_ROWS, Check::FlippedRows),
        measured(&MAGNITUDE_OUTLIER, Check::MagnitudeOutlier, 50.0, 50.1),
        measured(&CONCENTRATED_MODULE, Check::ConcentratedModule, 14.0, 14.1),
        measured(&NORM_OUTLIER, Check::NormOutlier, 14.0, 14.1),
        measured(&COHERENT_WRITES, Check::CoherentWrites, 0.7, 0.71),
        measured(&COHERENT_READS, Check::CoherentReads, 0.5, 0.51),
        noted(&UNKNOWN_MODULE, Check::UnknownModule),
        noted(&BASE_REVISION, Check::BaseRevision),
        noted(&BASE_NAME_MISMATCH, Check::BaseNameMismatch),
        case(
            &BASE_NAME_MISMATCH,
            Trial::sound().seeing(seen(Check::BaseNameMismatch)).under("[base]\nnames = [\"org/other\"]"),
            Trial::sound().seeing(seen(Check::BaseNameMismatch)).under("[base]\nnames = [\"org/base\"]"),
        ),
    ]
}

fn of_the_comparison() -> Vec<Case> {
    vec![
        beside(&UNCOVERED_TENSORS, |audit| audit.adapter.coverage.unmatched.push("x".into()), |_| ()),
        beside(
            &VOCABULARY_RESIZED,
            |audit| {
                let table = ResizedTable { tensor: "lm_head.weight".into(), base_rows: 8, adapter_rows: 9 };
                audit.adapter.coverage.vocabulary.push(table);
            },
            |_| (),
        ),
        beside(
            &TARGETED_WITHOUT_TENSORS,
            |audit| audit.adapter.coverage.targeted_without_tensors.push("x".into()),
            |_| (),
        ),
        beside(&ZERO_EFFECT, |audit| audit.adapter.zero_effect = true, |_| ()),
        beside(&WHOLE_TENSOR, |audit| first_weight(audit).kind = "whole".into(), |_| ()),
        beside(
            &DEAD_ROWS,
            |audit| first_weight(audit).row_norm_change.min = -1.0,
            |audit| first_weight(audit).row_norm_change.min = -0.99,
        ),
        beside(
            &FLIPPED_ROWS,
            |audit| first_weight(audit).row_rotation_deg = RowRotation { mean: 3.0, max: 150.0 },
            |audit| first_weight(audit).row_rotation_deg = RowRotation { mean: 3.0, max: 149.0 },
        ),
        beside(
            &LARGER_THAN_WEIGHT,
            |audit| first_weight(audit).relative_norm = Some(1.0),
            |audit| first_weight(audit).relative_norm = Some(0.99),
        ),
        beside(
            &VECTOR_CHANGE,
            |audit| first_weight(audit).entry_change = Some(2.01),
            |audit| first_weight(audit).entry_change = Some(2.0),
        ),
        beside(
            &MAGNITUDE_SPIKE,
            |audit| first_weight(audit).row_norm_change.max_abs = 1.01,
            |audit| first_weight(audit).row_norm_change.max_abs = 1.0,
        ),
        beside(
            &INTRUDER_DIMENSIONS,
            |audit| first_weight(audit).intruder_dimensions = Some(5),
            |audit| first_weight(audit).intruder_dimensions = Some(4),
        ),
        beside(&COHERENT_WRITES, |audit| audit.coherence.write = Some(0.71), |audit| audit.coherence.write = Some(0.7)),
        beside(&COHERENT_READS, |audit| audit.coherence.read = Some(0.51), |audit| audit.coherence.read = Some(0.5)),
        beside(
            &VANISHES_WHEN_MERGED,
            |audit| first_weight(audit).merge_survival.changed_share = 0.049,
            |audit| audit.weights.values_mut().for_each(|change| change.merge_survival.changed_share = 0.05),
        ),
        beside(&NEXT_TOKEN_KL, |audit| tokens(audit).kl.mean = 0.51, |audit| tokens(audit).kl.mean = 0.5),
        beside(
            &FLIPPED_TOKENS,
            |audit| tokens(audit).top1_flip_rate = 0.21,
            |audit| tokens(audit).top1_flip_rate = 0.2,
        ),
        beside(
            &WEIGHT_CHANGE,
            |audit| first_weight(audit).relative_norm = Some(0.51),
            |audit| first_weight(audit).relative_norm = Some(0.5),
        ),
    ]
}

fn tokens(audit: &mut Audit) -> &mut lcr_documents::audit::TokenChange {
    audit.tokens.as_mut().expect("tokens")
}

/// An answer to a question.
fn answered(answer: Answer) -> Question {
    Question {
        asks: "Is it so?".to_owned(),
        answer,
        depth: Depth::Quick,
        why: "seen in 60 of 60".to_owned(),
        measured: Some(1.0),
        unit: "share".to_owned(),
        times_random: None,
        floor: Some(0.1),
        random: vec![0.4, 0.2, 0.3],
        permuted: None,
        interval: Some([0.8, 1.0]),
        p: None,
        score: None,
        p_known_good: None,
        places: Vec::new(),
        advice: "Ask what it was.".to_owned(),
    }
}

/// For each question an audit that answers it with yes and all others with no, and one that does the opposite.
fn of_the_questions() -> Vec<Case> {
    let audited = |name: &'static str, own: Answer, others: Answer| {
        Trial::sound().compared(|audit| {
            let answer = |asked: &str| answered(if asked == name { own } else { others });
            audit.questions = question_names().map(|asked| (asked.to_owned(), answer(asked))).collect();
        })
    };
    let of = |rule: &'static Rule| {
        let name = rule.question()?.name;
        Some(case(rule, audited(name, Answer::Yes, Answer::No), audited(name, Answer::Unresolved, Answer::Yes)))
    };
    rules().filter_map(of).collect()
}

fn of_the_policy() -> Vec<Case> {
    let pinned = format!("[base]\nsha256 = \"{}\"", "b".repeat(64));
    let based = |digit: &str| Trial { base_sha256: Some(digit.repeat(64)), ..Trial::sound() };
    let sized = |bytes| Trial::sound().with(|scan, _| scan.files[0].bytes = bytes);
    let waiver = |rule: &str, digit: &str, expires: &str| {
        let sha256 = digit.repeat(64);
        format!(
            "[[waivers]]\nrule = \"{rule}\"\nsha256 = \"{sha256}\"\nreason = \"r\"\nowner = \"o\"\nexpires = {expires}"
        )
    };
    let waived = |rule, digit, expires| Trial::sound().seeing(seen(Check::Pickle)).under(&waiver(rule, digit, expires));
    let needed = || waived("pickle", "a", DAY);
    vec![
        asked(&FORMAT_NOT_ALLOWED, "[allowed]\nformats = [\"MLX\"]", "[allowed]\nformats = [\"PEFT\"]"),
        asked(&TARGET_NOT_ALLOWED, "[allowed]\ntargets = [\"v_proj\"]", "[allowed]\ntargets = [\"q_proj\"]"),
        asked(&BASE_MODEL_NOT_ALLOWED, "[allowed]\nbase_models = [\"else/*\"]", "[allowed]\nbase_models = [\"org/*\"]"),
        asked(&REVISION_NOT_ALLOWED, "[allowed]\nrevisions = [\"v1\"]", "[allowed]\nrevisions = [\"main\"]"),
        case(&BASE_DIGEST, based("c").under(&pinned), based("b").under(&pinned)),
        case(&SIZE, sized((1 << 30) + 1), sized(1 << 30)),
        case(
            &NOT_COMPARED,
            Trial { not_compared: Some("no base was given".to_owned()), ..Trial::sound() },
            Trial::sound().compared(|_| ()),
        ),
        case(&WAIVER_REFUSED, waived("unreadable-file", "a", DAY), needed()),
        case(&WAIVER_EXPIRED, waived("pickle", "a", "2026-06-29"), needed()),
        case(&WAIVER_STALE, waived("pickle", "e", DAY), needed()),
    ]
}

fn cases() -> Vec<Case> {
    let families = [of_files(), of_the_adapter(), of_the_comparison(), of_the_questions(), of_the_policy()];
    families.into_iter().flatten().collect()
}

#[test]
fn cases_raise_their_rules_and_pass_them() {
    for Case { rule, raises, passes } in cases() {
        let (raised, passed) = (raises.raised(), passes.raised());
        assert!(raised.contains(rule.code), "{} is not raised: {raised:?}", rule.code);
        assert!(!passed.contains(rule.code), "{} does not pass: {passed:?}", rule.code);
    }
}

#[test]
fn every_judgement_of_every_rule_has_a_case() {
    // A case with an audit is one of the comparison.
    let tried: BTreeSet<(&str, bool)> =
        cases().iter().map(|case| (case.rule.code, case.raises.audit.is_some())).collect();
    for rule in rules() {
        for judge in rule.judges {
            let is_of_comparison = matches!(judge, Judge::Comparison(_) | Judge::Size(_) | Judge::Question(_));
            assert!(tried.contains(&(rule.code, is_of_comparison)), "{} has no case for {judge:?}", rule.code);
        }
    }
}

#[test]
fn a_sound_adapter_passes_every_rule() {
    let raised = Trial::sound().compared(|_| ()).raised();
    assert!(raised.is_empty(), "{raised:?}");
}

/// A finding on a question has its numbers, the median of random adapters among them, and says what to do.
#[test]
fn a_yes_is_found_with_its_numbers() {
    let mut audit = support::toy();
    audit.questions.insert("erasure".to_owned(), answered(Answer::Yes));
    judge_numbers(&mut audit, &Policy::default());
    let found = audit.findings.iter().find(|finding| finding.rule == "question-erasure").expect("a finding");
    assert_eq!((found.level, found.location.as_str()), (Level::Fail, "erasure"));
    assert_eq!((found.measured, found.floor, found.null), (Some(1.0), Some(0.1), Some(0.3)));
    assert_eq!(found.interval, Some([0.8, 1.0]));
    assert_eq!(found.message, "Seen in 60 of 60. Ask what it was.");
}

/// What a policy requires and an audit does not answer leaves the adapter incomplete, unless it fails anyway.
#[test]
fn a_required_question_without_an_answer_is_incomplete() {
    let judged = |required: &str, answer: Option<Answer>| {
        let trial = Trial::sound().compared(|audit| {
            audit.questions.extend(answer.map(|answer| ("trigger.token".to_owned(), answered(answer))));
        });
        let policy = Policy::parse("test", &format!("version = 1\n[questions]\nrequired = [{required}]"));
        let Trial { scan, audit, .. } = trial;
        let subject = ScannedAdapter { path: "adapter".to_owned(), scan, audit, not_compared: None, error: None };
        let pins = Provenance { date: DAY.to_owned(), ..Provenance::default() };
        judge(vec![subject], &policy.expect("a policy"), pins)
    };
    let verdict = |answer| judged("\"trigger.token\"", answer).verdict;
    assert_eq!(verdict(Some(Answer::No)), GateVerdict::Pass);
    assert_eq!(verdict(Some(Answer::Yes)), GateVerdict::Pass);
    for missing in [None, Some(Answer::Unresolved), Some(Answer::NotAsked)] {
        assert_eq!(verdict(missing), GateVerdict::Incomplete);
        assert_eq!(judged("", missing).verdict, GateVerdict::Pass);
    }
    let error = judged("\"trigger.token\"", Some(Answer::Unresolved)).artifacts[0].error.clone();
    assert_eq!(error.as_deref(), Some("`trigger.token` is required and has no answer: seen in 60 of 60"));
}
