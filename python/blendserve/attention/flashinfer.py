"""FlashInfer's prefill kernels, where libblendserve_cuda is built with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blendserve.attention.any_shape import portion_batch
from blendserve.attention.base import AttentionSpec
from blendserve.attention.cuda_library import CudaLibrary, FlashInferPrefillParams
from blendserve.attention.portion import DeviceStep, Portion
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

    def attend(self, step: DeviceStep, plan: int, kv: int, q: Tensor, out: Tensor, stream: int) -> None:
        params = self.params
        params.q, params.q_stride, params.out = q.data_ptr(), q.stride(0), out.data_ptr()
        params.kv, params.plan = kv, plan
        params.workspace, params.workspace_bytes = step.workspace, step.workspace_bytes
        self.library.flashinfer_prefill(params, stream)


class FlashInferPrefill:
    """See `PortionKernel`. Takes sequences whose query tokens follow each other, prompts and chunks alike.

    Raises:
        UserError: the library is built without FlashInfer, or without its kernels for the head size of `spec`.
    """

    def __init__(self, spec: AttentionSpec, dtype_codes: Mapping[torch.dtype, int], library: CudaLibrary) -> None:
        if not library.has_flashinfer():
            raise UserError(f"{NOT_BUILT}, or choose the attention backend native_cuda")
        if spec.head_dim not in _HEAD_DIMS:
            raise UserError(
                f"head_dim is {spec.head_dim}, but FlashInfer's prefill is built for {_HEAD_DIMS}; choose the "
                "attention backend native_cuda"
            )
        if spec.dtype not in dtype_codes:
            raise UserError(
                f"the KV cache is in {spec.dtype}, which FlashInfer's prefill is not built for; keep it in bfloat16 or "
                "float16, or choose the attention backend native_cuda"
            )
        self._spec = spec
        self._dtype_code = dtype_codes[spec.dtype]
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
            dtype=self._dtype_code,
            scale=spec.scale,
            planned=planned,
        )
        return _Planned(planned.used_bytes, params, self._library)
