//! A rule for its readers: at a terminal, and in `docs/rules.md`.

use std::fmt::Write;

use super::{Rule, kinds, rules};

/// Columns of [`explain`].
const TERMINAL_COLUMNS: usize = 100;
/// Columns of [`markdown`]'s prose.
const MARKDOWN_COLUMNS: usize = 120;

/// A rule for a reader at a terminal: plain text, lines of at most 100 columns, a newline at the end.
pub fn explain(rule: &Rule) -> String {
    let mut text = format!("{}: {}\n\n", rule.code, rule.title);
    let mut fact = |name: &str, value: &str| hang(&mut text, &format!("{name:<12}"), value, TERMINAL_COLUMNS);
    fact("Looks at", rule.stage.description());
    fact("Default", rule.level.name());
    if let Some(limit) = rule.limit {
        fact("Limit", &format!("{limit} ({})", rule.measure));
    }
    for (heading, body) in [("Why", rule.why), ("Example", rule.example), ("Accept it", rule.accept)] {
        push(&mut text, format_args!("\n{heading}\n"));
        hang(&mut text, "  ", body, TERMINAL_COLUMNS);
    }
    push(&mut text, format_args!("\n  [rules]\n  {}\n", setting(rule)));
    text
}

/// `docs/rules.md`.
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str(&kinds::markdown());
    text.push_str("| rule | looks at | default | limit |\n|---|---|---|---|\n");
    for rule in rules() {
        let limit =
            rule.limit.map_or_else(String::new, |limit| format!("{limit} ({})", rule.measure.replace('|', "\\|")));
        let (code, stage, level) = (rule.code, rule.stage.name(), rule.level.name());
        push(&mut text, format_args!("| [`{code}`](#{code}) | {stage} | {level} | {limit} |\n"));
    }
    for rule in rules() {
        push(&mut text, format_args!("\n## {}\n\n", rule.code));
        let limit = rule.limit.map_or_else(String::new, |limit| format!(", limit {limit} ({})", rule.measure));
        let facts =
            format!("**{}.** Looks at {}; default {}{limit}.", rule.title, rule.stage.description(), rule.level.name());
        hang(&mut text, "", &facts, MARKDOWN_COLUMNS);
        for (heading, body) in [("", rule.why), ("Example: ", rule.example), ("Accept it: ", rule.accept)] {
            text.push('\n');
            hang(&mut text, "", &format!("{heading}{body}"), MARKDOWN_COLUMNS);
        }
    }
    text
}

/// What stands above the table of `docs/rules.md`.
const INTRODUCTION: &str = "\
# Rules

Every rule that a policy may name: what it looks at, its default level, its limit where it has one, why it is there,
and how to repair or accept what it finds. `lcr-audit policy explain CODE` prints one of them. This file is generated
from the program's catalogue; a test keeps the two equal.

A finding at level `deny` fails the gate. One at `warn` is shown, and fails the gate only where the policy says
`fail_on = \"warn\"`. One at `allow` is listed and has no consequence. A rule with a limit finds what lies above the
limit. That no rule objects does not show that an adapter is harmless: the sections say what their rules cannot tell.

Rules on files and on the adapter need no base, but use its tokenizer and template where one is given. Of those on the
adapter, `targeted-without-tensors`, `zero-effect`, `whole-tensor`, `dead-rows`, `flipped-rows`, `coherent-writes` and
`coherent-reads` are tried again when base and adapted model are compared. A rule that begins with `question-` finds
that a comparison answered the question of that name with yes.

The level and the limit of a rule are set in the policy, for all adapters or for some paths:

```toml
[rules]
script = \"deny\"
rank = { level = \"warn\", limit = 128 }

[[paths]]
match = \"experiments/**\"
[paths.rules]
script = \"allow\"
```

A single finding is accepted by a waiver: one rule, on exactly these bytes, until a day. The digest is the finding's
own, as the gate's report shows it, over all files that it rests on; or that of the whole adapter. When a byte changes,
the number grows beyond `up_to` or the day has passed, the finding counts again. What was not read cannot be waived.

```toml
[[waivers]]
rule = \"whole-tensor\"
sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"
where = \"lm_head.weight\" # optional: only there; of rules with a limit, `up_to = 0.5` is the largest number accepted
reason = \"new tokens for the tool calls, reviewed in #123\"
owner = \"model-security@example.com\"
expires = 2027-01-31
```

";

/// The line of a policy's `[rules]` that says what holds anyway: a place to start from, which weakens nothing when it
/// is copied.
fn setting(rule: &Rule) -> String {
    let (code, level) = (rule.code, rule.level.name());
    match rule.limit {
        Some(limit) => format!("{code} = {{ level = \"{level}\", limit = {limit} }} # level: allow, warn or deny"),
        None => format!("{code} = \"{level}\" # allow, warn or deny"),
    }
}

/// Adds text; writing to a string cannot fail.
pub(super) fn push(text: &mut String, addition: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(addition);
}

/// Adds `body` in lines of at most `columns` characters, words longer than that left whole; the first line begins with
/// `lead`, the others with as many blanks.
fn hang(text: &mut String, lead: &str, body: &str, columns: usize) {
    let indent = lead.chars().count();
    let mut column = indent;
    text.push_str(lead);
    for word in body.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > columns {
            push(text, format_args!("\n{:indent$}", ""));
            column = indent;
        }
        if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_fit_a_terminal_and_name_everything() {
        for rule in rules() {
            let text = explain(rule);
            assert!(
                text.lines().all(|line| line.chars().count() <= TERMINAL_COLUMNS && line.trim_end() == line),
                "{text}"
            );
            for part in [rule.code, rule.title, rule.level.name(), "\nWhy\n", "\nExample\n", "\nAccept it\n", "[rules]"]
            {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(rule.limit.is_none_or(|limit| text.contains(&format!("limit = {limit}"))), "{text}");
        }
    }

    #[test]
    fn settings_that_are_shown_are_settings_that_a_policy_takes() {
        let lines: Vec<String> = rules().map(setting).collect();
        let text = format!("version = 1\n[rules]\n{}\n", lines.join("\n"));
        let policy = crate::policy::Policy::parse("test", &text).expect("every rule at its own level and limit");
        for rule in rules() {
            assert_eq!((policy.level(rule, "a"), policy.limit(rule, "a")), (rule.level, rule.limit), "{}", rule.code);
        }
        let shown: Vec<&str> =
            INTRODUCTION.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(shown.len(), 2);
        for snippet in shown {
            crate::policy::Policy::parse("test", &format!("version = 1\n{snippet}"))
                .expect("a snippet of the introduction");
        }
    }

    #[test]
    fn the_documentation_is_what_the_catalogue_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md");
        let text = markdown();
        if std::env::var_os("UPDATE_RULES").is_some() {
            std::fs::write(&path, &text).expect("docs/rules.md can be written");
        }
        let written = std::fs::read_to_string(&path).expect("docs/rules.md can be read");
        assert!(written == text, "docs/rules.md is not what the catalogue says: run the tests with UPDATE_RULES=1");
    }
}
