"""What the layers of a model from transformers ask of attention, and whether one `AttentionSpec` can grant it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from blendserve.errors import ModelError
from blendserve.models.shape import ModelShape

__all__ = ["LayerAttention", "with_attention"]


@dataclass(frozen=True, slots=True)
class LayerAttention:
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    scale: float
    softcap: float
    has_sinks: bool
    window: int

    @classmethod
    def of(cls, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, settings: Mapping[str, Any]) -> LayerAttention:
        """Of a call with q, k and v, [T, heads, head_dim] each, and the settings that transformers passes along."""
        scale = settings.get("scaling")
        return cls(
            num_heads=q.shape[1],
            num_kv_heads=k.shape[1],
            head_dim=q.shape[2],
            value_dim=v.shape[2],
            scale=q.shape[2] ** -0.5 if scale is None else scale,
            softcap=settings.get("softcap") or 0.0,
            has_sinks=settings.get("s_aux") is not None,
            window=settings.get("sliding_window") or 0,
        )


def with_attention(shape: ModelShape, asked: Mapping[int, LayerAttention]) -> ModelShape:
    """`shape` with what its layers ask; raises `ModelError` that names what is not supported."""
    name = shape.architecture
    if asked.keys() != set(range(shape.num_layers)):
        raise ModelError(
            f"{name} calls transformers' attention interface in {len(asked)} of its {shape.num_layers} layers; only"
            " models whose layers all attend through it are supported (no state-space, hybrid or ALiBi models)"
        )
    layer = asked[0]
    if layer.has_sinks:
        raise ModelError(f"{name} has attention sinks, which are not supported")
    if layer.head_dim != layer.value_dim:
        raise ModelError(
            f"{name} has keys of {layer.head_dim} and values of {layer.value_dim} elements a head (multi-head latent"
            " attention), which are not supported"
        )
    if len({replace(each, window=0) for each in asked.values()}) > 1:
        raise ModelError(f"{name} has layers with different heads or score scales, which are not supported")
    return replace(
        shape,
        num_heads=layer.num_heads,
        num_kv_heads=layer.num_kv_heads,
        head_dim=layer.head_dim,
        attention_scale=layer.scale,
        attention_softcap=layer.softcap,
        windows=tuple(asked[index].window for index in range(shape.num_layers)),
    )
