"""How far what is computed now lies from a committed case, number by number, and what is too far."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from forward_passes import Tensors
from metrics import Entry

# The tolerances of tests/golden.rs, and of formats/tests/adapter.rs for merged weights.
STATE_TOLERANCE = 5e-5
LOGIT_TOLERANCE = 1e-4
MERGED_TOLERANCE = 1e-5
METRIC_TOLERANCE = 1e-3
ZERO_ANGLE = 1e-4
ZERO = 1e-13
SIMILARITIES = ("cka", "cka_debiased", "cosine", "cosine_centered", "cosine_flat", "knn_overlap", "overlap")


@dataclass
class Agreement:
    """What a comparison found: the worst difference of each kind, and all that was too large."""

    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, name: str, difference: float, limit: float) -> None:
        """Enters one difference. Written so that a NaN is wrong."""
        if kind not in self.worst or difference > self.worst[kind][0]:
            self.worst[kind] = (difference, name)
        if not difference <= limit:
            self.wrong.append(f"{name}: {difference:.2e} away, {limit:.0e} at most")

    def line(self) -> str:
        """The worst of each kind and where."""
        return ", ".join(f"{kind} {worst:.1e} ({name})" for kind, (worst, name) in self.worst.items())


def compare_tensors(found: Tensors, committed: Tensors, agreement: Agreement) -> None:
    """States and logits relative to the committed tensor's root mean square, merged weights in absolute terms."""
    if found.keys() != committed.keys():
        agreement.wrong.append(f"tensors in one file only: {sorted(found.keys() ^ committed.keys())}")
    for name in sorted(found.keys() & committed.keys() - {"input_ids"}):
        got, want = found[name].astype(np.float64), committed[name].astype(np.float64)
        if got.shape != want.shape:
            agreement.wrong.append(f"{name}: shape {got.shape}, committed {want.shape}")
            continue
        worst, size = float(np.abs(got - want).max()), float(np.sqrt(np.mean(want**2)))
        if name.startswith("merged."):
            agreement.add("merged", name, worst, MERGED_TOLERANCE)
        elif name.endswith(".logits"):
            agreement.add("logits", name, worst / size, LOGIT_TOLERANCE)
        else:
            agreement.add("states", name, worst / size, STATE_TOLERANCE)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, float | None]]:
    """Numbers and nulls of nested objects by their paths, `/layers/resid.0/cka`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    else:
        yield path, value


def metric_difference(path: str, got: float, want: float) -> float:
    """|got − want|/|want|; of a similarity, of its distance from one, for that is what is measured."""
    last = path.rsplit("/", 1)[-1]
    if ("angle" in path or "rotation_deg" in path) and got < ZERO_ANGLE and want < ZERO_ANGLE:
        return 0.0
    if last in SIMILARITIES or (path.startswith("/layers/") and "/cosine/" in path):
        got, want = 1.0 - got, 1.0 - want
    if abs(got) < ZERO and abs(want) < ZERO:
        return 0.0
    return abs(got - want) / abs(want) if want != 0.0 else np.inf


def compare_metrics(case: str, found: Entry, committed: Entry, agreement: Agreement) -> None:
    """Every number of metrics.json, and that what is null or absent is so on both sides."""
    got, want = dict(leaves(found)), dict(leaves(committed))
    if got.keys() != want.keys():
        agreement.wrong.append(f"metrics on one side only: {sorted(got.keys() ^ want.keys())}")
    for path in sorted(got.keys() & want.keys()):
        # At a change of 1e-3, 1 − CKA is about 1e-9: f32 activations do not determine it.
        if case == "qwen3_dora_faint" and path.endswith(("/cka", "/cka_debiased")):
            continue
        if got[path] is None or want[path] is None:
            if got[path] is not want[path]:
                agreement.wrong.append(f"{path}: got {got[path]}, committed {want[path]}")
            continue
        agreement.add("metrics", path, metric_difference(path, got[path], want[path]), METRIC_TOLERANCE)


def settings(path: Path) -> dict[str, object]:
    """A config that a library wrote, without the library's version and with peft's sets in order."""
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config.get("target_modules", []))
    return {key: value for key, value in config.items() if key not in ("transformers_version", "peft_version")}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a file's tensors by name."""
    return {name: value.shape for name, value in load_file(path).items()}


def compare_recipe(made: Path, committed: Path, agreement: Agreement) -> None:
    """Settings that both versions of a library know; names and shapes of all tensors under base/ and adapter/."""
    for config in ("base/config.json", "adapter/adapter_config.json"):
        got, want = settings(made / config), settings(committed / config)
        for key in sorted(got.keys() & want.keys()):
            if got[key] != want[key]:
                agreement.wrong.append(f"{config}: {key} would be {got[key]}, committed {want[key]}")
    for weights in ("base/model.safetensors", "adapter/adapter_model.safetensors"):
        got, want = (shapes(at / weights) for at in (made, committed))
        if got != want:
            agreement.wrong.append(f"{weights}: other tensors or shapes: {sorted(got.items() ^ want.items())}")
