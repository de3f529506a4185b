"""An adapter that knows nothing: for each module that another one changes, a random change of the same rank and norm.

    lcr-audit compare bundled/nano bundled/nano-lcr --out audit
    python3 examples/nano_reasoner/random_adapter.py audit/report.json bundled/nano bundled/nano-lcr random

The norms are those of W' − W in the audit's report, so that DoRA's magnitudes count as well; the result is plain LoRA. The base
is one file of bf16. Needs numpy and safetensors.
"""

import argparse
import json
import pathlib

import numpy
from safetensors.numpy import load_file, save_file

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("audit", help="report.json of the adapter")
parser.add_argument("base", type=pathlib.Path)
parser.add_argument("adapter", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

generator = numpy.random.default_rng(arguments.seed)
report = json.loads(pathlib.Path(arguments.audit).read_text())
stored = (arguments.base / "model.safetensors").read_bytes()
header_length = int.from_bytes(stored[:8], "little")
header = json.loads(stored[8:8 + header_length])


def norm_of(name):
    """Frobenius norm of a bf16 tensor, whose bits are the upper half of an f32's."""
    start, end = header[name]["data_offsets"]
    halves = numpy.frombuffer(stored[8 + header_length:][start:end], dtype="<u2")
    return numpy.linalg.norm((halves.astype("<u4") << 16).view("<f4").astype(float))


norms = {
    name.removesuffix(".weight"): weight["relative_norm"] * norm_of(name) for name, weight in report["weights"].items()
}
tensors = load_file(arguments.adapter / "adapter_model.safetensors")
config = json.loads((arguments.adapter / "adapter_config.json").read_text())
scale = config["lora_alpha"] / config["r"]
made = {}
for name in [name for name in tensors if name.endswith("lora_A.weight")]:
    path = name.removesuffix(".lora_A.weight")
    down = generator.standard_normal(tensors[name].shape).astype(numpy.float32)
    up = generator.standard_normal(tensors[f"{path}.lora_B.weight"].shape).astype(numpy.float32)
    up *= norms[path.removeprefix("base_model.model.")] / (scale * numpy.linalg.norm(up.astype(float) @ down))
    made[name], made[f"{path}.lora_B.weight"] = down, up
arguments.out.mkdir(parents=True, exist_ok=True)
save_file(made, arguments.out / "adapter_model.safetensors", metadata={"format": "pt"})
(arguments.out / "adapter_config.json").write_text(json.dumps({**config, "use_dora": False}, indent=2))
