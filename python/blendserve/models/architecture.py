"""The shape of a model from its config.json, for the performance model: any architecture, supported here or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blendserve._core import Architecture
from blendserve.errors import ModelError
from blendserve.models.json_fields import JsonFields

__all__ = ["read_architecture", "read_shape"]


def read_architecture(path: Path) -> Architecture:
    """`path` is a config.json. A model type that is not known is read as a dense one of Llama's layout.

    Of multimodal models (`text_config`) only the language model counts. Raises `ModelError` that names the key which is
    missing or cannot be used.
    """
    fields = JsonFields.read(path)
    if "text_config" in fields:
        fields = fields.child("text_config")
    return read_shape(fields, fields.text("model_type") if "model_type" in fields else "")


def read_shape(fields: JsonFields, model_type: str) -> Architecture:
    """As `model_type` is read, whatever the file says of itself."""
    architecture = Architecture()
    _READERS.get(model_type, _unknown)(fields, architecture)
    return architecture


def _decoder(fields: JsonFields, a: Architecture, *, tied: bool = False) -> None:
    """What all families state under the same keys. `tied` is the family's default."""
    a.vocab_size = fields.positive_int("vocab_size")
    a.hidden_size = fields.positive_int("hidden_size")
    a.intermediate_size = fields.positive_int("intermediate_size")
    a.num_layers = fields.positive_int("num_hidden_layers")
    a.num_heads = fields.positive_int("num_attention_heads")
    a.num_kv_heads = fields.positive_int("num_key_value_heads", default=a.num_heads)
    a.head_dim = fields.positive_int("head_dim", default=a.hidden_size // a.num_heads)
    a.tied_embeddings = fields.flag("tie_word_embeddings", default=tied)
    if "max_position_embeddings" in fields:
        a.max_context = fields.positive_int("max_position_embeddings")


def _llama(fields: JsonFields, a: Architecture) -> None:
    _decoder(fields, a)
    a.qkv_bias = a.output_bias = fields.flag("attention_bias", default=False)
    a.mlp_bias = fields.flag("mlp_bias", default=False)


def _unknown(fields: JsonFields, a: Architecture) -> None:
    surplus = [key for key in fields.values if "expert" in key or "lora_rank" in key]
    if surplus:
        raise ModelError(
            f"{fields.source}: `{surplus[0]}` belongs to a layout that is not known for model_type"
            f" {fields.values.get('model_type')!r}; known: {', '.join(_READERS)}. Give ModelSpec its figures instead"
        )
    _llama(fields, a)


def _mixtral(fields: JsonFields, a: Architecture) -> None:
    _llama(fields, a)
    a.num_experts = fields.positive_int("num_local_experts")
    a.experts_per_token = fields.positive_int("num_experts_per_tok")
    a.expert_size = a.intermediate_size


def _qwen2(fields: JsonFields, a: Architecture) -> None:
    _decoder(fields, a)
    a.qkv_bias = True


def _qwen3(fields: JsonFields, a: Architecture) -> None:
    _llama(fields, a)
    if "head_dim" not in fields:
        a.head_dim = 128
    a.qk_norm = True


def _qwen3_moe(fields: JsonFields, a: Architecture) -> None:
    _qwen3(fields, a)
    a.num_experts = fields.positive_int("num_experts")
    a.experts_per_token = fields.positive_int("num_experts_per_tok")
    a.expert_size = fields.positive_int("moe_intermediate_size")
    sparse_step = fields.positive_int("decoder_sparse_step", default=1)
    dense = set(fields.token_ids("mlp_only_layers"))
    a.num_dense_layers = sum(layer in dense or (layer + 1) % sparse_step != 0 for layer in range(a.num_layers))


# What transformers assumes of Gemma where config.json is silent, as that of gemma-3-4b is.
_GEMMA_DEFAULTS = {
    "gemma2": {"vocab_size": 256_000, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "gemma3_text": {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
}


def _gemma(fields: JsonFields, a: Architecture) -> None:
    """Local attention windows are not modelled: every layer counts as reading all of its KV."""
    model_type = fields.text("model_type")
    stated = {key: value for key, value in fields.values.items() if value is not None}
    _decoder(JsonFields(fields.source, _GEMMA_DEFAULTS[model_type] | stated), a, tied=True)
    a.qkv_bias = a.output_bias = fields.flag("attention_bias", default=False)
    a.norms_per_layer = 4
    a.qk_norm = model_type == "gemma3_text"


def _deepseek(fields: JsonFields, a: Architecture) -> None:
    """DeepSeek-V2 and V3, without V3's extra layers for multi-token prediction."""
    _decoder(fields, a)
    a.q_lora_rank = fields.count("q_lora_rank", default=0)
    a.kv_lora_rank = fields.positive_int("kv_lora_rank")
    a.qk_nope_head_dim = fields.positive_int("qk_nope_head_dim")
    a.qk_rope_head_dim = fields.positive_int("qk_rope_head_dim")
    a.v_head_dim = fields.positive_int("v_head_dim")
    if "n_routed_experts" not in fields:
        return
    a.num_experts = fields.positive_int("n_routed_experts")
    a.experts_per_token = fields.positive_int("num_experts_per_tok")
    a.expert_size = fields.positive_int("moe_intermediate_size")
    a.num_shared_experts = fields.count("n_shared_experts", default=0)
    a.num_dense_layers = fields.count("first_k_dense_replace", default=0)


_READERS: dict[str, Callable[[JsonFields, Architecture], None]] = {
    "llama": _llama,
    "mistral": _llama,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
}
