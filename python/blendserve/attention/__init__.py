"""Attention over a paged KV cache, one backend per module; needs torch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from blendserve.attention.base import AttentionBackend, AttentionSpec, StepTensors
from blendserve.attention.cuda_library import load_cuda_library, why_not_loaded
from blendserve.attention.flashinfer import NOT_BUILT
from blendserve.attention.native_cpu import NativeCpuAttention
from blendserve.attention.torch_ref import TorchReferenceAttention
from blendserve.errors import UserError

__all__ = ["AttentionBackend", "AttentionSpec", "StepTensors", "create_backend", "why_unavailable"]


def _native_cuda(spec: AttentionSpec) -> AttentionBackend:
    from blendserve.attention.native_cuda import NativeCudaAttention  # takes a second to import

    return NativeCudaAttention(spec)


def _flashinfer(spec: AttentionSpec) -> AttentionBackend:
    from blendserve.attention.native_cuda import NativeCudaAttention

    return NativeCudaAttention(spec, with_flashinfer=True)


_BACKENDS: dict[str, Callable[[AttentionSpec], AttentionBackend]] = {
    "flashinfer": _flashinfer,
    "native_cpu": NativeCpuAttention,
    "native_cuda": _native_cuda,
    "torch_ref": TorchReferenceAttention,
}


def create_backend(name: str, spec: AttentionSpec) -> AttentionBackend:
    """Makes the backend `name` and its cache; "auto" is this project's own kernels for spec.device.

    Raises:
        UserError: there is no such backend, or it can't run `spec`.
    """
    if name == "auto":
        name = f"native_{spec.device.type}"
    if name not in _BACKENDS:
        raise UserError(f"attention backend is {name!r}; choose one of auto, {', '.join(_BACKENDS)}")
    return _BACKENDS[name](spec)


def why_unavailable(name: str) -> str | None:
    """Why the backend `name` can run no model here, in words; None when it can."""
    if name not in ("native_cuda", "flashinfer"):
        return None
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU that it can use"
    reason = why_not_loaded()
    if reason is None and name == "flashinfer" and not load_cuda_library().has_flashinfer():
        return NOT_BUILT
    return reason
