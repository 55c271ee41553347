"""Which rotary position embedding config.json asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from blendserve.errors import ModelError
from blendserve.models.json_fields import JsonFields

__all__ = ["RopeConfig", "RopeType", "read_rope", "rope_of"]

RopeType = Literal["default", "linear", "llama3", "yarn"]

_DEFAULT_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding. `factor` belongs to all types but default, what follows it to those in its comment."""

    theta: float = _DEFAULT_THETA
    rope_type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 1.0  # llama3
    original_max_position_embeddings: int = 0  # llama3, yarn
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn: the range of blended dimensions ends at whole ones
    attention_factor: float = 1.0  # yarn: of rotated queries and keys

    @property
    def score_factor(self) -> float:
        """What the rotation multiplies attention scores by; `ModelConfig.attention_scale` has it, the angles do not."""
        return self.attention_factor**2

    @property
    def extended_context(self) -> int:
        """The positions that yarn makes of the original ones; config.json's own number may still be the original."""
        return int(self.factor * self.original_max_position_embeddings) if self.rope_type == "yarn" else 0


def read_rope(fields: JsonFields) -> RopeConfig:
    """transformers 5 writes one `rope_parameters` object, transformers 4 `rope_theta` beside `rope_scaling`."""
    key = "rope_parameters" if "rope_parameters" in fields else "rope_scaling"
    return rope_of(
        fields.optional_child(key),
        theta=fields.positive_number("rope_theta", default=_DEFAULT_THETA),
        context=fields.positive_int("max_position_embeddings"),
    )


def rope_of(settings: JsonFields, *, theta: float, context: int) -> RopeConfig:
    """`theta` is that of a model whose settings state none, `context` its number of positions."""
    if "partial_rotary_factor" in settings and settings.positive_number("partial_rotary_factor") != 1.0:
        raise settings.mistyped("partial_rotary_factor", "1.0")
    theta = settings.positive_number("rope_theta", default=theta)
    rope_type = next((settings.values[name] for name in ("rope_type", "type") if name in settings), "default")
    match rope_type:
        case "default":
            return RopeConfig(theta=theta)
        case "linear":
            return RopeConfig(theta=theta, rope_type="linear", factor=settings.positive_number("factor"))
        case "llama3":
            return RopeConfig(
                theta=theta,
                rope_type="llama3",
                factor=settings.positive_number("factor"),
                low_freq_factor=settings.positive_number("low_freq_factor"),
                high_freq_factor=settings.positive_number("high_freq_factor"),
                original_max_position_embeddings=settings.positive_int("original_max_position_embeddings"),
            )
        case "yarn":
            return _yarn(settings, theta, context)
    raise ModelError(
        f"{settings.source}: rope_type {rope_type!r} is not supported; supported: {', '.join(get_args(RopeType))}"
    )


def _yarn(settings: JsonFields, theta: float, context: int) -> RopeConfig:
    if "mscale" in settings or "mscale_all_dim" in settings:
        raise ModelError(f"{settings.source}: yarn with `mscale` is not supported; state `attention_factor` instead")
    factor = settings.positive_number("factor")
    return RopeConfig(
        theta=theta,
        rope_type="yarn",
        factor=factor,
        original_max_position_embeddings=settings.positive_int("original_max_position_embeddings", default=context),
        beta_fast=settings.positive_number("beta_fast", default=32.0),
        beta_slow=settings.positive_number("beta_slow", default=1.0),
        truncate=settings.flag("truncate", default=True),
        attention_factor=settings.positive_number(
            "attention_factor", default=0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        ),
    )
