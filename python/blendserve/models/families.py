"""What sets one family of decoders apart from Llama, as its config.json says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blendserve.errors import ModelError
from blendserve.models.json_fields import JsonFields
from blendserve.models.rope_config import RopeConfig, rope_of

if TYPE_CHECKING:
    from blendserve.models.config import Activation, ModelConfig

__all__ = ["FAMILIES", "Family", "layer_windows"]


@dataclass(frozen=True, slots=True)
class Family:
    """`model_type` names the reader of its shape in `architecture`; `settings` makes it of a Llama of that shape."""

    model_type: str
    settings: Callable[[JsonFields, ModelConfig], ModelConfig]
    activation: Activation = "silu"  # where the file names none


def _llama(_: JsonFields, config: ModelConfig) -> ModelConfig:
    return config


def _mistral(fields: JsonFields, config: ModelConfig) -> ModelConfig:
    window = _window(fields)
    return replace(config, windows=(window,) * config.num_layers)


def _qwen(fields: JsonFields, config: ModelConfig) -> ModelConfig:
    """Qwen2 and Qwen3: the first layers attend in full, and by default all do."""
    window = _window(fields) if fields.flag("use_sliding_window", default=False) else 0
    first_local = fields.count("max_window_layers", default=28)
    return replace(config, windows=layer_windows(fields, config.num_layers, window, lambda layer: layer >= first_local))


def _gemma2(fields: JsonFields, config: ModelConfig) -> ModelConfig:
    return replace(
        _gemma(fields, config),
        windows=layer_windows(fields, config.num_layers, _window(fields), lambda layer: layer % 2 == 0),
        attention_softcap=_softcap(fields, "attn_logit_softcapping", default=50.0),
        final_softcap=_softcap(fields, "final_logit_softcapping", default=30.0),
    )


def _gemma3(fields: JsonFields, config: ModelConfig) -> ModelConfig:
    period = fields.positive_int("sliding_window_pattern", default=6)
    rope, local_rope = _gemma3_ropes(fields, config.max_position_embeddings)
    if rope.score_factor != 1.0 or local_rope.score_factor != 1.0:
        raise ModelError(f"{fields.source}: rope_type 'yarn' is not supported where layers have ropes of their own")
    return replace(
        _gemma(fields, config),
        windows=layer_windows(fields, config.num_layers, _window(fields), lambda layer: (layer + 1) % period != 0),
        final_softcap=_softcap(fields, "final_logit_softcapping", default=0.0),
        rope=rope,
        local_rope=local_rope,
    )


def _gemma(fields: JsonFields, config: ModelConfig) -> ModelConfig:
    if fields.flag("use_bidirectional_attention", default=False):
        raise ModelError(f"{fields.source}: `use_bidirectional_attention` makes an encoder, which generates nothing")
    return replace(
        config,
        norm_offset=1.0,
        embedding_scale=config.hidden_size**0.5,
        attention_scale=fields.positive_number("query_pre_attn_scalar", default=256.0) ** -0.5
        * config.rope.score_factor,
    )


def _gemma3_ropes(fields: JsonFields, context: int) -> tuple[RopeConfig, RopeConfig]:
    """Of the global and of the local layers; transformers 5 nests the two in `rope_parameters`."""
    if "rope_parameters" in fields:
        by_type = fields.child("rope_parameters")
        full, local = by_type.optional_child("full_attention"), by_type.optional_child("sliding_attention")
    else:
        full, local = fields.optional_child("rope_scaling"), JsonFields(fields.source, {})
    return (
        rope_of(full, theta=fields.positive_number("rope_theta", default=1_000_000.0), context=context),
        rope_of(local, theta=fields.positive_number("rope_local_base_freq", default=10_000.0), context=context),
    )


def layer_windows(fields: JsonFields, num_layers: int, window: int, is_local: Callable[[int], bool]) -> tuple[int, ...]:
    """The window of each layer; `is_local` tells the layers that have one where the file has no `layer_types`."""
    if "layer_types" not in fields:
        return tuple(window if is_local(layer) else 0 for layer in range(num_layers))
    types = fields.values["layer_types"]
    if not isinstance(types, list) or len(types) != num_layers:
        raise fields.mistyped("layer_types", f"a list of {num_layers} types")
    unknown = set(types) - {"full_attention", "sliding_attention"}
    if unknown:
        raise ModelError(
            f"{fields.source}: `layer_types` has {sorted(unknown)[0]!r}; supported: full_attention, sliding_attention"
        )
    return tuple(window if each == "sliding_attention" else 0 for each in types)


def _window(fields: JsonFields) -> int:
    """4096 where the file does not say, 0 where it says null: as transformers has it in all these families."""
    return 0 if fields.is_null("sliding_window") else fields.positive_int("sliding_window", default=4096)


def _softcap(fields: JsonFields, key: str, *, default: float) -> float:
    return 0.0 if fields.is_null(key) else fields.positive_number(key, default=default)


FAMILIES = {
    "LlamaForCausalLM": Family("llama", _llama),
    "MistralForCausalLM": Family("mistral", _mistral),
    "Qwen2ForCausalLM": Family("qwen2", _qwen),
    "Qwen3ForCausalLM": Family("qwen3", _qwen),
    "Gemma2ForCausalLM": Family("gemma2", _gemma2, "gelu_tanh"),
    "Gemma3ForCausalLM": Family("gemma3_text", _gemma3, "gelu_tanh"),
}
