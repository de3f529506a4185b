//! Tokenizers and chat templates through the public interface: ids against those of the reference library, rendered
//! chats against those of transformers, and templates that a stranger might send.

use std::path::{Path, PathBuf};

use lcr_formats::chat_template::{ChatDate, ChatMessage};
use lcr_model::tokenizer::{Tokenizer, TokenizerError, stop_tokens};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/stories260K");
const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/templates");

fn stories() -> Tokenizer {
    Tokenizer::open(Path::new(STORIES)).expect("a valid tokenizer").expect("a tokenizer")
}

/// A folder with the small tokenizer and another `tokenizer_config.json`.
fn folder(config: &serde_json::Value) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::copy(Path::new(STORIES).join("tokenizer.json"), folder.path().join("tokenizer.json")).expect("copied");
    write(&folder, "tokenizer_config.json", &config.to_string());
    folder
}

fn write(folder: &TempDir, name: &str, content: &str) {
    std::fs::write(folder.path().join(name), content).expect("written");
}

fn open(folder: &TempDir) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::open(folder.path()).map(|tokenizer| tokenizer.expect("a tokenizer"))
}

fn with_template(template: &str) -> Tokenizer {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    open(&folder(&config)).expect("a valid tokenizer")
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned() }
}

fn conversation() -> Vec<ChatMessage> {
    vec![message("user", "What is 2+2?"), message("assistant", "4"), message("user", "And 3+3?")]
}

fn published(name: &str) -> Tokenizer {
    let file = Path::new(TEMPLATES).join(name);
    with_template(&std::fs::read_to_string(file).expect("a template"))
}

#[test]
fn ids_and_text_equal_the_reference() {
    let tokenizer = stories();
    // The first ids of the reference library's greedy continuation, and its text.
    let ids = [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267];
    let text = "Once upon a time, there was a little girl named Lily. She loved to";
    assert_eq!(tokenizer.encode("Once upon a time", true).expect("encoded"), ids[..5]);
    assert!(
        tokenizer.decode(&ids).expect("decoded").starts_with("Once upon a time, there was a little girl named Lily.")
    );
    assert_eq!(tokenizer.encode(text, true).expect("encoded")[..18], ids[..18]);
    assert_eq!(tokenizer.encode("The little dog", true).expect("encoded"), [1, 291, 376, 400, 428]);
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (512, Some(1), Some(2)));
    assert_eq!(tokenizer.stop_tokens(), [2]);
}

#[test]
fn one_token_is_shown_with_its_space() {
    let tokenizer = stories();
    assert_eq!(tokenizer.token_text(403), " Once");
    assert_eq!(tokenizer.token_text(13), "\n");
    assert_eq!(tokenizer.token_text(1), "<s>");
    assert_eq!(tokenizer.token_text(3 + 0xE4), "\\xE4");
    assert_eq!(tokenizer.token_text(u32::MAX), "<id 4294967295>");
}

#[test]
fn a_missing_bos_is_added_once_and_an_unwanted_one_dropped() {
    let wrapped = |config: serde_json::Value, strip: bool| {
        let folder = folder(&config);
        if strip {
            let file = folder.path().join("tokenizer.json");
            let text = std::fs::read_to_string(&file).expect("read");
            let mut tokenizer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            tokenizer["post_processor"] = serde_json::Value::Null;
            std::fs::write(&file, tokenizer.to_string()).expect("written");
        }
        open(&folder).expect("a valid tokenizer").encode("The", true).expect("encoded")
    };
    let named = |rest: serde_json::Value| {
        let mut config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}});
        config.as_object_mut().expect("object").extend(rest.as_object().expect("object").clone());
        config
    };
    assert_eq!(wrapped(named(json!({})), false), [1, 291]);
    assert_eq!(wrapped(named(json!({"add_bos_token": true})), false), [1, 291]);
    assert_eq!(wrapped(named(json!({"add_bos_token": true})), true), [1, 291]);
    assert_eq!(wrapped(named(json!({})), true), [291]);
    assert_eq!(wrapped(named(json!({"add_bos_token": false, "tokenizer_class": "LlamaTokenizer"})), false), [291]);
    assert_eq!(wrapped(named(json!({"add_eos_token": true})), false), [1, 291, 2]);
}

#[test]
fn a_prompt_that_spells_the_added_token_is_refused() {
    let error = stories().encode("<s>Once", true).expect_err("two of them");
    assert!(matches!(error, TokenizerError::DoubleBos { id: 1, .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    let tokenizer = with_template("{{ bos_token }}{{ bos_token }}{{ messages[0].content }}");
    assert!(matches!(tokenizer.encode_chat(&conversation()), Err(TokenizerError::DoubleBos { .. })));
    let tokenizer = with_template("{{ bos_token }}{{ messages[0].content }}");
    let ids = tokenizer.encode_chat(&conversation()).expect("encoded");
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1);
}

#[test]
fn stop_tokens_may_be_a_number_or_a_list() {
    let folder = folder(&json!({}));
    assert_eq!(stop_tokens(folder.path()).expect("none"), [0_u32; 0]);
    write(&folder, "config.json", r#"{"eos_token_id": 7}"#);
    assert_eq!(stop_tokens(folder.path()).expect("one"), [7]);
    write(&folder, "generation_config.json", r#"{"eos_token_id": [3, 4]}"#);
    assert_eq!(stop_tokens(folder.path()).expect("two"), [3, 4]);
    write(&folder, "generation_config.json", r#"{"eos_token_id": "</s>"}"#);
    let error = stop_tokens(folder.path()).expect_err("text");
    assert!(error.to_string().contains("generation_config.json"), "{error}");
}

#[test]
fn folders_without_a_usable_tokenizer() {
    let empty = TempDir::new().expect("a temporary folder");
    assert!(Tokenizer::open(empty.path()).expect("no error").is_none());
    write(&empty, "tokenizer.model", "x");
    let error = Tokenizer::open(empty.path()).expect_err("legacy").to_string();
    assert!(error.contains("tokenizer.model") && error.contains("save_pretrained"), "{error}");
    write(&empty, "tokenizer.json", "{\"version\": ");
    let error = Tokenizer::open(empty.path()).expect_err("cut short").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("not JSON"), "{error}");
}

#[test]
fn published_templates_render_as_in_transformers() {
    let render = |name: &str| published(name).render_chat(&conversation(), true).expect("rendered");
    assert_eq!(
        render("qwen3.jinja"),
        "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nAnd \
         3+3?<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render("smollm2.jinja"),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
         Face<|im_end|>\n<|im_start|>user\nWhat is \
         2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nAnd \
         3+3?<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render("tinyllama.jinja"),
        "<|user|>\nWhat is 2+2?</s>\n<|assistant|>\n4</s>\n<|user|>\nAnd 3+3?</s>\n<|assistant|>\n"
    );
}

#[test]
fn qwen3_splits_off_the_reasoning_of_the_last_answer() {
    let messages = [message("user", "Hi"), message("assistant", "<think>\nshort\n</think>\n\nHello")];
    let text = published("qwen3.jinja").render_chat(&messages, false).expect("rendered");
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nshort\n</think>\n\nHello<|im_end|>\n"
    );
}

#[test]
fn a_long_conversation_is_within_the_limits() {
    let messages: Vec<ChatMessage> = (0..400)
        .flat_map(|turn| [message("user", &format!("{turn} ").repeat(100)), message("assistant", "Yes.")])
        .collect();
    let text = published("qwen3.jinja").render_chat(&messages, true).expect("rendered");
    assert_eq!(text.matches("<|im_start|>").count(), 801);
}

#[test]
fn templates_are_found_where_transformers_looks() {
    let list = json!({"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]});
    let folder = folder(&list);
    assert_eq!(open(&folder).expect("open").render_chat(&[], false).expect("rendered"), "d");
    write(&folder, "chat_template.jinja", "file");
    assert_eq!(open(&folder).expect("open").render_chat(&[], false).expect("rendered"), "file");
    assert!(!stories().has_chat_template());
    assert!(matches!(stories().render_chat(&[], false), Err(TokenizerError::NoChatTemplate { .. })));
}

#[test]
fn pythons_manners() {
    let render = |template: &str| with_template(template).render_chat(&conversation(), true).expect("rendered");
    assert_eq!(render("{{ {'a': [1, 'é<'], 'b': none} | tojson }}"), r#"{"a": [1, "é<"], "b": null}"#);
    assert_eq!(render("{{ [1, {}] | tojson(indent=2) }}"), "[\n  1,\n  {}\n]");
    assert_eq!(render("a{% generation %}b{%- endgeneration %}"), "ab");
    assert_eq!(
        render("{% for m in messages %}\n  {% generation %}\nx\n  {% endgeneration %}\n{% endfor %}\n"),
        "x\nx\nx\n"
    );
    assert_eq!(render("{{ strftime_now('%d %b %Y, %A') }}"), "26 Jul 2024, Friday");
    assert_eq!(render("{{ messages[::-1][0]['content'].split(' ')[-1].strip('?') }}"), "3+3");
    assert_eq!(render("{{ 'a' in messages[0].content }}{{ 1 + 2 * 3 }}{{ 'x' * 3 ~ 1 }}"), "True7xxx1");
    let dated =
        with_template("{{ strftime_now('%Y-%m-%d') }}").with_chat_date(ChatDate { year: 2026, month: 1, day: 2 });
    assert_eq!(dated.render_chat(&[], false).expect("rendered"), "2026-01-02");
}

#[test]
fn template_errors_name_the_file_and_the_line() {
    let fails =
        |template: &str| with_template(template).render_chat(&conversation(), true).expect_err("fails").to_string();
    let error = fails("one\n{{ raise_exception('roles must alternate') }}");
    assert!(error.contains("tokenizer_config.json: line 2") && error.contains("roles must alternate"), "{error}");
    let error = fails("one\ntwo\n{% if %}");
    assert!(error.contains("tokenizer_config.json: line 3"), "{error}");
    let error = fails("\n\n{{ missing.thing.other + 1 }}");
    assert!(error.contains("line 3"), "{error}");
}

/// Templates that would take hours or terabytes if they were let.
const HOSTILE: &[&str] = &[
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x ~ 1 }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}\
     {% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}\
     {% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x is eq ns.y }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ {}[ns.x] }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
    "{% set ns = namespace() %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{{ 'aaaaaaaaaaaaaaaa' * 100000000 }}",
    "{{ ['aaaa' * 20000000, 'aaaa' * 20000000, 'aaaa' * 20000000] }}",
    "{{ (1, 2) * 50000000 }}",
    "{{ 'a' * 10 ** 8 }}",
    "{% set n = 100000000 %}{{ 'a' * n }}",
    "{% set n = 100000 %}{% set ns = namespace(l=[], s='a' * n) %}{% for i in range(99999) %}\
     {% set ns.l = ns.l + [ns.s[0:]] %}{% endfor %}",
    "{% set n = 9999 %}{{ [range(99999)|list] * n }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = (ns.l + ns.l)|list %}{% endfor %}",
    "{% set ns = namespace(x=namespace()) %}{% for i in range(90000) %}{% set n = namespace() %}{% set n.x = ns.x %}\
     {% set ns.x = n %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = ns.x|batch(2) %}{% endfor %}",
    "{{ range(99999)|map('string')|join('x' * 9999) }}",
    "{% set n = 'a' * 1000 %}{% set m = n.replace('a', n).replace('a', n).replace('a', n) %}{{ m }}",
    "{% set n = 'a' * 1000 %}{% set m = n|replace('a', n)|replace('a', n)|replace('a', n) %}{{ m }}",
    "{% set n = 'a' * 1000 %}{% set m = n|join(n)|join(n)|join(n) %}{{ m }}",
    "{% set n = 'a' * 1000 %}{% set m = n.join(n).join(n) %}{{ m }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%999999999d'.format(1) }}{{ '{:999999999}'.format(1) }}",
    "{{ 'a\nb' | indent(999999999) }}",
    "{{ [1] | tojson(indent=999999999) }}",
    "{{ [1] | batch(999999999, 0) }}",
    "{{ [1] | slice(999999999, 0) }}",
    "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('aaaa') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set ns = namespace(l=[], s='a' * 100000) %}{% for i in range(99999) %}{% set ns.l = ns.l + [ns.s[0:]] %}{% endfor %}",
    "{% set x %}{% for a in range(99999) %}{% for b in range(999) %}some text here{% endfor %}{% endfor %}{% endset %}",
    "{{ [range(99999)|list] * 9999 }}",
    "{{ dict(*messages) }}",
    "{% set n = 400000 %}{% set s = 'a' * n %}{% for i in range(99999) %}{% for c in s %}{% break %}{% endfor %}{% endfor %}",
    "{% set n = 400000 %}{% set s = 'a' * n %}{% for i in range(99999) %}{% if s is lower %}{% endif %}{% endfor %}",
    "{% set n = 400000 %}{% set s = 'a' * n %}{% for i in range(99999) %}{% if s[99999] %}{% endif %}{% endfor %}",
    "{% set n = 400000 %}{% set s = 'a' * n %}{% for i in range(99999) %}{% if s|length %}{% endif %}{% endfor %}",
    "{% for i in range(99999) %}{% for c in range(99999) %}{% break %}{% endfor %}{% endfor %}",
    "{% set x %}{% for a in range(99999) %}0123456789{% endfor %}{% endset %}{% for i in range(9999) %}\
     {% for c in x %}{% break %}{% endfor %}{% endfor %}{% for i in range(9999) %}{{ x }}{% endfor %}",
    "{{ 1 < messages|length < 3 }}",
    "{% include 'x' %}",
    "{% extends 'chat_template' %}",
    "{% import 'chat_template' as x %}",
    "{% break %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
];

#[test]
fn hostile_templates_end_quickly_in_an_error() {
    for template in HOSTILE {
        // Without a bound these would take years: that it ends is what is tested, and no clock is needed for that.
        let tokenizer = with_template(template);
        let outcome = tokenizer.render_chat(&conversation(), true);
        assert!(outcome.is_err(), "{template} made {} bytes", outcome.map_or(0, |text| text.len()));
    }
}

#[test]
fn a_tokenizer_that_doubles_its_text_is_refused_at_once() {
    let folder = TempDir::new().expect("a temporary folder");
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    for normalizer in [
        json!({"type": "Sequence", "normalizers": vec![double.clone(); 28]}),
        (0..28).fold(double.clone(), |inner, _| json!({"type": "Sequence", "normalizers": [double, inner]})),
    ] {
        let text = std::fs::read_to_string(Path::new(STORIES).join("tokenizer.json")).expect("readable");
        let mut description: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        description["normalizer"] = normalizer;
        write(&folder, "tokenizer.json", &description.to_string());
        let refusal = open(&folder).expect_err("it would make a gigabyte of a word").to_string();
        assert!(refusal.contains("`normalizer`"), "{refusal}");
    }
}

#[test]
fn long_literal_text_is_bounded_too() {
    let literal = "0123456789".repeat(10_000);
    let template = format!(
        "{{% set x %}}{{% for a in range(400) %}}{literal}{{% endfor %}}{{% endset %}}{{% for i in range(99999) %}}\
         {{% for c in x %}}{{% break %}}{{% endfor %}}{{% endfor %}}"
    );
    assert!(with_template(&template).render_chat(&conversation(), true).is_err());
}

fn mutated(text: String) -> impl Strategy<Value = Vec<u8>> {
    let length = text.len();
    prop::collection::vec((0..length, any::<u8>()), 1..6).prop_map(move |edits| {
        let mut bytes = text.clone().into_bytes();
        for (place, byte) in edits {
            bytes[place] = byte;
        }
        bytes
    })
}

/// Opens a folder and tries everything on it; only panics matter.
fn exercise(files: &[(&str, &[u8])]) {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    if let Ok(Some(tokenizer)) = Tokenizer::open(folder.path()) {
        let _ = tokenizer.encode("Once upon <s> a time é", true);
        let _ = tokenizer.decode(&[0, 1, 5, 300, u32::MAX]);
        let _ = tokenizer.encode_chat(&conversation());
        for id in [0, 1, 200, 511, 512, u32::MAX] {
            let _ = tokenizer.token_text(id);
        }
    }
}

fn small_tokenizer() -> String {
    let file: PathBuf = Path::new(STORIES).join("tokenizer.json");
    std::fs::read_to_string(file).expect("a tokenizer")
}

const TEMPLATE_PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    " for x in ",
    " messages ",
    " endfor ",
    " if ",
    " endif ",
    " set ",
    " x ",
    " = ",
    "[",
    "]",
    "(",
    ")",
    ".content",
    "'a'",
    " ~ ",
    " + ",
    " * ",
    " in ",
    " | ",
    "length",
    "tojson",
    "9",
    "::",
    "-1",
    ",",
    "-",
    "\n",
    " macro f(x) ",
    " endmacro ",
    " call ",
    " endcall ",
    " namespace(",
    " break ",
    " continue ",
    " block b ",
    " endblock ",
    " generation ",
    " endgeneration ",
    " raw ",
    " endraw ",
    " filter upper ",
    " endfilter ",
    " else ",
    " not ",
    " is ",
    " defined ",
    ".split(",
    "{",
    "}",
    ":",
    " do ",
    " with ",
    " endwith ",
    " recursive ",
    "loop",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(tokenizer in prop::collection::vec(any::<u8>(), 0..200),
                                config in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&[("tokenizer.json", &tokenizer)]);
        exercise(&[("tokenizer.json", small_tokenizer().as_bytes()), ("tokenizer_config.json", &config)]);
        exercise(&[("tokenizer.json", small_tokenizer().as_bytes()), ("chat_template.jinja", &config)]);
    }

    #[test]
    fn a_damaged_tokenizer_never_panics(bytes in mutated(small_tokenizer())) {
        exercise(&[("tokenizer.json", &bytes)]);
    }

    #[test]
    fn template_salad_never_panics(pieces in prop::collection::vec(prop::sample::select(TEMPLATE_PIECES), 0..40)) {
        let template = pieces.concat();
        exercise(&[("tokenizer.json", small_tokenizer().as_bytes()), ("chat_template.jinja", template.as_bytes())]);
    }
}
