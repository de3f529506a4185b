"""Makes the pickles of `../tests/trainer.rs`: what training libraries write, with classes of the same names and no library.

    python3 make.py

Each file is the `data.pkl` of what `torch.save` would write (protocol 2, storages by persistent id), or a plain pickle.
"""

import collections
import enum
import io
import pickle
import random
import sys
import types


def module(name):
    parts = name.split(".")
    for index in range(len(parts)):
        path = ".".join(parts[: index + 1])
        sys.modules.setdefault(path, types.ModuleType(path))
    return sys.modules[name]


def named(name, cls):
    where, cls.__name__ = name.rsplit(".", 1)
    cls.__module__, cls.__qualname__ = where, cls.__name__
    setattr(module(where), cls.__name__, cls)
    return cls


def settings(name):
    return named(name, type("Settings", (), {}))


def choice(name, *values):
    return named(name, enum.Enum("Choice", {value.upper(): value for value in values}, type=str))


def function(name, *, result=None):
    where, base = name.rsplit(".", 1)

    def call(*_):
        return result

    call.__module__, call.__name__, call.__qualname__ = where, base, base
    setattr(module(where), base, call)
    return call


class Made:
    """An object that is saved as a call."""

    def __init__(self, called, *arguments, state=None):
        self.called, self.arguments, self.state = called, arguments, state

    def __reduce__(self):
        if self.state is None:
            return self.called, self.arguments
        return self.called, self.arguments, self.state


TrainingArguments = settings("transformers.training_args.TrainingArguments")
SFTConfig = settings("trl.trainer.sft_config.SFTConfig")
GRPOConfig = settings("trl.trainer.grpo_config.GRPOConfig")
AcceleratorConfig = settings("transformers.trainer_pt_utils.AcceleratorConfig")
PartialState = settings("accelerate.state.PartialState")
IntervalStrategy = choice("transformers.trainer_utils.IntervalStrategy", "no", "steps", "epoch")
SaveStrategy = choice("transformers.trainer_utils.SaveStrategy", "no", "steps", "epoch", "best")
SchedulerType = choice("transformers.trainer_utils.SchedulerType", "linear", "cosine")
HubStrategy = choice("transformers.trainer_utils.HubStrategy", "end", "every_save")
OptimizerNames = choice("transformers.training_args.OptimizerNames", "adamw_torch", "adamw_torch_fused")
DistributedType = choice("accelerate.utils.dataclasses.DistributedType", "no", "multi_gpu")
device = named("torch.device", type("device", (), {}))
FloatStorage = named("torch.FloatStorage", type("FloatStorage", (), {}))
ByteStorage = named("torch.ByteStorage", type("ByteStorage", (), {}))
rebuild = function("torch._utils._rebuild_tensor_v2")
float32 = named("torch.float32", type("float32", (), {}))
ndarray = named("numpy.ndarray", type("ndarray", (), {}))
dtype = named("numpy.dtype", type("dtype", (), {}))
reconstruct = function("numpy._core.multiarray._reconstruct")
scalar = function("numpy._core.multiarray.scalar")


class Storage:
    def __init__(self, kind, key, count):
        self.id = ("storage", kind, str(key), "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        return item.id if isinstance(item, Storage) else None


def tensor(kind, key, *shape):
    count = 1
    for size in shape:
        count *= size
    strides = tuple([1] * len(shape))
    return Made(rebuild, Storage(kind, key, count), 0, tuple(shape), strides, False, collections.OrderedDict())


def number_type(code):
    return Made(dtype, code, False, True, state=(3, "<", None, None, None, -1, -1, 0))


def array(code, data, *shape):
    return Made(reconstruct, ndarray, (0,), b"b", state=(1, tuple(shape), number_type(code), False, data))


def arguments(cls, **more):
    made = cls()
    state = PartialState()
    state.__dict__.update(
        _cpu=False, backend=None, device=Made(device, "cuda", 0), debug=False, fork_launched=False,
        distributed_type=DistributedType.NO, num_processes=1, process_index=0, local_process_index=0,
    )
    config = AcceleratorConfig()
    config.__dict__.update(split_batches=False, even_batches=True, gradient_accumulation_kwargs=None)
    made.__dict__.update(
        output_dir="/home/user/out", do_train=True, learning_rate=2e-4, num_train_epochs=3.0, max_steps=-1,
        eval_strategy=IntervalStrategy.NO, save_strategy=SaveStrategy.STEPS, logging_strategy=IntervalStrategy.STEPS,
        lr_scheduler_type=SchedulerType.COSINE, lr_scheduler_kwargs={}, optim=OptimizerNames.ADAMW_TORCH_FUSED,
        hub_strategy=HubStrategy.EVERY_SAVE, report_to=["tensorboard"], label_names=None, seed=42,
        fsdp=[], fsdp_config={"min_num_params": 0}, accelerator_config=config, distributed_state=state,
        deepspeed_plugin=None, _n_gpu=1, mixed_precision="bf16", **more,
    )
    made.__dict__["__cached__setup_devices"] = Made(device, "cuda", 0)
    return made


def dump(name, what, protocol=2):
    out = io.BytesIO()
    Pickler(out, protocol=protocol).dump(what)
    with open(name, "wb") as file:
        file.write(out.getvalue())


random.seed(1)
moments = {
    index: {"step": tensor(FloatStorage, 3 * index), "exp_avg": tensor(FloatStorage, 3 * index + 1, 8, 16),
            "exp_avg_sq": tensor(FloatStorage, 3 * index + 2, 8, 16)}
    for index in range(2)
}
groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "fused": True, "params": [0, 1]}]
schedule = {"base_lrs": [2e-4], "last_epoch": 5, "_step_count": 6, "_get_lr_called_within_step": False,
            "_last_lr": [Made(scalar, number_type("f8"), b"\0" * 8)], "lr_lambdas": [{}]}
numbers = {
    "python": (3, tuple(range(625)), None),
    "numpy": ("MT19937", array("u4", b"\1\2\3\4" * 4, 4), 4, 0, 0.0),
    "cpu": tensor(ByteStorage, 0, 5056),
    "cuda": [tensor(ByteStorage, 1, 16)],
}
dump("training_args.pkl", arguments(TrainingArguments))
dump("training_args_sft.pkl", arguments(SFTConfig, max_length=1024, packing=False, torch_dtype=float32))
dump("training_args_grpo_4.pkl", arguments(GRPOConfig, beta=0.0, num_generations=8), protocol=4)
dump("optimizer.pkl", {"state": moments, "param_groups": groups})
dump("scheduler.pkl", schedule)
dump("scaler.pkl", {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "_growth_tracker": 10})
dump("rng_state.pkl", numbers)
dump("random_states_5.pkl", {"random_state": numbers["python"], "numpy_random_seed": numbers["numpy"]}, protocol=5)
