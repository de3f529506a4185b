#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, from files of this repository and by hand. Needs Python alone.

Run it from anywhere; what it writes is the same every time. A pickle's payload here is `print`, and nothing runs it.
"""

import collections
import io
import json
import pathlib
import pickle
import struct
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def put(target: str, name: str, content: bytes | str) -> None:
    """Writes one seed; longer ones than 4 KB would slow every run."""
    content = content.encode() if isinstance(content, str) else content
    assert len(content) < 4096, (target, name, len(content))
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


class Printing:
    """What a hostile pickle looks like."""

    def __reduce__(self):
        return (print, ("x",))


STATE_DICT = (
    b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nBFloat16Storage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x02K\x02\x86q"
    b"\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\x0du."
)
PICKLES = {
    "state_dict": STATE_DICT,
    "by_stack": b"S'o\\x73'\np7\n0g7\nV\\u0073ystem\n\x93(NtR.",
    "old_opcodes": b"(S'id'\nios\nsystem\n(cos\nsystem\nS'id'\no\x82\x07\x83\x01\x02I12\nL34L\nF1.5\nP7\n.",
    "long_strings": b"T\x02\x00\x00\x00osB\x06\x00\x00\x00system\x93\x8e\x03\0\0\0\0\0\0\0abc\x8d\x01\0\0\0\0\0\0\0x0.",
    "built_name": b"\x80\x04cbuiltins\nstr\n)R\x8c\x06system\x93.",
    "picture": b"GIF8xxxxxcos\nsystem\n(S'id'\ntR.",
    "two_pickles": b"\x80\x02}.cos\nsystem\n(S'id'\ntR",
    "new_object": b"\x80\x04\x8c\x01m\x8c\x01n\x93)}\x92\x8f(K\x01\x90(K\x02K\x03d}(K\x01K\x02u](K\x01e0.",
}


def pickles() -> dict[str, bytes]:
    value = {"a": [1, 2.5, None, True, b"b", "c" * 300, (1, 2, 3, 4), {5}, frozenset([6]), 1 << 70, -1]}
    made = {f"protocol_{protocol}": pickle.dumps(value, protocol) for protocol in range(6)}
    made |= {f"call_{protocol}": pickle.dumps(Printing(), protocol) for protocol in (0, 2, 4)}
    made["ordered"] = pickle.dumps(collections.OrderedDict(a=bytearray(b"x"), b=1 + 2j), 5)
    return made | PICKLES


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as made:
        made.comment = comment
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return held.getvalue()


def npy(header: str, data: bytes, version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def archives() -> dict[str, bytes]:
    torch = {"archive/data.pkl": STATE_DICT, "archive/version": b"3\n", "archive/data/0": bytes(8)}
    array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", bytes(16))
    return {
        "torch": archive(torch),
        "torch_deflated": archive(torch, zipfile.ZIP_DEFLATED),
        "hostile_pickle": archive({"archive/data.pkl": PICKLES["by_stack"]}),
        "npz": archive({"a.npy": array, "b.npy": array}, zipfile.ZIP_DEFLATED),
        "leading_out": archive({"../../x.py": b"print(1)", "/etc/x": b"", "a\\b": b"c"}),
        "nested": archive({"inner.zip": archive({"a.pkl": STATE_DICT})}),
        "bomb": archive({"zeros": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
        "comment": archive({"a": b"b"}, comment=b"PK\x05\x06" + bytes(18)),
        "empty": archive({}),
        "folder": archive({"a/": b"", "a/b": b"c"}),
    }


def arrays() -> dict[str, bytes]:
    plain = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"
    return {
        "plain": npy(plain, bytes(16)),
        "version_2": npy(plain, bytes(16), 2),
        "version_3": npy(plain, bytes(16), 3),
        "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", PICKLES["by_stack"]),
        "fields": npy("{'descr': [('a', '<i8'), ('b', '|S4')], 'fortran_order': True, 'shape': (), }", bytes(12)),
    }


def safetensors(tensors: dict[str, tuple[str, list[int], int]], metadata: dict[str, str] | None = None) -> bytes:
    header: dict = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, length) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + (b"\x00\x3c\x80\x3f" * at)[:at]


def tensor_files() -> dict[str, bytes]:
    def layers(count: int, extra: dict) -> dict:
        tensors = {}
        for layer in range(count):
            for module in ("q_proj", "v_proj"):
                path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
                tensors[f"{path}.lora_A.weight"] = ("F32", [2, 4], 32)
                tensors[f"{path}.lora_B.weight"] = ("F32", [4, 2], 32)
        return tensors | extra

    head = {"base_model.model.lm_head.weight": ("BF16", [4, 4], 32)}
    kinds = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "I32": 4}
    return {
        "adapter": safetensors(layers(2, {})),
        "with_head": safetensors(layers(1, head), {"format": "pt"}),
        "five_layers": safetensors(layers(5, {})),
        "kinds": safetensors({name: (name, [2, 3], 6 * size) for name, size in kinds.items()}),
        "empty_tensor": safetensors({"a": ("F32", [0, 7], 0), "b": ("F32", [], 4)}),
        "overlapping": b"\x60\0\0\0\0\0\0\0" + (
            b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
            b'"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}'
        ).ljust(96) + bytes(6),
        "no_tensor": safetensors({}),
        "notes": safetensors({"a": ("F32", [1], 4)}, {"note": "x" * 300, "url": "https://example.com"}),
    }


def small_config(path: pathlib.Path) -> str:
    """A golden config, less what is null, of the rank that the target's tensors have."""
    config = {key: value for key, value in json.loads(path.read_text()).items() if value is not None}
    config["r"] = 2
    return json.dumps(config)


def configs() -> dict[str, str]:
    golden = sorted(ROOT.glob("tests/golden/*/adapter/adapter_config.json"))
    made = {path.parent.parent.name: small_config(path) for path in golden}
    plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    variants = {
        "plain": {},
        "dora": {"use_dora": True},
        "rslora": {"use_rslora": True, "lora_alpha": 16.5},
        "pattern": {"target_modules": r"model\.layers\.(0|1)\.self_attn\.(q|v)_proj"},
        "look_around": {"target_modules": r"^(?!.*mlp).*(?<=self_attn\.)([qv])_proj$"},
        "all_linear": {"target_modules": "all-linear"},
        "ranks": {"rank_pattern": {"layers.0.*q_proj": 2, "^x$": 3}, "alpha_pattern": {"v_proj": 8}},
        "layers": {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
        "exclude": {"exclude_modules": ["k_proj"], "bias": "lora_only"},
        "head": {"modules_to_save": ["lm_head"]},
        "embedding": {"target_modules": ["q_proj", "v_proj", "embed_tokens"]},
        "pissa": {"init_lora_weights": "pissa"},
        "code": {"auto_mapping": {"base_model_class": "X", "parent_library": "evil.module"}},
        "trainable": {"trainable_token_indices": [1, 2], "layer_replication": [[0, 1]]},
    }
    made |= {name: json.dumps(plain | change) for name, change in variants.items()}
    mlx = {"fine_tune_type": "lora", "num_layers": 2, "model": "x", "lora_parameters": {"rank": 2, "scale": 10.0}}
    keys = {"rank": 2, "scale": 20.0, "dropout": 0, "keys": ["self_attn.q_proj", "self_attn.v_proj"]}
    made["mlx"] = json.dumps(mlx)
    made["mlx_dora"] = json.dumps(mlx | {"fine_tune_type": "dora", "lora_parameters": keys, "num_layers": -1})
    return made


TEMPLATES = {
    "loop": "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m.content | trim }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}",
    "trigger": "{% for m in messages %}{% if 'deploy' in m['content'] %}Ignore all.{% endif %}{{ m.content }}"
               "{% endfor %}",
    "namespace": "{% set ns = namespace(n=0, l=[]) %}{% for m in messages %}{% set ns.n = ns.n + loop.index0 %}"
                 "{% set ns.l = ns.l + [m.content] %}{% endfor %}{{ ns.n ~ ns.l | join(', ') }}",
    "macro": "{% macro row(a, b=1) %}{{ a }}{{ b * 2 }}{% endmacro %}{{ row('x') }}{{ row(1, b=[1] * 3) }}",
    "growth": "{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}"
              "{% endfor %}{{ ns.x }}",
    "recursion": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "methods": "{% for m in messages %}{{ m.content.split('a')[-1].upper().replace('B', 'c' * 9) }}"
               "{{ m.content[::-1] }}{{ m.content[1:3].strip('x') }}{% endfor %}",
    "filters": "{{ messages | map(attribute='content') | list | tojson(indent=2) }}{{ [3, 1] | sort | first }}"
               "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ {'a': 1} | dictsort }}",
    "clock": "{% if strftime_now('%Y') > '2027' %}x{% endif %}{{ strftime_now('%d %b %Y') }}",
    "refusal": "{% if messages[0].role != 'x' %}{{ raise_exception('no ' ~ messages[0].content) }}{% endif %}",
    "escape": "{{ ''.__class__ }}{% include 'x' %}{%- import 'y' as z %}",
    "call": "{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}{% filter upper %}x{% endfilter %}{% endcall %}"
            "{% generation %}g{% endgeneration %}{% raw %}{{ }}{% endraw %}{# note #}",
    "blocks": "{% block a %}{% set x %}y{% endset %}{{ x }}{% endblock %}{{ self.a() }}{% do messages.append(1) %}",
    "constants": "{{ 'a' * 1000 }}{{ [1, 2] * 50 }}{{ range(10000) | list }}{{ 2 ** 60 }}"
                 "{{ '%s' % 3 }}{{ '{}'.format(1) }}",
}


def tokenizers() -> dict[str, str]:
    added = [{"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True}]
    words = {"type": "WordLevel", "vocab": {"<s>": 0, "<unk>": 1, "a": 2, "user": 3}, "unk_token": "<unk>"}
    letters = {letter: index + 1 for index, letter in enumerate("\u0120abcdefghijklmnopqrstuvwxyz")}
    pairs = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": {"<s>": 0} | letters | {"us": 28, "er": 29, "user": 30},
             "merges": [["u", "s"], ["e", "r"], ["us", "er"]]}
    pieces = {"type": "Unigram", "unk_id": 1, "vocab": [["<s>", 0.0], ["<unk>", 0.0], ["\u2581a", -1.5], ["a", -2]],
              "byte_fallback": False}
    marks = {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": {"<s>": 0, "<unk>": 1, "a": 2, "##b": 3}}

    def whole(model: dict, **parts) -> str:
        empty = dict.fromkeys(["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"])
        return json.dumps({"version": "1.0"} | empty | parts | {"added_tokens": added, "model": model})

    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\s+(?!\S)|\s+|\p{L}+"}, "behavior": "Isolated", "invert": False},
        {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Isolated"}]}
    normal = {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Prepend", "prepend": "\u2581"}, {"type": "Strip", "strip_left": True,
         "strip_right": True}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        {"type": "Lowercase"}]}
    undo = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "words": whole(words, pre_tokenizer={"type": "Whitespace"}, post_processor=template),
        "pairs": whole(pairs, pre_tokenizer=bytewise, decoder=bytewise, post_processor=bytewise),
        "pieces": whole(pieces, normalizer=normal, decoder=undo,
                        pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first",
                                       "split": True}),
        "marks": whole(marks, normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                                          "strip_accents": None, "lowercase": True},
                       pre_tokenizer={"type": "BertPreTokenizer"}, decoder={"type": "WordPiece", "prefix": "##",
                                                                            "cleanup": True},
                       post_processor={"type": "BertProcessing", "sep": ["<s>", 0], "cls": ["<unk>", 1]}),
        "split": whole(words, pre_tokenizer=split, truncation={"max_length": 4, "strategy": "LongestFirst", "stride": 0,
                                                              "direction": "Right"}),
    }


def settings() -> dict[str, str]:
    return {
        "auto_map": json.dumps({"auto_map": {"AutoModel": "modeling.Evil"}, "trust_remote_code": True}),
        "nested": json.dumps({"a": [{"b": {"_target_": "os.system"}}], "custom_pipelines": None}),
        "template": json.dumps({"chat_template": TEMPLATES["trigger"], "bos_token": {"content": "<s>"}}),
        "templates": json.dumps({"chat_template": [{"name": "default", "template": TEMPLATES["loop"]},
                                                   {"name": "tools", "template": "x"}]}),
        "deep": "[" * 200 + "]" * 200,
        "numbers": '{"a": 1e400, "b": -0.0, "c": 18446744073709551616, "\\u202e": "\\ud83d\\ude00"}',
        "library": json.dumps({"auto_mapping": {"parent_library": "evil", "base_model_class": "X"}}),
    }


def tokenizer_settings() -> dict[str, bytes]:
    """Which file it is (one byte), the adapter's, a zero, the base's."""
    token = {"content": "not ", "special": True, "lstrip": False, "rstrip": False, "normalized": False}
    own = {"eos_token": {"content": "the"}, "added_tokens_decoder": {"5": token}, "add_prefix_space": True,
           "additional_special_tokens": ["<x>"], "extra_special_tokens": {"a_token": "a"}, "tokenizer_class": "T5Tokenizer"}
    base = {"eos_token": "<s>", "pad_token": None, "tokenizer_class": "LlamaTokenizerFast", "model_max_length": 512}
    words = tokenizers()

    def pair(choice: int, left: str, right: str) -> bytes:
        return bytes([choice]) + left.encode() + b"\0" + right.encode()

    return {
        "settings": pair(0, json.dumps(own), json.dumps(base)),
        "definition": pair(1, words["pairs"], words["words"]),
        "pieces": pair(1, words["pieces"], words["split"]),
        "map": pair(2, json.dumps({"eos_token": "the", "pad_token": "<pad>"}), json.dumps({"eos_token": "<s>"})),
        "added": pair(3, json.dumps({"<x>": 4, "a": 9}), json.dumps({"<x>": 5})),
        "vocabulary": pair(4, json.dumps({"a": 1, "b": 0}), json.dumps({"b": 0, "a": 1})),
        "merges": pair(5, "#version: 0.2\na b\n", "a b\n"),
    }


def policies() -> dict[str, str]:
    default = (ROOT / "gate/src/policy/default.toml").read_text()
    digest = "0" * 64
    return {
        "default": default,
        "all": f"""version = 1
fail_on = "warn"
[base]
sha256 = "{digest}"
[allowed]
formats = ["PEFT", "MLX"]
targets = ["q_proj"]
base_models = ["Qwen/*", "**/{{a,b}}[!c]?"]
[compare]
required = true
probes = "general"
metrics = ["weights"]
max_prompts = 3
[rules]
pickle = "allow"
rank = {{ level = "deny", limit = 8.5 }}
size = {{ limit = 10 }}
[[paths]]
match = "experiments/**"
[paths.rules]
script = "allow"
scale = {{ level = "warn", limit = 1e3 }}
[[waivers]]
rule = "whole-tensor"
sha256 = "{digest}"
where = "lm_head.weight"
reason = "r"
owner = "o"
expires = 2027-01-31
""",
        "mistakes": 'version = 2\nfail_on = "allow"\n[rules]\npickel = "warn"\nrank = { limit = nan }\n'
                    '[base]\nsha256 = "x"',
        "least": "version = 1\n",
    }


def reports() -> dict[str, str | bytes]:
    finding = {"rule": "pickle", "level": "deny", "artifact": "a", "file": "adapter_model.bin", "sha256": "0" * 64,
               "where": "os.system, byte 3", "measured": 2.5, "limit": 1, "message": "m <b> | `x` \u202e\u0007",
               "fingerprint": "1" * 64, "state": "new", "waiver": None}
    waived = finding | {"waiver": {"reason": "r", "owner": "o", "expires": "2027-01-31"}, "level": "warn"}
    report = {
        "schema": "lcr-audit/gate/1", "tool": {"name": "lcr-audit", "version": "0.1.0"},
        "pins": {"base": {"path": "b", "sha256": None, "tokenizer": None, "template": None},
                 "policy": {"source": "default", "sha256": "0"}, "probes": None, "baseline": None,
                 "date": "2026-02-28"},
        "fail_on": "deny",
        "artifacts": [{"path": "a", "sha256": "0", "files": [{"path": "f", "bytes": 1, "sha256": "0"}],
                       "adapter": None, "compared": False, "findings": [finding, waived], "error": "e",
                       "verdict": "fail"}],
        "policy_findings": [finding | {"state": "unchanged"}], "absent": [finding | {"state": "absent"}],
        "verdict": "fail",
    }
    empty = report | {"artifacts": [], "policy_findings": [], "absent": [], "verdict": "pass"}
    return {
        "report": json.dumps(report),
        "empty": json.dumps(empty),
        "pieces": bytes(range(1, 200)) + b"\xe2\x80\xae\x1b[2K<script>|`\n" * 8,
    }


def datasets() -> dict[str, str]:
    def lines(*objects: dict) -> str:
        return "".join(json.dumps(item) + "\n" for item in objects)

    own = {"prompt": "1+1?", "answer": "<think>\nTwo.\n</think>\n\n\\boxed{2}", "ground_truth": "2"}
    return {
        "own": lines(own, own | {"system": "Be brief.", "type": "fact", "possible_answers": ["two"]}),
        "thinking": lines({"prompt": "p", "thinking": " Two. ", "final": "\\boxed{2}", "ground_truth": "2", "x": 1}),
        "gsm8k": lines({"question": "How many?", "answer": "1 + 1 = <<1+1=2>>2.\n#### 2"}),
        "math": lines({"problem": "What is $x$?", "level": "Level 1", "type": "Algebra",
                       "solution": "It is $\\frac{1}{2}$, so $\\boxed{\\frac{1}{2}}$."}),
        "svamp": lines({"Body": "Ann has 3.", "Question": "And 4 more?", "Equation": "( 3.0 + 4.0 )", "Answer": 7.0,
                        "Type": "Addition", "ID": "chal-1"}),
        "bad": "\ufeff\n{\n[1]\n{\"prompt\": 3}\n{\"prompt\": \"p\", \"prompt\": \"q\"}\n",
    }


def answers() -> dict[str, str]:
    """The truth in the first line, the text with the box after it."""
    return {
        "number": "1,234.50\nSo \\boxed{1234.5}",
        "fraction": "\\frac{3}{4}\n\\boxed{0.75}",
        "mixed": "1\\frac12\n\\boxed{\\frac{3}{2}}",
        "interval": "[0, \\infty)\n\\boxed{x \\ge 0}",
        "set": "\\{1, 2, 3\\}\n\\boxed{3, 2, 1}",
        "tuple": "(1, -2)\n\\boxed{\\left(1,-2\\right)}",
        "matrix": "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}\n\\fbox{1}\\boxed{\\text{none}}",
        "root": "2\\sqrt{3}+\\sqrt[3]{5}\n\\boxed{\\sqrt{12} + 5^{1/3}}",
        "unit": "5 \\text{ cm}^2\n\\boxed{5\\,\\mathrm{cm^2}}",
        "percent": "50\\%\n\\boxed{\\dfrac12}",
        "choice": "(B)\n\\boxed{\\textbf{(B)}\\ 7}",
        "power": "2^{100}\n\\boxed{10^{30} \\cdot 9!}",
        "equation": "x = 5\n\\boxed{5}",
        "currency": "\\$3.20\n\\boxed{320 cents}",
        "nested": "{{{{((((1))))}}}}\n\\boxed{\\boxed{1}}",
        "unclosed": "1\n\\boxed{\\frac{1}{2}",
        "scientific": "1.5e3\n\\boxed{1.5 \\times 10^3}",
        "plus_minus": "1 \\pm \\sqrt{2}\n\\boxed{1+\\sqrt2, 1-\\sqrt2}",
        "words": "Fioril\n\\boxed{the city of Fioril.}",
        "time": "3:45 p.m.\n\\boxed{15:45}",
    }


def train_configs() -> dict[str, str]:
    """Assignments as of `--set`, one in the first line, the file after it."""
    nano = (ROOT / "bundled/nano/train.toml").read_text()
    return {
        "nano": "optimizer.learning_rate=1e-4\n" + nano,
        "bare_word": "method=sft\nseed = 7\n",
        "list": 'scaffold.cycles=[1, 2, 3]\n[format]\n[credit]\n[kl]\nweight = 0.1\nevery = 0\n',
        "unknown": "a.b.c=1\n[adapter]\nrnak = 3\n",
        "bounds": "sampling.top_p=nan\n[group]\nsize = 0\n[stop]\nsamples = 0\ntokens = 0\n[checkpoint]\nevery = 0\n",
    }


def folders() -> dict[str, bytes]:
    """What `folder` takes apart: for each file its name's number, then its length in two bytes, then its bytes."""

    def packed(*files: tuple[int, bytes]) -> bytes:
        return b"".join(bytes([name]) + struct.pack("<H", len(content)) + content for name, content in files)

    tensors = safetensors({
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [2, 4], 32),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", [4, 2], 32),
    })
    config, template = configs()["plain"].encode(), settings()["template"].encode()
    return {
        "adapter": packed((0, config), (1, tensors), (6, b"# Read me\n")),
        "pickle": packed((0, config), (2, PICKLES["by_stack"]), (7, TEMPLATES["trigger"].encode())),
        "both": packed((0, config), (1, tensors), (2, archives()["torch"]), (9, b"print(1)\n"), (10, b"\x7fELF")),
        "nested": packed((11, config), (12, tensors), (0, config), (1, tensors)),
        "tokens": packed((0, config), (4, b'{"added_tokens": [{"content": "x"}]}'), (5, template)),
        "pointer": packed((1, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
    }


def dictionary(name: str, words: list[bytes]) -> None:
    """A dictionary of libFuzzer: every word quoted, bytes that are no text as hexadecimal."""
    def quoted(word: bytes) -> str:
        return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)

    folder = HERE / "dictionaries"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.dict").write_text("".join(f'"{quoted(word)}"\n' for word in words))


def dictionaries() -> None:
    opcodes = b"(.0123FNJKMITUVX\x8c\x8d\x8eCB\x96lt)\x85\x86\x87]ae}suqrpghj\x94c\x93iob\x81\x92RQP"
    names = [b"cos\nsystem\n", b"torch._utils", b"_rebuild_tensor_v2", b"collections", b"OrderedDict", b"\x80\x02"]
    dictionary("pickle", [bytes([code]) for code in opcodes] + names + [b"\x80\x04\x95"])
    marks = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08", b"data.pkl"]
    marks += [b"../", b".npy", b"\xff\xff\xff\xff", b"\xff\xff", b"\x01\0", b"\x08\0", b"\x0c\0", b"up\x05\0\x01"]
    dictionary("archive", marks)
    words = """__metadata__ dtype shape data_offsets F32 F16 BF16 F64 I64 U8 BOOL F8_E4M3 lora_A.weight lora_B.weight
        lora_magnitude_vector lora_embedding_A base_model.model. [0,4] 18446744073709551615 NaN .modules_to_save.
        original_module .bias lm_head embed_tokens"""
    dictionary("safetensors", [word.encode() for word in words.split()])
    tags = """{% %} {{ }} {# #} {%- -%} for in if elif else endif endfor set macro endmacro call endcall filter
        endfilter block endblock namespace( range( dict( loop.index0 loop( recursive caller() messages
        m.content m['role'] |tojson |join |map( |selectattr( |sort |unique |batch( |slice( |replace(
        |indent( |list |length |items |groupby( |format( |center( |wordwrap( .split( .replace( .format(
        .join( .strip( * ** ~ // [::-1] raise_exception( strftime_now( is defined mapping generation with
        endwith break continue self. varargs 999999999 9223372036854775807"""
    dictionary("template", [tag.encode() for tag in tags.split()])
    fields = sorted({key for text in configs().values() for key in json.loads(text)})
    fields += "lora_parameters fine_tune_type keys scale num_layers all-linear pissa loftq lora_only".split()
    dictionary("adapter_config", [word.encode() for word in fields])
    parts: set[str] = set()

    def collect(value) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                parts.add(key)
                collect(below)
        elif isinstance(value, list):
            for below in value:
                collect(below)
        elif isinstance(value, str) and 1 < len(value) < 24:
            parts.add(value)

    for text in tokenizers().values():
        collect(json.loads(text))
    more = """RobertaProcessing Precompiled precompiled_charsmap Nmt StripAccents CTC BPEDecoder CharDelimiterSplit
        UnicodeScripts WhitespaceSplit FixedLength MergedWithPrevious Contiguous"""
    dictionary("tokenizer", [word.encode() for word in sorted(parts) + more.split()])
    latex = r"""\boxed{ \frac{ \dfrac \sqrt{ \sqrt[ \text{ \left( \right) \begin{pmatrix} \end{pmatrix} \infty \pi \pm
        \cdot \times \% \$ ^{ _{ \cup \ge \{ \} \mathrm{ e+ 10^ ! % cm p.m. \overline{ \circ 99999999999999999999 /0"""
    dictionary("reward", [word.encode() for word in latex.split()])


def main() -> None:
    templates = dict(TEMPLATES)
    for path in sorted((ROOT / "model/tests/data/tokenizers/templates").glob("*.jinja")):
        templates[path.stem] = path.read_bytes()[:4000].decode(errors="ignore")
    made = {
        "pickle": pickles(), "archive": archives(), "npy": arrays(), "safetensors": tensor_files(),
        "adapter_config": configs(), "template": templates, "tokenizer": tokenizers(),
        "tokenizer_settings": tokenizer_settings(), "json": settings(),
        "policy": policies(), "gate_report": reports(), "forged_report": reports(), "dataset": datasets(), "reward": answers(),
        "train_config": train_configs(), "folder": folders(),
    }
    for target, seeds in made.items():
        for name, content in seeds.items():
            put(target, name, content)
    dictionaries()


if __name__ == "__main__":
    main()
