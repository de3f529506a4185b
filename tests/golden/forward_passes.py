"""What transformers and peft compute on a case: streams, sub-layers, logits, and the weights that the adapter makes.

Weights, products and sub-layers are float64. Norms, the softmax of attention and rotary tables stay float32 where
transformers asks for that whatever the dtype of the model.
"""

from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

Tensors = dict[str, np.ndarray]


def layers_and_norm(model: transformers.PreTrainedModel) -> tuple[torch.nn.ModuleList, torch.nn.Module]:
    """The decoder layers, and the final norm that follows them."""
    if model.config.model_type == "gpt2":
        return model.transformer.h, model.transformer.ln_f
    return model.model.layers, model.model.norm


def sub_layers(layer: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The modules whose outputs attention and MLP add to the stream: behind the post-norms where a layer has them."""
    if hasattr(layer, "post_feedforward_layernorm"):
        return layer.post_attention_layernorm, layer.post_feedforward_layernorm
    return layer.attn if hasattr(layer, "attn") else layer.self_attn, layer.mlp


def states(model: transformers.PreTrainedModel, ids: np.ndarray) -> Tensors:
    """One pass over ids [prompts, positions]: `resid.{l}`, `attn_out.{l}`, `mlp_out.{l}` and `logits`, float64."""
    found: Tensors = {}

    def keep(name: str, value: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        first = value[0] if isinstance(value, tuple) else value
        found[name] = first.double().numpy().copy()

    def before(module: torch.nn.Module, name: str) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda _, inputs: keep(name, inputs))

    def after(module: torch.nn.Module, name: str) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _module, _inputs, output: keep(name, output))

    layers, norm = layers_and_norm(model)
    hooks = [before(norm, f"resid.{len(layers)}")]
    for index, layer in enumerate(layers):
        attention, mlp = sub_layers(layer)
        hooks += [before(layer, f"resid.{index}")]
        hooks += [after(attention, f"attn_out.{index}"), after(mlp, f"mlp_out.{index}")]
    with torch.no_grad():
        keep("logits", model(input_ids=torch.from_numpy(ids), use_cache=False).logits)
    for hook in hooks:
        hook.remove()
    return found


def open_base(folder: Path) -> transformers.PreTrainedModel:
    """The base in float64, whose attention is written out and not fused."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    )
    return model.eval()


def open_adapted(case: Path) -> peft.PeftModel:
    """The base with its adapter beside it, unmerged, float64."""
    model = peft.PeftModel.from_pretrained(
        open_base(case / "base"), str(case / "adapter"), autocast_adapter_dtype=False
    )
    return model.double().eval()


def changed_tensors(model: peft.PeftModel) -> list[str]:
    """Names in the base of the weights that the adapter changes or replaces."""
    return sorted(
        f"{name}.weight"
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper)
    )


def forward_passes(case: Path, ids: np.ndarray) -> tuple[Tensors, Tensors, Tensors]:
    """States of both models as `base.{site}` and `adapted.{site}`, and W and W' of each changed tensor, float64."""
    base, adapted = open_base(case / "base"), open_adapted(case)
    found = {f"base.{name}": value for name, value in states(base, ids).items()}
    found |= {f"adapted.{name}": value for name, value in states(adapted.get_base_model(), ids).items()}
    names = changed_tensors(adapted)
    before, after = base.state_dict(), adapted.merge_and_unload().state_dict()
    return found, {name: before[name].numpy() for name in names}, {name: after[name].numpy() for name in names}
