"""FlashInfer's prefill kernels, where libblendserve_cuda is built with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blendserve.attention.any_shape import portion_batch
from blendserve.attention.base import AttentionSpec
from blendserve.attention.cuda_library import CudaLibrary, FlashInferPrefillParams
from blendserve.attention.dtype_codes import DTYPE_CODES
from blendserve.attention.portion import DeviceStep, LayerCache, Portion
from blendserve.errors import UserError

__all__ = ["NOT_BUILT", "FlashInferPrefill"]

NOT_BUILT = "the CUDA library is built without FlashInfer's kernels; build it with `make cuda FLASHINFER=on`"
_HEAD_DIMS = (64, 128)
_MIN_ROWS = 65  # of a sequence on average, query tokens by query heads of a KV head: kFlashInferMinRows


@dataclass(frozen=True, slots=True)
class _Planned:
    used_bytes: int
    params: FlashInferPrefillParams
    library: CudaLibrary

    def attend(self, step: DeviceStep, plan: int, kv: LayerCache, q: Tensor, out: Tensor, stream: int) -> None:
        params = self.params
        params.q, params.q_stride, params.out = q.data_ptr(), q.stride(0), out.data_ptr()
        params.kv, params.plan = kv.address, plan
        params.workspace, params.workspace_bytes = step.workspace, step.workspace_bytes
        self.library.flashinfer_prefill(params, stream)


class FlashInferPrefill:
    """See `PortionKernel`. Takes sequences whose query tokens follow each other, prompts and chunks alike.

    Raises:
        UserError: the library is built without FlashInfer, or without its kernels for the cache or head size of `spec`.
    """

    def __init__(self, spec: AttentionSpec, library: CudaLibrary) -> None:
        if not library.has_flashinfer():
            raise UserError(f"{NOT_BUILT}, or choose the attention backend native_cuda")
        if spec.dtype not in DTYPE_CODES:
            raise UserError(
                f"dtype is {spec.dtype}, but FlashInfer's prefill is built for caches in bfloat16 and float16; choose "
                "the attention backend native_cuda"
            )
        if spec.head_dim not in _HEAD_DIMS:
            raise UserError(
                f"head_dim is {spec.head_dim}, but FlashInfer's prefill is built for {_HEAD_DIMS}; choose the "
                "attention backend native_cuda"
            )
        self._spec = spec
        self._library = library

    def takes(self, portion: Portion) -> bool:
        """Whether there is a kernel for sequences of this length on average."""
        group = self._spec.num_heads // self._spec.num_kv_heads
        return int(portion.qo_lens.sum()) * group >= _MIN_ROWS * len(portion.qo_lens) > 0

    def plan_bytes(self, portion: Portion, num_ctas: int) -> int:
        return self._library.flashinfer_plan_bytes(portion_batch(self._spec, portion, num_ctas), self._spec.block_size)

    def plan(self, portion: Portion, num_ctas: int, host: npt.NDArray[np.uint8]) -> _Planned:
        spec = self._spec
        planned = self._library.flashinfer_plan(
            portion_batch(spec, portion, num_ctas), portion.block_table, spec.block_size, host
        )
        params = FlashInferPrefillParams(
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            dtype=DTYPE_CODES[spec.dtype],
            scale=spec.scale,
            planned=planned,
        )
        return _Planned(planned.used_bytes, params, self._library)
