"""Attention by the C++ CPU kernels (csrc/kernels/cpu)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from blendserve import _core
from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.rotation import Rotation, rotate_
from blendserve.errors import UserError

__all__ = ["NativeCpuAttention"]


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
        self.layers = [_empty_layer(spec) for _ in range(spec.num_layers)]
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


def _empty_layer(spec: AttentionSpec) -> Any:
    """Memory from numpy, which asks for huge pages where it is large; pages never written take no memory."""
    if spec.dtype == torch.float32:
        return np.empty(spec.layer_shape, np.float32)
    return torch.from_numpy(np.empty(spec.layer_shape, np.uint16)).view(torch.bfloat16)


def _float32(x: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A numpy array lends its memory in a third of the time a torch tensor needs."""
    return x.float().numpy()
