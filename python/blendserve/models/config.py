"""What config.json and generation_config.json say about a model, as transformers 4 and 5 write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blendserve._core import Architecture
from blendserve.errors import ModelError
from blendserve.models.architecture import read_shape
from blendserve.models.families import FAMILIES
from blendserve.models.json_fields import JsonFields
from blendserve.models.rope_config import RopeConfig, read_rope
from blendserve.models.shape import ModelShape, read_config_json, token_fields

__all__ = ["Activation", "ModelConfig"]

Activation = Literal["silu", "gelu_tanh"]

# By their names in config.json.
_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(ModelShape):
    """A model of a family that `decoder` computes."""

    hidden_size: int
    intermediate_size: int
    tie_word_embeddings: bool
    activation: Activation = "silu"
    rms_norm_eps: float
    norm_offset: float = 0.0  # norms multiply by offset + weight
    post_norms: bool = False  # a norm behind attention and one behind the MLP, before their residual is added
    qk_norm: bool = False  # a norm of each head of queries and keys, before the rotation
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output
    mlp_bias: bool = False
    embedding_scale: float = 1.0
    rope: RopeConfig
    local_rope: RopeConfig | None = None  # of the layers with a window; None: the same
    final_softcap: float = 0.0  # logits become cap * tanh(logit / cap); 0: as they are

    def rope_of(self, layer: int) -> RopeConfig:
        return self.local_rope if self.local_rope is not None and self.windows[layer] else self.rope

    @classmethod
    def from_dir(cls, model_dir: Path) -> ModelConfig:
        """Raises `ModelError` for a folder without a usable config.json or a model that is not supported."""
        fields = read_config_json(model_dir)
        architecture = _architecture(fields)
        family = FAMILIES[architecture]
        shape = read_shape(fields, family.model_type)
        _check_heads(fields, shape)
        rope = read_rope(fields)
        config = cls(
            architecture=architecture,
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            num_parameters=int(shape.spec(architecture).num_params),
            max_position_embeddings=max(fields.positive_int("max_position_embeddings"), rope.extended_context),
            tie_word_embeddings=shape.tied_embeddings,
            **token_fields(fields, model_dir),
            activation=_activation(fields, family.activation),
            rms_norm_eps=fields.positive_number("rms_norm_eps"),
            post_norms=shape.norms_per_layer == 4,
            qk_norm=shape.qk_norm,
            qkv_bias=shape.qkv_bias,
            output_bias=shape.output_bias,
            mlp_bias=shape.mlp_bias,
            rope=rope,
            windows=(0,) * shape.num_layers,
            attention_scale=shape.head_dim**-0.5 * rope.score_factor,
        )
        return family.settings(fields, config)


def _architecture(fields: JsonFields) -> str:
    names = fields.require("architectures")
    if not isinstance(names, list) or not names:
        raise fields.mistyped("architectures", "a list of names")
    for name in names:
        if name in FAMILIES:
            return str(name)
    raise ModelError(f"{fields.source}: architecture {', '.join(map(str, names))} is none of {', '.join(FAMILIES)}")


def _check_heads(fields: JsonFields, shape: Architecture) -> None:
    if shape.num_heads % shape.num_kv_heads:
        raise ModelError(
            f"{fields.source}: `num_attention_heads` ({shape.num_heads}) is not a multiple of `num_key_value_heads`"
            f" ({shape.num_kv_heads})"
        )
    if shape.head_dim < 2 or shape.head_dim % 2:
        raise ModelError(f"{fields.source}: `head_dim` must be even for rotary embeddings, not {shape.head_dim}")


def _activation(fields: JsonFields, default: Activation) -> Activation:
    key = next((key for key in ("hidden_activation", "hidden_act") if key in fields), None)
    if key is None:
        return default
    name = fields.text(key)
    if name not in _ACTIVATIONS:
        raise ModelError(f"{fields.source}: `{key}` {name!r} is not supported; supported: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
