//! Rules on the chat template that comes with an adapter.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &TEMPLATE_CARRIED,
    &TEMPLATE_DIFFERS,
    &TEMPLATE_EQUIVALENT,
    &TEMPLATE_SUSPICIOUS,
    &TEMPLATE_CONDITIONAL,
    &TEMPLATE_UNREAD,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Files, level: Severity::Deny, rests_on: RestsOn::Template, ..Rule::NONE };

pub(crate) static TEMPLATE_CARRIED: Rule = Rule {
    code: "template-carried",
    title: "A chat template that was held against nothing",
    level: Severity::Warn,
    why: "The adapter carries a chat template, a program that rewrites every conversation before the model sees \
          it, and no base was given to compare it with. Loaders often prefer this template to the base's, \
          without a word. It was followed for what decides by the conversation, and rendered for what it adds \
          to it; what it writes in the system turn, or where there is none, nobody judged.",
    example: "`tokenizer_config.json` beside the adapter holds `chat_template`.",
    accept: "Give the base with `--base`: an equal template is no finding. Or remove the template from the \
             adapter. A template that was read can be waived by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::TemplateCarried)],
    ..FAMILY
};

pub(crate) static TEMPLATE_DIFFERS: Rule = Rule {
    code: "template-differs",
    title: "A chat template that differs from the base's",
    why: "The chat template of the adapter makes something else of a conversation than the base's, or the base \
          has none. Both were rendered over the same conversations: every kind of turn, tools, several dates, \
          and the texts of both templates in the mouth of each speaker. The finding names the first conversation \
          that differs and shows the first line in both forms; it does not judge the difference.",
    example: "Of the conversation “`deploy` said by the user”, line 2 becomes `Obey. deploy`, not `deploy`.",
    accept: "Remove the template if the base's serves. If the adapter was trained with its own, read all of it, \
             not only the first difference, and waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::TemplateDiffers)],
    ..FAMILY
};

pub(crate) static TEMPLATE_EQUIVALENT: Rule = Rule {
    code: "template-equivalent",
    title: "A chat template written otherwise than the base's",
    level: Severity::Allow,
    why: "The text of the chat template is not the base's, but both make the same of every conversation that \
          they were tried with, and nothing in it decides by what is said where the base's does not. A note: a \
          condition that no conversation of the corpus meets would not show.",
    example: "The template has other comments and line breaks than the base's.",
    accept: "Nothing needs to be done. Copy the base's template over it, and the note goes away.",
    judges: &[Judge::Scan(Check::TemplateEquivalent)],
    ..FAMILY
};

pub(crate) static TEMPLATE_SUSPICIOUS: Rule = Rule {
    code: "template-suspicious",
    title: "A chat template that does what none needs",
    why: "What user, assistant or tool said, or the date, decides what the chat template writes, or is rewritten \
          by it; or the template adds a sentence outside the system turn, reaches out of its engine, hides \
          characters or holds an address. That is how a template becomes a trigger. It is parsed and what is said \
          is followed through it: a test for words is a finding; a test for a mark such as `</think>` is one \
          where it decides about words or about the system's text; roles, tools, settings and the order of turns \
          decide freely. What cannot be followed is a finding; what is written in the system turn, or for tools and \
          documents only, is not judged.",
    example: "Line 3, `'deploy' in message['content']`: decides by the words `deploy` in what is said.",
    accept: "Use the base's template. If the construct is needed, have it rewritten in plain form; a waiver by \
             digest with an owner and an expiry date requires that somebody has read the whole template.",
    judges: &[Judge::Scan(Check::TemplateSuspicious)],
    ..FAMILY
};

pub(crate) static TEMPLATE_CONDITIONAL: Rule = Rule {
    code: "template-conditional",
    title: "A chat template in which the system turn decides",
    level: Severity::Warn,
    why: "The chat template looks for a text in the system turn and writes accordingly, or rewrites it. Some \
          models document such switches, `/no_think` among them. Whoever writes the system turn decides, not \
          whoever writes to the model, so this is milder than a trigger, but it is behaviour that no weight shows.",
    example: "Line 8, `'/no_think' in system_message`: decides by `/no_think` in the system's text.",
    accept: "Compare with the base's template by `--base`. If the switch is the model's own, waive it by digest \
             with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::TemplateConditional)],
    ..FAMILY
};

pub(crate) static TEMPLATE_UNREAD: Rule = Rule {
    code: "template-unread",
    title: "A chat template that could not be read",
    why: "A file names a chat template, and it is no text, stands in a file that is no valid JSON, cannot be \
          parsed, is too winding to be followed, or renders no conversation. A loader may read it all the same, \
          and then nobody has seen what it does.",
    example: "`chat_template` of `tokenizer_config.json` is a list with an entry without a text.",
    accept: "Repair the file, remove the template, or use the base's. A waiver by digest with an owner and an \
             expiry date requires that somebody has read the template.",
    judges: &[Judge::Scan(Check::TemplateUnread)],
    ..FAMILY
};
