#!/usr/bin/env python3
"""Makes the golden cases of this folder, and checks that they are what it would make.

    generate.py make CASE --out DIR    base/, adapter/ and token ids of a case of `cases.py` into DIR/CASE
    generate.py expect DIR/CASE …      expected.safetensors and metrics.json from the base/ and adapter/ there
    generate.py check [CASE …]         recomputes both for committed cases (all, by default) and compares

`make` writes an expected.safetensors that holds `input_ids` alone; `expect` keeps the ids that it finds and draws them
from the case's seed where there are none. `check` leaves nothing behind. It holds every number against the tolerances
of `tests/golden.rs`, and settings, names and shapes against those that `make` would write; it prints a line per case,
and ends with exit code 1 where one disagrees.

Needs Python 3.11 and torch, transformers, peft, numpy, safetensors. The committed cases were written by transformers
5.23 (`gemma_lora`: 5.24) and peft 0.21.2; `check` agreed with torch 2.15, transformers 5.24, peft 0.21.2, numpy 2.4 and
safetensors 0.8.

What is exact: the definitions, and merged weights to the bit. Everything else is so up to rounding. transformers
computes norms and softmax in float32, whose last digits differ between processors and between versions: states by some
1e-6 of their size, metrics by 1e-4 in the worst case (`qwen3_dora_faint`). On one machine the same libraries give the
same bytes.

What depends on versions: config.json and adapter_config.json list the settings that a version knows, with its defaults.
All values under base/ and adapter/ are numpy's draws from a seed, whose stream another numpy may change. All cases but
`gemma_lora` were drawn before this file, by the same recipe but from other streams: for them `make` gives a case of the
same kind and not the same bytes. What is committed under base/ and adapter/ stays as it is.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# A __pycache__ here would be taken for a case. Nothing is to be fetched.
sys.dont_write_bytecode = True
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

import metrics  # noqa: E402
from agreement import Agreement, compare_metrics, compare_recipe, compare_tensors  # noqa: E402
from cases import CASES  # noqa: E402
from forward_passes import Tensors, forward_passes  # noqa: E402
from random_models import random_adapter, random_base, token_ids, write_adapter, write_model  # noqa: E402

GOLDEN = Path(__file__).resolve().parent
SINK_RATIO = 10.0

# What a case expects


def without_first_positions(values: np.ndarray) -> np.ndarray:
    """[prompts, positions, width] as [tokens, width], float64."""
    return values[:, 1:].reshape(-1, values.shape[-1]).astype(np.float64)


def refuse_sinks(site: str, rows: list[np.ndarray]) -> None:
    """Raises where the norm of a row exceeds ten times the median: the audit leaves such rows out, no case has one."""
    for values in rows:
        norms = np.linalg.norm(values, axis=1)
        if norms.max() > SINK_RATIO * np.median(norms):
            raise ValueError(f"{site}: a row of norm {norms.max():.3g} is a sink, the median is {np.median(norms):.3g}")


def outputs_by_inputs(values: np.ndarray, model_type: str) -> np.ndarray:
    """A weight as [outputs, inputs], float64: GPT-2 stores the transpose."""
    return (values.T if model_type == "gpt2" else values).astype(np.float64)


def as_stored(tensors: Tensors) -> Tensors:
    """Rounded to f32."""
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in tensors.items()}


def measured(states: Tensors, before: Tensors, after: Tensors, model_type: str) -> metrics.Entry:
    """metrics.json, from f32 values as they are stored: states by site, W and W' by tensor."""
    names = [name.removeprefix("base.") for name in states if name.startswith("base.")]
    models = ("base", "adapted")
    pairs = {name: [without_first_positions(states[f"{model}.{name}"]) for model in models] for name in names}
    logits = pairs.pop("logits")
    for site, rows in pairs.items():
        refuse_sinks(site, rows)
    w = {name: outputs_by_inputs(values, model_type) for name, values in before.items()}
    changed = {name: outputs_by_inputs(values, model_type) for name, values in after.items()}
    return {
        "layers": {site: metrics.site(x, y) for site, (x, y) in pairs.items()},
        "tokens": metrics.tokens(*logits),
        "weights": {name: metrics.weight(w[name], changed[name]) for name in w},
        "coherence": metrics.coherence({name: changed[name] - w[name] for name in w}),
    }


def expectation(case: Path, ids: np.ndarray) -> tuple[Tensors, metrics.Entry]:
    """Contents of expected.safetensors and of metrics.json."""
    states, before, after = (as_stored(tensors) for tensors in forward_passes(case, ids))
    model_type = json.loads((case / "base/config.json").read_text())["model_type"]
    merged = {f"merged.{name}": values for name, values in after.items()}
    return {"input_ids": ids} | states | merged, measured(states, before, after, model_type)


# Commands


def make(name: str, out: Path) -> None:
    """Writes base/, adapter/ and the token ids of a case."""
    case, folder = CASES[name], out / name
    base = random_base(case)
    write_model(base, folder / "base")
    write_adapter(random_adapter(case, base), folder / "adapter")
    save_file({"input_ids": token_ids(case)}, folder / "expected.safetensors")


def ids_of(folder: Path) -> np.ndarray:
    """The ids of the expectations that are there, or those of the case's seed."""
    path = folder / "expected.safetensors"
    return load_file(path)["input_ids"] if path.exists() else token_ids(CASES[folder.name])


def expect(folder: Path) -> None:
    """Writes what the libraries compute on the base and the adapter in a folder."""
    tensors, numbers = expectation(folder, ids_of(folder))
    save_file(tensors, folder / "expected.safetensors")
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=1, sort_keys=True, allow_nan=False))


def check(name: str) -> bool:
    """Prints how far a committed case is from what its base and adapter give now, and from its recipe."""
    folder = GOLDEN / name
    tensors, numbers = expectation(folder, ids_of(folder))
    agreement = Agreement()
    compare_tensors(tensors, load_file(folder / "expected.safetensors"), agreement)
    compare_metrics(name, numbers, json.loads((folder / "metrics.json").read_text()), agreement)
    with tempfile.TemporaryDirectory() as made:
        make(name, Path(made))
        compare_recipe(Path(made) / name, folder, agreement)
    print(f"{name}: {'DISAGREES' if agreement.wrong else 'agrees'}; worst: {agreement.line()}", flush=True)
    for line in agreement.wrong:
        print(f"    {line}")
    return not agreement.wrong


def arguments() -> argparse.Namespace:
    """The command line; `--help` prints the text at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write base/, adapter/ and token ids of a case")
    making.add_argument("case", choices=CASES)
    making.add_argument("--out", type=Path, required=True)
    expecting = commands.add_parser("expect", help="write expected.safetensors and metrics.json")
    expecting.add_argument("folders", type=Path, nargs="+", metavar="DIR/CASE")
    checking = commands.add_parser("check", help="compare committed cases with what would be written now")
    checking.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    for name in getattr(options, "cases", []):
        if name not in CASES:
            parser.error(f"no case is called {name}; there are {', '.join(CASES)}")
    return options


def main() -> int:
    options = arguments()
    torch.set_num_threads(1)
    # Warnings that token ids of a default exceed the tiny vocabulary, and progress of files of 100 kB.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.command == "make":
        make(options.case, options.out)
    elif options.command == "expect":
        for folder in options.folders:
            expect(folder.resolve())
    else:
        committed = sorted(path.name for path in GOLDEN.iterdir() if (path / "base").is_dir())
        agreed = [check(name) for name in options.cases or committed]
        return 0 if all(agreed) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
