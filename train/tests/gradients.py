"""Reference gradients for `gradients.rs`, by torch, transformers and peft in float64.

Run from anywhere: `python train/tests/gradients.py` writes one safetensors file per golden case into `fixtures/` beside this
script. `python train/tests/gradients.py --loads FOLDER` instead loads the adapters that the test
`peft_reads_what_is_saved_as_it_is_meant` left in FOLDER (`tmp/saved` of the target folder) with peft, and keeps them in
`fixtures/saved/` with the logits that they give there: `input_ids` and `logits`, computed in float64. The test then compares
what it saves, and the logits of what it reads, with these. Needs torch, transformers 5 and peft.

Each fixture holds `tokens.{i}`, `targets.{i}`, `coefficients.{i}` and `log_probabilities.{i}` of two sequences, and
`gradient.{tensor}` of sum_t c_t (-ln p_t) for every adapter tensor under the name that peft saves it by. Weights, norms,
softmax and logits are float64 throughout.
"""

import pathlib
import shutil
import sys

import peft
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent.parent / "tests" / "golden"
LENGTHS = (29, 14)


class KeepFloat64:
    """Norms, rotary tables and softmax of transformers ask for float32; float64 input stays as it is here."""

    def __enter__(self):
        self.to, self.float, self.softmax = torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax

        def to(tensor, *args, **kwargs):
            wide = tensor.dtype == torch.float64
            args = tuple(torch.float64 if wide and arg is torch.float32 else arg for arg in args)
            if wide and kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
            return self.to(tensor, *args, **kwargs)

        def softmax(tensor, *args, dtype=None, **kwargs):
            if tensor.dtype == torch.float64:
                dtype = torch.float64
            return self.softmax(tensor, *args, dtype=dtype, **kwargs)

        torch.Tensor.to = to
        torch.Tensor.float = lambda tensor, *args: tensor if tensor.dtype == torch.float64 else self.float(tensor, *args)
        torch.nn.functional.softmax = softmax

    def __exit__(self, *_):
        torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax = self.to, self.float, self.softmax


def load(base, adapter, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True, autocast_adapter_dtype=False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.to(dtype).eval()


def saved_name(name):
    name = name.replace(".default.weight", ".weight").replace(".default", "")
    return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name


def log_probabilities(model, tokens, targets):
    logits = model(input_ids=tokens[None], use_cache=False).logits[0]
    assert logits.dtype == torch.float64, logits.dtype
    return torch.log_softmax(logits[targets - 1], -1).gather(1, tokens[targets][:, None])[:, 0]


def write(case, seed):
    torch.manual_seed(seed)
    model = load(case / "base", case / "adapter", torch.float64)
    vocabulary = model.config.vocab_size
    fixture, loss = {}, 0.0
    with KeepFloat64():
        for index, length in enumerate(LENGTHS):
            tokens = torch.randint(0, vocabulary, (length,))
            targets = torch.arange(1, length) if index == 0 else torch.arange(2, length, 2)
            coefficients = torch.randn(len(targets), dtype=torch.float64)
            coefficients[torch.rand(len(targets)) < 0.3] = 0.0
            found = log_probabilities(model, tokens, targets)
            loss = loss - (coefficients * found).sum()
            fixture[f"tokens.{index}"], fixture[f"targets.{index}"] = tokens, targets
            fixture[f"coefficients.{index}"], fixture[f"log_probabilities.{index}"] = coefficients, found.detach()
        loss.backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            fixture[f"gradient.{saved_name(name)}"] = parameter.grad.float()
    save_file(fixture, HERE / "fixtures" / f"{case.name}.safetensors")
    print(case.name, sum("gradient" in name for name in fixture), "tensors, loss", loss.item())


def keep_load(folder):
    kept = HERE / "fixtures" / "saved" / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(folder / name, kept / name)
    base = GOLDEN / folder.name.rsplit("-", 1)[0] / "base"
    model = load(base, kept, torch.float64)
    tokens = torch.arange(20) * 37 % 97
    with torch.no_grad(), KeepFloat64():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0]
        with model.disable_adapter():
            unchanged = model(input_ids=tokens[None], use_cache=False).logits[0]
    assert logits.dtype == torch.float64, logits.dtype
    save_file({"input_ids": tokens, "logits": logits.float().contiguous()}, kept / "logits.safetensors")
    print(folder.name, "largest change of a logit", (logits - unchanged).abs().max().item())


if sys.argv[1:2] == ["--loads"]:
    for adapter in sorted(pathlib.Path(sys.argv[2]).iterdir()):
        keep_load(adapter)
else:
    (HERE / "fixtures").mkdir(exist_ok=True)
    for seed, case in enumerate(sorted(path for path in GOLDEN.iterdir() if (path / "adapter").is_dir())):
        write(case, seed)
