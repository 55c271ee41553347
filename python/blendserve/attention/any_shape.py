"""`paged_attention`, the CUDA kernel that takes any shape."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blendserve.attention.base import AttentionSpec
from blendserve.attention.cuda_library import AttentionBatch, CudaLibrary, PagedAttentionParams
from blendserve.attention.dtype_codes import DTYPE_CODES, KV_DTYPE_CODES
from blendserve.attention.portion import DeviceStep, LayerCache, Portion

__all__ = ["AnyShapeAttention", "portion_batch"]


def portion_batch(spec: AttentionSpec, portion: Portion, num_ctas: int) -> AttentionBatch:
    """Borrows the arrays of `portion`."""
    return AttentionBatch(
        first_tokens=portion.first_tokens.ctypes.data,
        qo_lens=portion.qo_lens.ctypes.data,
        kv_lens=portion.kv_lens.ctypes.data,
        first_blocks=portion.first_blocks.ctypes.data,
        num_seqs=len(portion.qo_lens),
        num_kv_heads=spec.num_kv_heads,
        group=spec.num_heads // spec.num_kv_heads,
        head_dim=spec.head_dim,
        window=portion.window,
        num_ctas=num_ctas,
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    used_bytes: int
    params: PagedAttentionParams
    library: CudaLibrary

    def attend(self, step: DeviceStep, plan: int, kv: LayerCache, q: Tensor, out: Tensor, stream: int) -> None:
        params = self.params
        params.q, params.q_stride = q.data_ptr(), q.stride(0)
        params.out, params.out_stride = out.data_ptr(), out.stride(0)
        params.dtype = DTYPE_CODES[q.dtype]
        params.kv, params.k_scale, params.v_scale = kv.address, kv.k_scale, kv.v_scale
        params.plan, params.block_table = plan, step.block_table
        params.workspace, params.workspace_bytes = step.workspace, step.workspace_bytes
        self.library.paged_attention(params, stream)


class AnyShapeAttention:
    """See `PortionKernel`."""

    def __init__(self, spec: AttentionSpec, library: CudaLibrary) -> None:
        self._spec = spec
        self._library = library
        self._params = PagedAttentionParams(
            num_blocks=spec.num_blocks,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            kv_dtype=KV_DTYPE_CODES[spec.dtype],
            scale=spec.scale,
            softcap=spec.softcap,
        )

    def plan_bytes(self, portion: Portion, num_ctas: int) -> int:
        return self._library.attention_plan_bytes(portion_batch(self._spec, portion, num_ctas))

    def plan(self, portion: Portion, num_ctas: int, host: npt.NDArray[np.uint8]) -> _Planned:
        used_bytes = self._library.attention_plan(portion_batch(self._spec, portion, num_ctas), host)
        params = PagedAttentionParams()
        ctypes.pointer(params)[0] = self._params
        params.num_ctas, params.window = num_ctas, portion.window
        return _Planned(used_bytes, params, self._library)
