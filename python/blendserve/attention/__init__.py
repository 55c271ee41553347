"""Attention over a paged KV cache, one backend per module; needs torch."""

from __future__ import annotations

from collections.abc import Callable

from blendserve.attention.base import AttentionBackend, AttentionSpec, StepTensors
from blendserve.attention.native_cpu import NativeCpuAttention
from blendserve.attention.torch_ref import TorchReferenceAttention
from blendserve.errors import UserError

__all__ = ["AttentionBackend", "AttentionSpec", "StepTensors", "create_backend"]

_BACKENDS: dict[str, Callable[[AttentionSpec], AttentionBackend]] = {
    "native_cpu": NativeCpuAttention,
    "torch_ref": TorchReferenceAttention,
}


def create_backend(name: str, spec: AttentionSpec) -> AttentionBackend:
    """Makes the backend `name` ("native_cpu", "torch_ref", or "auto" for the best one on spec.device) and its cache."""
    if name == "auto":
        name = "native_cpu" if spec.device.type == "cpu" else "torch_ref"
    if name not in _BACKENDS:
        raise UserError(f"attention backend is {name!r}; choose one of auto, {', '.join(_BACKENDS)}")
    return _BACKENDS[name](spec)
