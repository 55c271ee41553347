"""What a paged cache keeps of keys and values: their numbers, or those nearest to them in an 8-bit float format."""

from __future__ import annotations

import torch

__all__ = ["as_cached", "as_indexable", "from_cached"]


def as_cached(x: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """x in the dtype of the cache; an 8-bit float is the one nearest to x / scale, ties to even, and saturates."""
    if dtype.itemsize > 1:
        return x.to(dtype)
    inverse = torch.tensor(scale, dtype=torch.float32).reciprocal().item()
    most = torch.finfo(dtype).max
    return (x.float() * inverse).clamp(-most, most).to(dtype)


def from_cached(cached: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """The numbers that cached elements stand for, in `dtype`."""
    numbers = cached.to(dtype)
    return numbers if scale == 1.0 else numbers.mul_(scale)


def as_indexable(cached: torch.Tensor) -> torch.Tensor:
    """The same memory in a dtype that torch can gather and scatter, which it cannot with 8-bit floats everywhere."""
    return cached.view(torch.uint8) if cached.dtype.itemsize == 1 else cached
