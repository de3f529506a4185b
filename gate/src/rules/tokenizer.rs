//! Rules on the tokenizer that comes with an adapter.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] =
    &[&TOKENIZER_CARRIED, &TOKENIZER_DIFFERS, &TOKENIZER_SETTINGS, &TOKENIZER_REWRITES, &ADDED_TOKENS];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Files, level: Severity::Warn, rests_on: RestsOn::Tokenizer, ..Rule::NONE };

pub(crate) static TOKENIZER_CARRIED: Rule = Rule {
    code: "tokenizer-carried",
    title: "A tokenizer that was held against nothing",
    why: "The adapter carries a tokenizer, and no base was given to compare it with. A tokenizer decides which \
          tokens a text becomes: a rule in it can replace words before the model sees them. It is usually a \
          plain copy of the base's, which only a comparison can show.",
    example: "`tokenizer.json` and `special_tokens_map.json` beside the adapter.",
    accept: "Give the base with `--base`: equal files are no finding. Or remove the tokenizer if no token was \
             added. Otherwise waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::TokenizerCarried)],
    ..FAMILY
};

pub(crate) static TOKENIZER_DIFFERS: Rule = Rule {
    code: "tokenizer-differs",
    title: "A tokenizer that differs from the base's",
    level: Severity::Deny,
    why: "A tokenizer file of the adapter is not the base's, in its normaliser, its splitting, its vocabulary, its \
          ids, its special tokens or a setting that changes ids, or the base has no such file. The model is then told \
          something else than what was written. Files are held against the base's by what they say, so that one that \
          was only saved again by another version of the library is equal.",
    example: "The normaliser of `tokenizer.json` replaces one word by another; `add_prefix_space` is true, in the base \
              false.",
    accept: "Remove the files and use the base's tokenizer, or copy the base's files over them. If training \
             changed the tokenizer on purpose, review the difference and waive it by digest with an owner and an \
             expiry date.",
    judges: &[Judge::Scan(Check::TokenizerDiffers)],
    ..FAMILY
};

pub(crate) static TOKENIZER_SETTINGS: Rule = Rule {
    code: "tokenizer-settings",
    title: "Settings of the tokenizer that change no ids",
    why: "The tokenizer's settings are not the base's, but none of the differences changes what ids a text becomes \
          or which text is special: sides and lengths of padding and truncation, which of the base's special tokens \
          ends or fills up a text, how spaces come back. Training sets them as a matter of course. They decide how \
          much of a long text is read and where a generation stops.",
    example: "`padding_side` is `left` and `pad_token` is `</s>`, in the base not set.",
    accept: "Use the base's `tokenizer_config.json` where the adapter does not need its own. Otherwise nothing needs \
             to be done; set the level to allow to hide it.",
    judges: &[Judge::Scan(Check::TokenizerSettings)],
    ..FAMILY
};

pub(crate) static TOKENIZER_REWRITES: Rule = Rule {
    code: "tokenizer-rewrites",
    title: "A tokenizer that takes ordinary text away",
    level: Severity::Deny,
    why: "A word or other ordinary text is made a special token, a common word or a whole sentence is made a token, or \
          a normaliser replaces words. Text with it then becomes other ids than the model was trained on, or is left \
          out of what a reader sees. Marks of a format and terms of a trade are not objected to, and neither is what \
          the base has itself; common words are known in English only.",
    example: "`added_tokens_decoder` makes `not ` a special token, or `eos_token` is `the`.",
    accept: "Use the base's tokenizer. If a language's code or a term was taken for a word, review the token and waive \
             it by digest with an owner and an expiry date, or give the base with `--base`.",
    judges: &[Judge::Scan(Check::TokenizerRewrites)],
    ..FAMILY
};

pub(crate) static ADDED_TOKENS: Rule = Rule {
    code: "added-tokens",
    title: "Tokens that the base does not have",
    why: "The adapter's tokenizer has tokens that the base's lacks. A new token can stand for a whole phrase, \
          and its embedding was trained by nobody but the adapter's author, which makes it a convenient trigger. \
          Marks of a chat or tool format are the common and harmless case.",
    example: "Two tokens that the base does not have: `<tool_call>` and `</tool_call>`.",
    accept: "Remove tokens that the adapter does not use. If they belong to its format, check the list in the \
             finding and waive it by digest with an owner and an expiry date, or set the level to allow.",
    judges: &[Judge::Scan(Check::AddedTokens)],
    ..FAMILY
};
