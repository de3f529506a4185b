#!/usr/bin/env python3
"""Makes adapters that nobody trained: random directions on random modules, of every size and rank.

usage: random_adapters.py BASE OUT COUNT [SEED]      (needs numpy, safetensors)

No question about behaviour may answer yes about them more often than the stated rate (`lcr-audit batch BASE OUT --depth
standard`). Beside them OUT/zero, which changes nothing, and OUT/rounded, which carries the base's own writers rounded to
bf16: both must get no yes at all, not even to `effect` where the base is stored in bf16.
"""
import json, os, sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

BASE, OUT, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
SEED = int(sys.argv[4]) if len(sys.argv) > 4 else 0
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write(name, tensors, config):
    os.makedirs(f"{OUT}/{name}", exist_ok=True)
    save_file(tensors, f"{OUT}/{name}/adapter_model.safetensors", metadata={"format": "pt"})
    with open(f"{OUT}/{name}/adapter_config.json", "w") as out:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", **config}, out)


with safe_open(f"{BASE}/model.safetensors", "pt") as base:
    weights = {name: base.get_tensor(name).float() for name in base.keys() if name.split(".")[-2] in KINDS}
norms = {name: float(weight.norm()) for name, weight in weights.items()}


def random_adapter(draw, size, kinds, rank):
    tensors = {}
    for name, weight in weights.items():
        if name.split(".")[-2] not in kinds:
            continue
        outputs, inputs = weight.shape
        down, up = draw.standard_normal((rank, inputs)), draw.standard_normal((outputs, rank))
        # Spectra fall as those of trained adapters do.
        up *= (1 + np.arange(rank)) ** -draw.uniform(0, 1.5)
        change = np.sqrt(np.trace((up.T @ up) @ (down @ down.T)))
        up *= size * norms[name] / change
        path = "base_model.model." + name.removesuffix(".weight")
        tensors[f"{path}.lora_A.weight"] = down.astype(np.float32)
        tensors[f"{path}.lora_B.weight"] = up.astype(np.float32)
    return tensors


for number in range(COUNT):
    draw = np.random.default_rng([SEED, number])
    rank = int(draw.choice([1, 2, 4, 8, 16]))
    kinds = [kind for kind in KINDS if draw.random() < 0.6] or ["o_proj"]
    size = float(10 ** draw.uniform(-2.5, -0.7))
    tensors = random_adapter(draw, size, kinds, rank)
    write(f"random-{number:03}", tensors, {"r": rank, "lora_alpha": rank, "target_modules": kinds})

draw = np.random.default_rng([SEED, COUNT])
zero = random_adapter(draw, 0.01, ["q_proj", "v_proj"], 4)
zero = {name: value * (0 if "lora_B" in name else 1) for name, value in zero.items()}
write("zero", zero, {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]})
rounded = {f"base_model.model.{name}": weight.bfloat16().float().numpy() for name, weight in weights.items()
           if name.split(".")[-2] in ["o_proj", "down_proj"]}
rounded |= {name: value for name, value in zero.items() if "layers.0." in name}
write("rounded", rounded, {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0],
                           "modules_to_save": ["o_proj", "down_proj"]})
