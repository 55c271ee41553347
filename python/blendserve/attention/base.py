"""What a step gives to attention, and what every attention backend does with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from blendserve.errors import UserError

if TYPE_CHECKING:
    import torch

    from blendserve.attention.rotation import Rotation

__all__ = ["AttentionBackend", "AttentionSpec", "StepTensors"]

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepTensors:
    """The arrays of one step that attention needs: S sequences with T query tokens in all.

    They are those of `StepPlan` (csrc/sched/step_plan.h): sequence s has the query tokens [qo_indptr[s],
    qo_indptr[s + 1]), the last of its kv_lens[s] positions, and the blocks block_table[block_indptr[s]:
    block_indptr[s + 1]] in order of position. The K and V of token t go to slot_mapping[t] = block * block_size +
    offset; positions[t] is its absolute position.
    """

    qo_indptr: Int32Array  # [S + 1]
    kv_lens: Int32Array  # [S]
    block_indptr: Int32Array  # [S + 1]
    block_table: Int32Array  # [block_indptr[S]]
    slot_mapping: Int64Array  # [T]
    positions: Int32Array  # [T]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """The attention of a model and the paged KV cache it reads.

    `dtype` is that of the cache. Elements of an 8-bit float times a scale are the keys or values: `kv_scales`.
    """

    num_layers: int
    num_heads: int  # of the queries; a multiple of num_kv_heads
    num_kv_heads: int
    head_dim: int
    num_blocks: int
    block_size: int
    dtype: torch.dtype
    device: torch.device
    scale: float = 0.0  # of the scores before softmax; 0 becomes head_dim ** -0.5
    windows: tuple[int, ...] = ()  # one per layer: how many positions a token sees, itself included; 0 or none: all
    softcap: float = 0.0  # a scaled score becomes cap * tanh(score / cap); 0: stays as it is
    kv_scales: tuple[tuple[float, float], ...] = ()  # (of K, of V), one pair per layer; none: all 1

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "num_kv_heads", "head_dim", "num_blocks", "block_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.num_heads % self.num_kv_heads != 0:
            raise UserError(
                f"num_heads is {self.num_heads}; it must be a multiple of num_kv_heads ({self.num_kv_heads})"
            )
        if len(self.windows) not in (0, self.num_layers):
            raise UserError(
                f"windows has {len(self.windows)} entries; it must have one for each of {self.num_layers} layers"
            )
        self._check_kv_scales()
        if not self.scale:
            object.__setattr__(self, "scale", self.head_dim**-0.5)

    def _check_kv_scales(self) -> None:
        if len(self.kv_scales) not in (0, self.num_layers):
            raise UserError(
                f"kv_scales has {len(self.kv_scales)} pairs; it must have one for each of {self.num_layers} layers"
            )
        for pair in self.kv_scales:
            if not all(0 < scale < math.inf for scale in pair) or (self.dtype.itemsize > 1 and pair != (1.0, 1.0)):
                raise UserError(
                    f"kv_scales has {pair} for a cache in {self.dtype}; scales must be positive, and 1 unless the "
                    "cache keeps 8-bit floats"
                )

    def kv_scale(self, layer: int) -> tuple[float, float]:
        """What the cached elements of K and V are multiplied by in `layer`."""
        return self.kv_scales[layer] if self.kv_scales else (1.0, 1.0)

    def window(self, layer: int) -> int:
        """How many positions a token sees in `layer`, itself included; 0: all."""
        return self.windows[layer] if self.windows else 0

    @property
    def layer_shape(self) -> tuple[int, int, int, int, int]:
        """Of the cache of one layer, in the layout of csrc/base/kv_layout.h: K, then V."""
        return (self.num_blocks, 2, self.num_kv_heads, self.block_size, self.head_dim)


class AttentionBackend(Protocol):
    """Owns the paged KV cache of all layers."""

    name: str
    spec: AttentionSpec

    def plan(self, step: StepTensors) -> None:
        """Called once per step, before `forward` of its layers."""

    def forward(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: Rotation | None = None
    ) -> torch.Tensor:
        """Rotates q and k, if so told, appends the step's K and V to the cache of `layer`, then attends, causally.

        q: [T, num_heads, head_dim]; k, v: [T, num_kv_heads, head_dim]; a rotation may change q and k in place. Returns
        [T, num_heads, head_dim] of the dtype of q, new memory.
        """
        ...
