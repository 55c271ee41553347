"""A tiny random model of every family of decoders, with all that sets it apart from Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models import BOS_ID, EOS_ID, VOCAB_SIZE, save_random_model
from transformers import CONFIG_MAPPING

WINDOW = 24

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": 1024,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": None,
}
_LOCAL_BEHIND = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}
_YARN = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}

# What is changed of `_SIZES` and of the defaults of transformers, by name of the case; model_type first.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, yarn rope": ("llama", {"rope_parameters": _YARN}),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "mistral without windows, tied": ("mistral", {"sliding_window": None, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2 with windows in some layers, tied": ("qwen2", {**_LOCAL_BEHIND, "tie_word_embeddings": True}),
    "qwen2, yarn rope": ("qwen2", {"rope_parameters": _YARN, "head_dim": 16}),
    "qwen3": ("qwen3", {"attention_bias": True}),
    "qwen3 with windows in some layers, tied": ("qwen3", {**_LOCAL_BEHIND, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 40, "attn_logit_softcapping": 3.0}),
    "gemma2, untied": ("gemma2", {"sliding_window": WINDOW, "attention_bias": True, "tie_word_embeddings": False}),
    "gemma3": ("gemma3_text", {"sliding_window": WINDOW, "query_pre_attn_scalar": 40}),
    "gemma3 with its own rope for every layer type": (
        "gemma3_text",
        {
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "final_logit_softcapping": 5.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
    ),
}


# Decoders that only transformers computes.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("cohere", {}),
    "cohere2, alternating windows": ("cohere2", {"sliding_window": WINDOW, "sliding_window_pattern": 2}),
    "gpt-2": ("gpt2", {"n_inner": None}),
    "gpt-neox": ("gpt_neox", {"attention_bias": True}),
    "granite, whose scores have a scale of their own": ("granite", {"attention_multiplier": 0.1}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "sliding_window": WINDOW}),
    "olmo2": ("olmo2", {}),
    "phi-3": ("phi3", {"sliding_window": WINDOW}),
    "stablelm, which keeps arguments from its layers": ("stablelm", {"use_qkv_bias": True}),
    "starcoder2": ("starcoder2", {"sliding_window": WINDOW, "use_bias": True}),
}


def build_family(directory: Path, name: str, **changes: Any) -> Path:
    """Writes the model of `FAMILIES` or `OTHERS` to `directory` and returns it."""
    if name in OTHERS:
        model_type, settings = OTHERS[name]
        return build_other(directory, model_type, **{**settings, **changes})
    model_type, settings = FAMILIES[name]
    save_random_model(directory, CONFIG_MAPPING[model_type](**{**_SIZES, **settings, **changes}))
    return directory


def build_other(directory: Path, model_type: str, **settings: Any) -> Path:
    """Any decoder of transformers; its heads have 16 elements unless it derives them otherwise."""
    save_random_model(directory, CONFIG_MAPPING[model_type](**{**_SIZES, "head_dim": 16, **settings}))
    return directory
