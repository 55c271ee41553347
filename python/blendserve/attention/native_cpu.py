"""Attention by the C++ CPU kernels (csrc/kernels/cpu)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from blendserve import _core
from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.rotation import Rotation, rotate_
from blendserve.errors import UserError

__all__ = ["NativeCpuAttention", "empty_layer"]

_HUGE_PAGE = 1 << 21  # bytes


class NativeCpuAttention:
    """A row of the output is a function of its own inputs alone, bit for bit, under any chunking and batch.

    `layers` are the caches, one a layer; `layer_step` is the planned step for those who call the kernels themselves.
    """

    name = "native_cpu"

    def __init__(self, spec: AttentionSpec) -> None:
        if spec.device.type != "cpu":
            raise UserError(f"device is {spec.device}; native_cpu attention runs on the CPU")
        if spec.dtype not in (torch.float32, torch.bfloat16):
            raise UserError(f"dtype is {spec.dtype}; native_cpu attention keeps float32 or bfloat16")
        self.spec = spec
        self.layers = [empty_layer(spec) for _ in range(spec.num_layers)]
        self._step: StepTensors | None = None

    def plan(self, step: StepTensors) -> None:
        self._step = step

    @property
    def layer_step(self) -> _core.LayerStep:
        step = self._planned()
        return _core.LayerStep(
            positions=step.positions,
            slot_mapping=step.slot_mapping,
            qo_indptr=step.qo_indptr,
            kv_lens=step.kv_lens,
            block_indptr=step.block_indptr,
            block_table=step.block_table,
        )

    def _planned(self) -> StepTensors:
        if self._step is None:
            raise RuntimeError("forward() before plan(): call plan(step) once per step")
        return self._step

    def forward(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: Rotation | None = None
    ) -> torch.Tensor:
        step = self._planned()
        kv = self.layers[layer]
        rotate_(q, rotation)
        rotate_(k, rotation)
        out = np.empty(q.shape, np.float32)
        _core.kv_append(_float32(k), _float32(v), kv, step.slot_mapping)
        _core.paged_attention(
            _float32(q),
            kv,
            out,
            step.qo_indptr,
            step.kv_lens,
            step.block_indptr,
            step.block_table,
            self.spec.scale,
            window=self.spec.window(layer),
            softcap=self.spec.softcap,
        )
        return torch.from_numpy(out).to(q.dtype)


def empty_layer(spec: AttentionSpec) -> Any:
    """The cache of one layer, where it is large on huge pages from their start on: rows of K and V that straddle cache
    lines are read more slowly. Pages never written take no memory.
    """
    element_type = np.float32 if spec.dtype == torch.float32 else np.uint16
    num_bytes = math.prod(spec.layer_shape) * np.dtype(element_type).itemsize
    memory = np.empty(num_bytes + _HUGE_PAGE, np.uint8)  # numpy asks for huge pages, but starts between two lines
    begin = -memory.ctypes.data % _HUGE_PAGE
    layer = memory[begin : begin + num_bytes].view(element_type).reshape(spec.layer_shape)
    return layer if spec.dtype == torch.float32 else torch.from_numpy(layer).view(torch.bfloat16)


def _float32(x: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A numpy array lends its memory in a third of the time a torch tensor needs."""
    return x.float().numpy()
