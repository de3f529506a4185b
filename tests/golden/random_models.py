"""Makes the base and the adapter of a case, and its token ids, all drawn by numpy from the case's seed.

transformers and peft build the modules and write the files; no number of theirs remains but what a tensor starts from
where a formula below says so, because their own random init may change from version to version.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

from cases import LORA, POSITIONS, PROMPTS, VOCABULARY, Case, Disturbance

EMBEDDING_SPREAD = 0.25
MATRIX_SPREAD = 0.18
"""About 1/sqrt(32), with which a product with a matrix neither grows nor shrinks."""
VECTOR_SPREAD = 0.3
A_SPREAD, B_SPREAD = 0.3, 0.08
MAGNITUDE_SPREAD = 0.1
WHOLE_SPREAD = 0.05
FAINT_STRENGTH = 1e-3
TRIPLED_ROWS = 4
REMOVED_SHARE = 0.5

Named = tuple[str, torch.nn.Parameter]


def generator(case: Case, purpose: int) -> np.random.Generator:
    """Streams of one seed that do not depend on how much another has drawn: 0 base, 1 adapter, 2 ids."""
    return np.random.default_rng([case.seed, purpose])


def normal(random: np.random.Generator, shape: Iterable[int], spread: float) -> torch.Tensor:
    """Independent N(0, spread²), f32."""
    return torch.from_numpy(random.normal(0.0, spread, tuple(shape)).astype(np.float32))


def by_name(parameters: Iterable[Named]) -> list[Named]:
    """In alphabetical order, so that what is drawn does not depend on the order in which a library builds modules."""
    return sorted(parameters, key=lambda named: named[0])


def token_ids(case: Case) -> np.ndarray:
    """Uniform ids, [prompts, positions]."""
    return generator(case, 2).integers(0, VOCABULARY, (PROMPTS, POSITIONS), dtype=np.int64)


def random_base(case: Case) -> transformers.PreTrainedModel:
    """The decoder, f32: matrices N(0, s²); vectors v₀ + N(0, 0.3²).

    v₀ is what the library starts the vector from: 0 for a bias and for the norms that multiply by 1 + weight, 1 for
    other norms.
    """
    random = generator(case, 0)
    config = transformers.AutoConfig.for_model(case.model_type, **case.config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in by_name(model.named_parameters()):
            if parameter.ndim == 1:
                parameter += normal(random, parameter.shape, VECTOR_SPREAD)
            else:
                embedding = name.endswith(("embed_tokens.weight", "wte.weight"))
                parameter.copy_(normal(random, parameter.shape, EMBEDDING_SPREAD if embedding else MATRIX_SPREAD))
    return model


def random_adapter(case: Case, base: transformers.PreTrainedModel) -> peft.PeftModel:
    """The base in peft's wrapping, with the adapter's tensors drawn as the case's disturbance says."""
    model = peft.get_peft_model(base, peft.LoraConfig(**LORA, **case.lora))
    random = generator(case, 1)
    with torch.no_grad():
        if case.disturbance is Disturbance.ONE_DIRECTION:
            remove_one_direction(model, random)
        else:
            disturb(model, random, case.disturbance)
    return model


def disturb(model: peft.PeftModel, random: np.random.Generator, disturbance: Disturbance) -> None:
    """A ~ N(0, 0.3²), B ~ t·N(0, 0.08²), m = ‖W‖_row·(1 + t·N(0, 0.1²)), whole tensors W + t·N(0, 0.05²).

    t is 1, or 1e-3 where the change is to be faint. peft starts a magnitude from ‖W‖_row and a whole tensor from W.
    """
    strength = FAINT_STRENGTH if disturbance is Disturbance.FAINT else 1.0
    magnitude_only = disturbance is Disturbance.MAGNITUDE_ONLY
    for name, parameter in by_name(model.named_parameters()):
        if not parameter.requires_grad:
            continue
        if ".lora_A." in name:
            parameter.copy_(normal(random, parameter.shape, A_SPREAD))
        elif ".lora_B." in name:
            drawn = normal(random, parameter.shape, B_SPREAD * strength)
            parameter.copy_(torch.zeros_like(drawn) if magnitude_only else drawn)
        elif ".lora_magnitude_vector." in name:
            parameter *= 1.0 + normal(random, parameter.shape, MAGNITUDE_SPREAD * strength)
            if magnitude_only:
                parameter[:TRIPLED_ROWS] *= 3.0
        else:
            parameter += normal(random, parameter.shape, WHOLE_SPREAD * strength)


def remove_one_direction(model: peft.PeftModel, random: np.random.Generator) -> None:
    """BA = −½ v vᵀW for one random unit vector v of the stream: B = ½ v, A = −vᵀW (rank 1, scale 1)."""
    direction = normal(random, [model.get_base_model().config.hidden_size], 1.0)
    direction /= direction.norm()
    for _, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.lora_A["default"].weight.copy_(-direction[None, :] @ module.get_base_layer().weight)
            module.lora_B["default"].weight.copy_(REMOVED_SHARE * direction[:, None])


def write_model(model: transformers.PreTrainedModel, folder: Path) -> None:
    """config.json and model.safetensors, and nothing that only generating text needs."""
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_adapter(model: peft.PeftModel, folder: Path) -> None:
    """adapter_config.json and adapter_model.safetensors, which name no base: it is the folder beside theirs."""
    model.peft_config["default"].base_model_name_or_path = None
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    # peft keeps the targets as a set, whose order changes from run to run.
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
