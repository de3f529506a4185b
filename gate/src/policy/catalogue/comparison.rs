//! Rules that need base and adapted model side by side. Those that a scan also tries stand with the adapter's rules.

use super::{RuleEntry, RuleLevel, Stage};

/// What these rules share.
const COMPARISON: RuleEntry = RuleEntry {
    code: "",
    title: "",
    stage: Stage::Comparison,
    level: RuleLevel::Warn,
    limit: None,
    measure: "",
    why: "",
    example: "",
    accept: "",
};

/// The rules, in the order in which they are tried.
pub(super) const RULES: &[RuleEntry] = &[
    RuleEntry {
        code: "uncovered-tensors",
        title: "Tensors that took no part in the comparison",
        level: RuleLevel::Deny,
        why: "Some of the adapter's tensors were not applied to the base, so whatever they do was not looked at. All \
              other results of the comparison are silent about them. They may belong to another architecture, or to \
              a program that loads more than this one does.",
        example: "A tensor for `visual.blocks.0.attn` has no place in the text model that was compared.",
        accept: "Compare with the base that the adapter was trained on, or remove tensors that belong to nothing. To \
                 accept them, find out which program loads them, then waive the adapter by digest with an owner and \
                 an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "vocabulary-resized",
        title: "A vocabulary of another size",
        why: "The adapter carries an embedding or output head with another number of rows than the base's: tokens were added, or \
              padding at the end of the table was cut off. Rows are compared by number, as far as both have them. New rows \
              were not looked at, and rows that are missing count as unchanged.",
        example: "`lm_head.weight` has 151669 rows, the base's table 151936.",
        accept: "Compare with the base after the same resizing, where that is published. Otherwise look at the tokenizer that \
                 comes with the adapter, and waive it by digest with an owner and an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "larger-than-weight",
        title: "A change as large as the weight",
        limit: Some(1.0),
        measure: "largest ||dW||/||W||, from which on it is a finding",
        why: "The norm of a module's change is at least the norm of the weight that it changes. The module is \
              replaced rather than adapted, and what is known of the base no longer holds for it. Size does not tell \
              whether that is wanted; a diverged training run looks the same.",
        example: "The change of `layers.2.self_attn.o_proj` is 1.8 times as large as the weight.",
        accept: "Lower the scale or the learning rate, or exclude the module. If it is wanted, evaluate the result \
                 as a new model, then waive it by digest with an owner and an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "vector-change",
        title: "A bias or norm that changes by more than what it joins",
        limit: Some(2.0),
        measure: "largest change of an entry over what its module typically gives; of a norm, over its weights",
        why: "An entry of a bias, the base's or that of `lora_bias`, changes by more than twice what its module \
              gives for an input of ordinary size, or an entry of a norm by more than twice the norm's typical weight. \
              The change is the same for every text and drowns what the channel carried. Of the trained adapters \
              with biases or norms that it was tried on, none reaches 0.4.",
        example: "`layers.0.self_attn.q_proj.bias` moves by 10,000 where the module typically gives 1.4.",
        accept: "Train without biases, or restore the tensors of the training run. Otherwise find out what the \
                 channel feeds, test the adapted model, and waive it by digest with an owner and an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "magnitude-spike",
        title: "A row whose norm doubles or halves",
        limit: Some(2.0),
        measure: "factor by which the norm of a row grows or shrinks",
        why: "The norm of one output channel more than doubles, or is more than halved. Such a channel is louder or \
              quieter whatever the text says, and a DoRA magnitude set by hand does this without any visible \
              low-rank part. Strong training of a small model can do it too.",
        example: "One row of `layers.9.mlp.down_proj` grows to 6 times its norm, where the mean row changes by 1 %.",
        accept: "Find out which channel it is and what it feeds, and restore its magnitude if nobody can explain it. \
                 Otherwise waive it by digest with an owner and an expiry date after testing the adapted model.",
        ..COMPARISON
    },
    RuleEntry {
        code: "intruder-dimensions",
        title: "Leading directions that the base does not have",
        limit: Some(4.0),
        measure: "how many of ten leading directions",
        why: "At least half of the ten leading singular directions of an adapted weight resemble none of the base's. \
              Weights like this rest on new content, and models with them tend to forget what the base knew. The \
              rule is tried only where random directions would not resemble one by chance, so in small models its \
              silence means little.",
        example: "Seven of the ten leading directions of `layers.5.mlp.up_proj` have |cos| below 0.5 with all of the \
                  base's.",
        accept: "Train with a lower learning rate or another rank and compare again. Otherwise test the base's \
                 abilities with the adapter loaded, then waive it by digest with an owner and an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "vanishes-when-merged",
        title: "A change that a merge into bf16 loses",
        level: RuleLevel::Allow,
        why: "Merged into bf16, fewer than 5 % of a weight's entries change, or what is left points in another \
              direction than what was trained. The merged model is then not the one that was compared. This matters \
              only to those who merge, and only in bf16 with rounding to nearest.",
        example: "2 % of the entries of `layers.8.self_attn.k_proj` change when the adapter is merged.",
        accept: "Keep the adapter apart from the base, or merge in f32 and compare the result. The default already \
                 accepts it, and there is nothing to waive where nobody merges.",
        ..COMPARISON
    },
    RuleEntry {
        code: "next-token-kl",
        title: "Next-token distributions that move far",
        level: RuleLevel::Allow,
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
        ..COMPARISON
    },
    RuleEntry {
        code: "flipped-tokens",
        title: "Most likely tokens that change",
        level: RuleLevel::Allow,
        limit: Some(0.2),
        measure: "share of positions whose most likely next token differs",
        why: "At more than this share of positions base and adapted model would say different tokens. Where two \
              tokens are nearly tied a flip means little. No null is run, so the share is judged only where a policy \
              raises the level. Behaviour that the probes do not touch is not seen.",
        example: "The most likely token differs at 37.2 % of 2,919 positions.",
        accept: "If the adapter should keep the base's answers, train it less or lower its scale. A policy that \
                 raises the level should set a limit from adapters that it trusts, and waive exceptions by digest \
                 with an owner and an expiry date.",
        ..COMPARISON
    },
    RuleEntry {
        code: "weight-change",
        title: "A large change of one weight",
        level: RuleLevel::Allow,
        limit: Some(0.5),
        measure: "largest ||dW||/||W|| of a module",
        why: "The change of some module exceeds this share of its weight's norm. A large change is not wrong in \
              itself, and a small one in the right direction can change behaviour entirely. No null is run, so it is \
              judged only where a policy raises the level.",
        example: "`layers.2.self_attn.o_proj` changes by 0.62 of its norm.",
        accept: "Lower the scale or the learning rate if the change is not wanted. A policy that raises the level \
                 should set a limit from adapters that it trusts, and waive exceptions by digest with an owner and \
                 an expiry date.",
        ..COMPARISON
    },
];
