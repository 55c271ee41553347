"""Weights must be numbers: one NaN makes every answer nonsense."""

from __future__ import annotations

from pathlib import Path

import torch

from blendserve.errors import ModelError

__all__ = ["require_finite"]


def require_finite(tensor: torch.Tensor, as_stored: torch.Tensor, name: str, source: Path) -> None:
    """`tensor` is what is left of `as_stored`, tensor `name` of `source`, in the dtype of the engine.

    Raises `ModelError` if it has NaN or infinite values. A sum is read many times as fast as every value is tested.
    """
    if torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all():
        return
    if torch.isfinite(as_stored).all():
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(f"{source}: tensor {name!r} has values that {dtype} can't hold; choose --dtype bfloat16")
    num_broken = int((~torch.isfinite(as_stored)).sum())
    raise ModelError(
        f"{source}: tensor {name!r} has NaN or infinite values, {num_broken} of {as_stored.numel()}: the file is"
        " broken; fetch or convert it again"
    )
