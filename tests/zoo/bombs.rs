//! Small folders that ask for much: time or memory that grows faster than the file.

use std::path::Path;

use serde_json::json;

use super::hostile_case::HostileCase;
use super::making::{
    CONFIG, QUERY, RANK, TENSORS, WIDTH, entry, header, layered, noise, raw, repeated, setting, sound, sparse, write,
    written,
};

pub(crate) fn configs() -> Vec<HostileCase> {
    vec![
        HostileCase::new("bomb-of-zeros-in-the-config", &[], |at| {
            sound().write(at);
            repeated(at, CONFIG, [b"{\"peft_type\":\"LORA\",\"x\":[", &b"0,".repeat(1 << 19), b"0]}"], 15);
        }),
        HostileCase::new("bomb-of-objects", &[], |at| {
            sound().write(at);
            repeated(at, "config.json", [b"[", b"{\"\":0},", b"0]"], 590_000);
        }),
        HostileCase::new("bomb-of-long-paths", &[], |at| {
            sound().write(at);
            let level = format!("{{\"{}\":", "\u{e0041}".repeat(120));
            let end = format!("0]{}", "}".repeat(120));
            repeated(at, "config.json", [format!("{}[", level.repeat(120)).as_bytes(), b"0,", end.as_bytes()], 50_000);
        }),
        HostileCase::new("bomb-of-targets", &["config-syntax"], |at| {
            let mut made = layered(1_000, &["self_attn.q_proj"], 1);
            let targets: Vec<String> = (0..150_000).map(|index| format!("m{index}")).collect();
            made.config["target_modules"] = json!(targets);
            made.write(at);
        }),
        HostileCase::new("bomb-of-patterns", &[], |at| {
            let names: Vec<String> = (0..100_000).map(|index| format!("[a-z]+\\d{{{},}}", index % 50)).collect();
            setting(at, "modules_to_save", json!(names));
        }),
        HostileCase::new("bomb-of-automata", &["beyond-limits"], |at| {
            let names: Vec<String> = (0..1024).map(|index| format!("(\\w{{30}}|\\d)x{index}")).collect();
            setting(at, "modules_to_save", json!(names));
        }),
        HostileCase::new("bomb-of-steps-below-a-limit", &["beyond-limits"], |at| {
            let mut made = sound();
            made.tensors.clear();
            made.config["r"] = json!(1);
            made.config["rank_pattern"] =
                (0..1024).map(|index| (format!("m.\\d+.(a|a){{11}}(?=x)z{index}"), json!(1))).collect();
            for layer in 0..500 {
                let module = format!("base_model.model.m.{layer}.{}", "a".repeat(11));
                made.set(&format!("{module}.lora_A.weight"), &[1, 1], [0.1]);
                made.set(&format!("{module}.lora_B.weight"), &[1, 1], [0.1]);
            }
            made.write(at);
        }),
        HostileCase::new("bomb-of-rank-patterns", &[], |at| {
            let mut made = layered(500, &["self_attn.q_proj"], 1);
            let ranks: serde_json::Map<String, serde_json::Value> =
                (0..50_000).map(|index| (format!("none{index}(?=x)"), json!(2))).collect();
            made.config["rank_pattern"] = json!(ranks);
            made.write(at);
        }),
    ]
}

/// Modules of the highest rank that is decomposed.
fn ranks(at: &Path, modules: usize, width: usize) {
    const HIGHEST: usize = 1024;
    let mut made = layered(modules, &["self_attn.q_proj"], 1);
    made.config["r"] = json!(HIGHEST);
    for layer in 0..modules {
        let (module, seed) = (super::making::path(layer, "self_attn.q_proj"), 2 * layer as u64 + 1);
        made.set(&format!("{module}.lora_A.weight"), &[HIGHEST, width], noise(seed, HIGHEST * width));
        made.set(&format!("{module}.lora_B.weight"), &[width, HIGHEST], noise(seed + 1, HIGHEST * width));
    }
    made.write(at);
}

pub(crate) fn tensors() -> Vec<HostileCase> {
    vec![
        HostileCase::new("bomb-of-rank", &["rank"], |at| {
            let rank = 2048;
            let mut made = sound();
            made.tensors.clear();
            made.config["r"] = json!(rank);
            for (seed, side) in [(1, "lora_A"), (2, "lora_B")] {
                made.set(&format!("{QUERY}.{side}.weight"), &[rank, rank], noise(seed, rank * rank));
            }
            made.write(at);
        }),
        HostileCase::new("bomb-of-ranks-beyond-the-shape", &["rank"], |at| {
            // Each of these changes one number by way of a thousand.
            ranks(at, 300, 1);
        }),
        HostileCase::new("bomb-of-square-ranks", &["rank"], |at| ranks(at, 3, 1024)),
        HostileCase::new("bomb-of-a-wide-module", &[], |at| {
            let (width, factor) = (32_i64 << 20, 4 * (32_i64 << 20));
            let text = header(&[
                entry(&format!("{QUERY}.lora_A.weight"), "F32", &format!("[1,{width}]"), 0, factor),
                entry(&format!("{QUERY}.lora_B.weight"), "F32", &format!("[{width},1]"), factor, 2 * factor),
            ]);
            let mut config = sound().config;
            config["r"] = json!(1);
            write(at, CONFIG, config.to_string());
            let start = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
            sparse(at, TENSORS, &start, start.len() as u64 + 2 * factor as u64);
        }),
        HostileCase::new("adapter-larger-than-its-memory", &[], |at| {
            // Honest adapters of large models are as long.
            let (rank, width, modules) = (64_i64, 4096_i64, 160_i64);
            let size = 4 * rank * width;
            let tensors = (0..2 * modules).map(|index| {
                let name = super::making::path((index / 2) as usize, "self_attn.q_proj");
                let (side, shape) = if index % 2 == 0 { ("A", [rank, width]) } else { ("B", [width, rank]) };
                entry(
                    &format!("{name}.lora_{side}.weight"),
                    "F32",
                    &format!("{shape:?}"),
                    index * size,
                    (index + 1) * size,
                )
            });
            let text = header(&tensors.collect::<Vec<_>>());
            let mut config = sound().config;
            config["r"] = json!(rank);
            write(at, CONFIG, config.to_string());
            let start = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
            sparse(at, TENSORS, &start, start.len() as u64 + (2 * modules * size) as u64);
        }),
        HostileCase::new("bomb-of-modules", &[], |at| {
            let mut made = sound();
            made.tensors.clear();
            made.config["r"] = json!(1);
            made.config["target_modules"] = json!(["q"]);
            for index in 0..30_000 {
                made.set(&format!("base_model.model.{index}.q.lora_A.weight"), &[1, 2], noise(index + 1, 2));
                made.set(&format!("base_model.model.{index}.q.lora_B.weight"), &[2, 1], noise(index + 2, 2));
            }
            made.write(at);
        }),
        HostileCase::new("bomb-of-writers", &[], |at| layered(5_000, &["mlp.down_proj"], 1).write(at)),
        HostileCase::new("bomb-of-findings", &["non-finite"], |at| {
            let count = 100_000;
            let tensors: Vec<String> =
                (0..count).map(|index| entry(&format!("t{index}"), "F32", "[1]", 4 * index, 4 * index + 4)).collect();
            raw(at, header(&tensors), &f32::NAN.to_le_bytes().repeat(count as usize));
        }),
    ]
}

pub(crate) fn texts() -> Vec<HostileCase> {
    vec![
        HostileCase::new("bomb-of-tags", &["template-carried"], |at| {
            sound().write(at);
            repeated(at, "chat_template.jinja", [b"", b"{%%}", b""], 1_000_000);
        }),
        HostileCase::new("bomb-of-quotes", &["template-carried"], |at| {
            sound().write(at);
            repeated(at, "chat_template.jinja", [b"{% if messages[0]", b" 'a'", b" %}x{% endif %}"], 800_000);
        }),
        HostileCase::new("bomb-of-clocks", &["template-carried"], |at| {
            sound().write(at);
            repeated(at, "chat_template.jinja", [b"", b"{% if messages and now() %}", b""], 400_000);
        }),
        HostileCase::new("bomb-of-templates", &["template-carried"], |at| {
            let named: Vec<_> =
                (0..40_000).map(|index| json!({ "name": index.to_string(), "template": "x" })).collect();
            super::making::beside(at, "tokenizer_config.json", json!({ "chat_template": named }).to_string());
        }),
        HostileCase::new("bomb-of-a-normalizer", &["tokenizer-differs"], |at| {
            sound().write(at);
            repeated(at, "tokenizer.json", [b"{\"normalizer\":[", &b"0,".repeat(1 << 19), b"0]}"], 50);
        })
        .against(|at| write(at, "tokenizer.json", "{}")),
        HostileCase::new("bomb-of-added-tokens", &["added-tokens"], |at| {
            sound().write(at);
            written(at, "tokenizer.json", |file| {
                file.write_all(b"{\"added_tokens\":[{\"content\":\"a\"}").expect("written");
                (0..2_000_000).for_each(|index| {
                    file.write_all(format!(",{{\"content\":\"{index}\"}}").as_bytes()).expect("written");
                });
                file.write_all(b"]}").expect("written");
            });
        })
        .against(|at| write(at, "tokenizer.json", "{}")),
        HostileCase::new("bomb-of-short-pickles", &["pickle"], |at| {
            sound().write(at);
            // One pickle fills the memo; whoever empties it for each of the others pays for its size each time.
            let filling = [b"\x80\x04N".as_slice(), &b"\x94".repeat(500_000), b"."].concat();
            repeated(at, "x.pkl", [&filling, b"N\x94.", b""], 5_000_000);
        }),
        HostileCase::new("bomb-of-links", &[], |at| {
            sound().write(at);
            write(at, "big.json", [b"[".as_slice(), &b"0,".repeat(4 << 20), b"0]"].concat());
            for index in 0..2_000 {
                std::os::unix::fs::symlink("big.json", at.join(format!("l{index}.json"))).expect("linked");
            }
        }),
        HostileCase::new("bomb-of-names-of-one-file", &[], |at| {
            sound().write(at);
            write(at, "big.json", [b"[".as_slice(), &b"0,".repeat(4 << 20), b"0]"].concat());
            for index in 0..2_000 {
                std::fs::hard_link(at.join("big.json"), at.join(format!("h{index}.json"))).expect("linked");
            }
        }),
        HostileCase::new("bomb-of-a-base", &[], |at| layered(2, &["self_attn.q_proj"], RANK).write(at)).against(|at| {
            repeated(at, "tokenizer_config.json", [b"[", &b"0,".repeat(1 << 19), b"0]"], 3);
            write(at, "notes.txt", vec![b' '; WIDTH]);
        }),
    ]
}
