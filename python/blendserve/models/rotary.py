"""The angles of rotary position embeddings, for every rope variant of `RopeConfig`."""

from __future__ import annotations

import math

import torch

from blendserve.attention.rotation import Rotation
from blendserve.models.rope_config import RopeConfig

__all__ = ["inverse_frequencies", "rotation_at"]


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """[head_dim / 2] float32, radians per position."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.rope_type == "linear":
        return frequencies / rope.factor
    if rope.rope_type == "llama3":
        return _llama3_frequencies(rope, frequencies)
    if rope.rope_type == "yarn":
        return _yarn_frequencies(rope, frequencies)
    return frequencies


def _llama3_frequencies(rope: RopeConfig, frequencies: torch.Tensor) -> torch.Tensor:
    """Long waves are slowed down by the factor, short ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    context = rope.original_max_position_embeddings
    longest, shortest = context / rope.low_freq_factor, context / rope.high_freq_factor
    smooth = (context / wavelengths - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blended = (1 - smooth) * frequencies / rope.factor + smooth * frequencies
    scaled = torch.where(wavelengths > longest, frequencies / rope.factor, frequencies)
    between = (wavelengths >= shortest) & (wavelengths <= longest)
    return torch.where(between, blended, scaled)


def _yarn_frequencies(rope: RopeConfig, frequencies: torch.Tensor) -> torch.Tensor:
    """Dimensions that turn less than beta_slow times in the original context are slowed down by the factor, those that
    turn more than beta_fast times kept, those between blended by their number.
    """
    head_dim = 2 * len(frequencies)

    def dimension(turns: float) -> float:
        wavelength = rope.original_max_position_embeddings / turns
        return head_dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(rope.theta))

    first, last = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    slowed = ((torch.arange(len(frequencies)) - first) / max(last - first, 0.001)).clamp(0, 1)
    return frequencies / rope.factor * slowed + frequencies * (1 - slowed)


def rotation_at(positions: torch.Tensor, frequencies: torch.Tensor, dtype: torch.dtype) -> Rotation:
    """positions: [T] integers; frequencies: [head_dim / 2] float32. Angles are taken in float32, then cast."""
    angles = positions[:, None, None].to(torch.float32) * frequencies
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
