"""Rotary position embedding in the half-rotation layout of transformers: the factors and their use."""

from __future__ import annotations

import torch

__all__ = ["Rotation", "rotate_"]

# The factors of x and of x with its halves swapped: [T, 1, head_dim] each, the swapped one with its sign.
Rotation = tuple[torch.Tensor, torch.Tensor]


def rotate_(heads: torch.Tensor, rotation: Rotation | None) -> None:
    """Rotates heads [T, num_heads, head_dim] in place, if there is a rotation."""
    if rotation is None:
        return
    cos, signed_sin = rotation
    swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
    heads.mul_(cos).addcmul_(swapped, signed_sin)
