//! Sizes that a limit may be set for: how much changes, which says nothing of whether any change of that size would do
//! the same.

use lcr_documents::audit::{Audit, Size as MeasuredSize};

use crate::policy::Settings;
use crate::rules::{Judge, RestsOn, Rule, Severity, Size, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[&NEXT_TOKEN_KL, &FLIPPED_TOKENS, &WEIGHT_CHANGE];

/// What these rules share.
const FAMILY: Rule =
    Rule { stage: Stage::Comparison, level: Severity::Allow, rests_on: RestsOn::ItsFile, ..Rule::NONE };

/// Next-token distributions that move far.
pub static NEXT_TOKEN_KL: Rule = Rule {
    code: "next-token-kl",
    title: "Next-token distributions that move far",
    limit: Some(0.5),
    measure: "mean KL(base||adapted) of the next token, in nats",
    why: "Over the probes the adapted model's next-token distribution departs from the base's by more than the \
          limit on average. That is how much changes, and says nothing about what. No null is run, so there is \
          no chance level to hold the number against, and it is judged only where a policy raises the level. \
          Behaviour that the probes do not touch is not seen.",
    example: "A style adapter reaches a mean of 0.6 nats over 2,919 positions.",
    accept: "If the adapter should change less, train it less or lower its scale. A policy that raises the level \
             should set a limit from adapters that it trusts, on its own probes, and waive exceptions by digest \
             with an owner and an expiry date.",
    judges: &[Judge::Size(Size {
        measure: mean_kl,
        of_behaviour: true,
        meaning: "mean KL(base‖adapted) of the next token, nats",
    })],
    ..FAMILY
};

fn mean_kl(audit: &Audit) -> Option<(&str, f64)> {
    Some(("", audit.tokens.as_ref()?.kl.mean))
}

/// Most likely tokens that change.
pub static FLIPPED_TOKENS: Rule = Rule {
    code: "flipped-tokens",
    title: "Most likely tokens that change",
    limit: Some(0.2),
    measure: "share of positions whose most likely next token differs",
    why: "At more than this share of positions base and adapted model would say different tokens. Where two \
          tokens are nearly tied a flip means little. No null is run, so the share is judged only where a policy \
          raises the level. Behaviour that the probes do not touch is not seen.",
    example: "The most likely token differs at 37.2 % of 2,919 positions.",
    accept: "If the adapter should keep the base's answers, train it less or lower its scale. A policy that \
             raises the level should set a limit from adapters that it trusts, and waive exceptions by digest \
             with an owner and an expiry date.",
    judges: &[Judge::Size(Size {
        measure: flip_rate,
        of_behaviour: true,
        meaning: "share of positions whose most likely next token differs",
    })],
    ..FAMILY
};

fn flip_rate(audit: &Audit) -> Option<(&str, f64)> {
    Some(("", audit.tokens.as_ref()?.top1_flip_rate))
}

/// A large change of one weight.
pub static WEIGHT_CHANGE: Rule = Rule {
    code: "weight-change",
    title: "A large change of one weight",
    limit: Some(0.5),
    measure: "largest ||dW||/||W|| of a module",
    why: "The change of some module exceeds this share of its weight's norm. A large change is not wrong in \
          itself, and a small one in the right direction can change behaviour entirely. No null is run, so it is \
          judged only where a policy raises the level.",
    example: "`layers.2.self_attn.o_proj` changes by 0.62 of its norm.",
    accept: "Lower the scale or the learning rate if the change is not wanted. A policy that raises the level \
             should set a limit from adapters that it trusts, and waive exceptions by digest with an owner and \
             an expiry date.",
    judges: &[Judge::Size(Size { measure: largest_change, of_behaviour: false, meaning: "largest ‖ΔW‖/‖W‖" })],
    ..FAMILY
};

fn largest_change(audit: &Audit) -> Option<(&str, f64)> {
    let changes = audit.weights.iter().filter_map(|(name, change)| Some((name.as_str(), change.relative_norm?)));
    changes.filter(|(_, change)| change.is_finite()).max_by(|left, right| left.1.total_cmp(&right.1))
}

/// The sizes that were measured, each beside the policy's limit for the adapter.
pub(crate) fn sizes(audit: &Audit, settings: &Settings<'_>) -> Vec<(&'static Rule, MeasuredSize)> {
    let beside_its_limit = |rule: &'static Rule| {
        let (location, measured) = (rule.size()?.measure)(audit).filter(|(_, measured)| measured.is_finite())?;
        let size = MeasuredSize {
            rule: rule.code.to_owned(),
            location: location.to_owned(),
            measured,
            limit: settings.limit(rule)?,
            judged: settings.level(rule) > Severity::Allow,
        };
        Some((rule, size))
    };
    RULES.iter().filter_map(|rule| beside_its_limit(rule)).collect()
}
