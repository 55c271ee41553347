"""Attention over a paged KV cache, one backend per module; needs torch."""

from __future__ import annotations

from collections.abc import Callable

from blendserve.attention.base import AttentionBackend, AttentionSpec, StepTensors
from blendserve.attention.native_cpu import NativeCpuAttention
from blendserve.attention.native_cuda import NativeCudaAttention
from blendserve.attention.torch_ref import TorchReferenceAttention
from blendserve.errors import UserError

__all__ = ["AttentionBackend", "AttentionSpec", "StepTensors", "create_backend"]

_BACKENDS: dict[str, Callable[[AttentionSpec], AttentionBackend]] = {
    "native_cpu": NativeCpuAttention,
    "native_cuda": NativeCudaAttention,
    "torch_ref": TorchReferenceAttention,
}


def create_backend(name: str, spec: AttentionSpec) -> AttentionBackend:
    """Makes the backend `name`, one of the table above or "auto" for the best one that runs `spec`, and its cache."""
    if name == "auto":
        name = _best_backend(spec)
    if name not in _BACKENDS:
        raise UserError(f"attention backend is {name!r}; choose one of auto, {', '.join(_BACKENDS)}")
    return _BACKENDS[name](spec)


def _best_backend(spec: AttentionSpec) -> str:
    if spec.device.type == "cpu":
        return "native_cpu"
    return "native_cuda" if NativeCudaAttention.runs(spec) else "torch_ref"
