"""The golden cases as data: which model, which adapter, how its tensors are drawn, and from which seed."""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Disturbance(Enum):
    """How an adapter's tensors are drawn; `random_models.py` has the formulas."""

    PLAIN = "factors and magnitudes as random as a trained adapter's are large"
    FAINT = "the same, a thousandth as large"
    MAGNITUDE_ONLY = "B = 0, and four magnitudes of each module tripled"
    ONE_DIRECTION = "half of one direction of the stream removed from every writer"


@dataclass(frozen=True)
class Case:
    """One tiny decoder and its adapter."""

    seed: int
    model_type: str
    """As in config.json: transformers finds the classes of config and model by it."""
    config: dict[str, Any]
    """Settings of the model that differ from the defaults of its config class."""
    lora: dict[str, Any]
    """Settings of peft's LoraConfig beside those of `LORA`."""
    disturbance: Disturbance = Disturbance.PLAIN


LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "lora_dropout": 0.05}
"""What every adapter has. Dropout is there to be ignored: nothing here trains."""

VOCABULARY = 97
PROMPTS, POSITIONS = 3, 17
"""Shape of the token ids. Longer than the sliding windows of 6, so that these cut something off."""

TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
TINY_HEADS = TINY | {"head_dim": 8}
TIED = {"tie_word_embeddings": True}
"""Of families whose default is untied."""
GEMMA_WINDOWED = TINY_HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 6}

RANK_4 = {"r": 4, "lora_alpha": 8}
QUERY_AND_VALUE = RANK_4 | {"target_modules": ["q_proj", "v_proj"]}
DORA = {"use_dora": True}

CASES: dict[str, Case] = {
    "gemma2_lora": Case(1, "gemma2", GEMMA_WINDOWED, QUERY_AND_VALUE),
    "gemma3_lora": Case(2, "gemma3_text", GEMMA_WINDOWED, QUERY_AND_VALUE),
    "gemma_lora": Case(3, "gemma", TINY_HEADS | {"num_key_value_heads": 1}, QUERY_AND_VALUE),
    "gpt2_lora": Case(
        4,
        "gpt2",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128},
        RANK_4 | {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    "llama3_lora_patterns": Case(
        5,
        "llama",
        TINY_HEADS
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        {
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["q_proj", "k_proj", "o_proj", "down_proj"],
            "layers_to_transform": [1, 3],
            "layers_pattern": "layers",
            "rank_pattern": {"down_proj": 5},
            "alpha_pattern": {"q_proj": 16},
        },
    ),
    "mistral_dora_mlp": Case(
        6,
        "mistral",
        TINY_HEADS | {"sliding_window": 6},
        DORA | {"r": 3, "lora_alpha": 3, "target_modules": ["v_proj", "gate_proj", "up_proj", "down_proj"]},
    ),
    "phi3_lora": Case(
        7, "phi3", TINY | {"pad_token_id": 0}, RANK_4 | {"target_modules": ["qkv_proj", "o_proj"]}
    ),
    "qwen2_rslora_all": Case(
        8,
        "qwen2",
        TINY,
        {
            "r": 8,
            "lora_alpha": 16,
            "use_rslora": True,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
    ),
    "qwen3_dora_faint": Case(9, "qwen3", TINY_HEADS | TIED, DORA | QUERY_AND_VALUE, Disturbance.FAINT),
    "qwen3_dora_magnitude_only": Case(
        10, "qwen3", TINY_HEADS | TIED, DORA | QUERY_AND_VALUE, Disturbance.MAGNITUDE_ONLY
    ),
    "qwen3_dora_qv": Case(
        11,
        "qwen3",
        TINY | TIED | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
        DORA | QUERY_AND_VALUE,
    ),
    "qwen3_lora_one_direction": Case(
        12,
        "qwen3",
        TINY_HEADS | TIED,
        {"r": 1, "lora_alpha": 1, "target_modules": ["o_proj", "down_proj"]},
        Disturbance.ONE_DIRECTION,
    ),
    "qwen3_lora_qv": Case(13, "qwen3", TINY_HEADS, QUERY_AND_VALUE),
    "qwen3_modules_to_save": Case(14, "qwen3", TINY_HEADS, QUERY_AND_VALUE | {"modules_to_save": ["lm_head"]}),
    "smollm3_lora": Case(
        15,
        "smollm3",
        TINY | {"pad_token_id": 0, "no_rope_layer_interval": 2, "no_rope_layers": [1, 0, 1, 0]},
        QUERY_AND_VALUE,
    ),
}
