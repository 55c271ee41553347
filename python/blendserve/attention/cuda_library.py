"""libblendserve_cuda (csrc/kernels/cuda/blendserve_cuda.h) through ctypes."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blendserve.errors import BlendserveError, UserError

__all__ = [
    "AttentionBatch",
    "CudaLibrary",
    "DecodeBatch",
    "DecodePlanSummary",
    "FlashInferPlan",
    "FlashInferPrefillParams",
    "KvAppendParams",
    "PagedAttentionParams",
    "PagedDecodeParams",
    "library_path",
    "load_cuda_library",
    "why_not_loaded",
]

LIBRARY_NAME = "libblendserve_cuda.so"
LIBRARY_VARIABLE = "BLENDSERVE_CUDA_LIB"
ABI_VERSION = 3
INVALID_INPUT = 1

_Int32 = ctypes.c_int32
_Int64 = ctypes.c_int64
_Float = ctypes.c_float
_Pointer = ctypes.c_void_p


class DecodeBatch(ctypes.Structure):
    """struct blendserve_decode_batch"""

    _fields_ = (
        ("kv_lens", _Pointer),
        ("block_indptr", _Pointer),
        ("block_table", _Pointer),
        ("num_blocks", _Int64),
        ("max_partials", _Int64),
        ("num_rows", _Int32),
        ("num_kv_heads", _Int32),
        ("group", _Int32),
        ("head_dim", _Int32),
        ("block_size", _Int32),
        ("num_ctas", _Int32),
        ("kv_element_bytes", _Int32),
    )


class DecodePlanSummary(ctypes.Structure):
    """struct blendserve_decode_plan_summary"""

    _fields_ = (("used_bytes", _Int64), ("num_partials", _Int32), ("num_shared_items", _Int32))


class PagedDecodeParams(ctypes.Structure):
    """struct blendserve_paged_decode_params"""

    _fields_ = (
        ("q", _Pointer),
        ("out", _Pointer),
        ("kv", _Pointer),
        ("block_table", _Pointer),
        ("plan", _Pointer),
        ("workspace", _Pointer),
        ("workspace_bytes", _Int64),
        ("q_stride", _Int64),
        ("out_stride", _Int64),
        ("num_blocks", _Int64),
        ("max_partials", _Int64),
        ("num_heads", _Int32),
        ("num_kv_heads", _Int32),
        ("head_dim", _Int32),
        ("block_size", _Int32),
        ("num_ctas", _Int32),
        ("dtype", _Int32),
        ("kv_dtype", _Int32),
        ("kv_copy", _Int32),
        ("read_shared", _Int32),
        ("scale", _Float),
        ("k_scale", _Float),
        ("v_scale", _Float),
    )


class AttentionBatch(ctypes.Structure):
    """struct blendserve_attention_batch"""

    _fields_ = (
        ("first_tokens", _Pointer),
        ("qo_lens", _Pointer),
        ("kv_lens", _Pointer),
        ("first_blocks", _Pointer),
        ("num_seqs", _Int32),
        ("num_kv_heads", _Int32),
        ("group", _Int32),
        ("head_dim", _Int32),
        ("window", _Int32),
        ("num_ctas", _Int32),
    )


class PagedAttentionParams(ctypes.Structure):
    """struct blendserve_paged_attention_params"""

    _fields_ = (
        ("q", _Pointer),
        ("out", _Pointer),
        ("kv", _Pointer),
        ("block_table", _Pointer),
        ("plan", _Pointer),
        ("workspace", _Pointer),
        ("workspace_bytes", _Int64),
        ("q_stride", _Int64),
        ("out_stride", _Int64),
        ("num_blocks", _Int64),
        ("num_heads", _Int32),
        ("num_kv_heads", _Int32),
        ("head_dim", _Int32),
        ("block_size", _Int32),
        ("num_ctas", _Int32),
        ("dtype", _Int32),
        ("kv_dtype", _Int32),
        ("window", _Int32),
        ("scale", _Float),
        ("softcap", _Float),
        ("k_scale", _Float),
        ("v_scale", _Float),
    )


class FlashInferPlan(ctypes.Structure):
    """struct blendserve_flashinfer_plan"""

    _fields_ = (
        ("q_indptr", _Int64),
        ("page_indptr", _Int64),
        ("pages", _Int64),
        ("last_page_lens", _Int64),
        ("requests", _Int64),
        ("q_tiles", _Int64),
        ("kv_tiles", _Int64),
        ("merge_indptr", _Int64),
        ("o_indptr", _Int64),
        ("chunk_tokens", _Int64),
        ("used_bytes", _Int64),
        ("num_partial_tokens", _Int64),
        ("first_token", _Int32),
        ("num_seqs", _Int32),
        ("num_tokens", _Int32),
        ("num_tiles", _Int32),
    )


class FlashInferPrefillParams(ctypes.Structure):
    """struct blendserve_flashinfer_prefill_params"""

    _fields_ = (
        ("q", _Pointer),
        ("out", _Pointer),
        ("kv", _Pointer),
        ("plan", _Pointer),
        ("workspace", _Pointer),
        ("workspace_bytes", _Int64),
        ("q_stride", _Int64),
        ("num_heads", _Int32),
        ("num_kv_heads", _Int32),
        ("head_dim", _Int32),
        ("block_size", _Int32),
        ("dtype", _Int32),
        ("scale", _Float),
        ("planned", FlashInferPlan),
    )


class KvAppendParams(ctypes.Structure):
    """struct blendserve_kv_append_params"""

    _fields_ = (
        ("q", _Pointer),
        ("k", _Pointer),
        ("v", _Pointer),
        ("kv", _Pointer),
        ("slot_mapping", _Pointer),
        ("cos", _Pointer),
        ("signed_sin", _Pointer),
        ("q_stride", _Int64),
        ("k_stride", _Int64),
        ("v_stride", _Int64),
        ("num_tokens", _Int32),
        ("num_heads", _Int32),
        ("num_kv_heads", _Int32),
        ("head_dim", _Int32),
        ("block_size", _Int32),
        ("dtype", _Int32),
        ("kv_dtype", _Int32),
        ("k_scale", _Float),
        ("v_scale", _Float),
    )


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "blendserve_cuda_abi_version": (_Int32, ()),
    "blendserve_last_error": (ctypes.c_char_p, ()),
    "blendserve_decode_plan_bytes": (_Int64, (_Int32, _Int32, _Int32, _Int64)),
    "blendserve_decode_plan": (
        _Int32,
        (ctypes.POINTER(DecodeBatch), _Pointer, _Int64, ctypes.POINTER(DecodePlanSummary)),
    ),
    "blendserve_decode_partial_bytes": (_Int64, (_Int32, _Int32)),
    "blendserve_paged_decode": (_Int32, (ctypes.POINTER(PagedDecodeParams), _Int64)),
    "blendserve_attention_plan_bytes": (_Int64, (ctypes.POINTER(AttentionBatch),)),
    "blendserve_attention_plan": (
        _Int32,
        (ctypes.POINTER(AttentionBatch), _Pointer, _Int64, ctypes.POINTER(_Int64)),
    ),
    "blendserve_attention_workspace_bytes": (_Int64, (_Int32, _Int32)),
    "blendserve_paged_attention": (_Int32, (ctypes.POINTER(PagedAttentionParams), _Int64)),
    "blendserve_has_flashinfer": (_Int32, ()),
    "blendserve_flashinfer_plan_bytes": (_Int64, (ctypes.POINTER(AttentionBatch), _Int32)),
    "blendserve_flashinfer_plan_prefill": (
        _Int32,
        (
            ctypes.POINTER(AttentionBatch),
            _Pointer,
            _Int64,
            _Int32,
            _Pointer,
            _Int64,
            ctypes.POINTER(FlashInferPlan),
        ),
    ),
    "blendserve_flashinfer_prefill": (_Int32, (ctypes.POINTER(FlashInferPrefillParams), _Int64)),
    "blendserve_kv_append": (_Int32, (ctypes.POINTER(KvAppendParams), _Int64)),
}


class CudaLibrary:
    """The functions of one loaded library. A refused value raises `UserError`, a CUDA failure `BlendserveError`."""

    def __init__(self, path: Path) -> None:
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as error:
            raise UserError(
                f"cannot load the CUDA library {path}: {error}. Build it with `make cuda` and name it in "
                f"{LIBRARY_VARIABLE}, or choose another attention backend"
            ) from error
        version = self._version()
        if version != ABI_VERSION:
            raise UserError(
                f"{path} has ABI version {version}, this package needs {ABI_VERSION}: rebuild it with `make cuda`"
            )
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._functions, name)
            function.restype = result
            function.argtypes = arguments

    def _version(self) -> int | None:
        """None if the library is another one."""
        function = getattr(self._functions, "blendserve_cuda_abi_version", None)
        return None if function is None else int(function())

    def decode_plan_bytes(self, max_rows: int, num_kv_heads: int, num_ctas: int, max_partials: int) -> int:
        """Bytes that hold the plan of any batch of up to `max_rows` rows."""
        return int(self._functions.blendserve_decode_plan_bytes(max_rows, num_kv_heads, num_ctas, max_partials))

    def decode_partial_bytes(self, group: int, head_dim: int) -> int:
        """Bytes of one of the `max_partials` slots in the device memory that `paged_decode` needs."""
        return int(self._functions.blendserve_decode_partial_bytes(group, head_dim))

    def decode_plan(
        self,
        batch: DecodeBatch,
        kv_lens: npt.NDArray[np.int32],
        block_indptr: npt.NDArray[np.int32],
        block_table: npt.NDArray[np.int32] | None,
        plan: npt.NDArray[np.uint8],
    ) -> DecodePlanSummary:
        """Plans the rows of one step (contiguous arrays) into `plan`; `batch` says the rest.

        With a block table, blocks that rows share are read once where that pays.
        """
        batch.kv_lens, batch.num_rows = kv_lens.ctypes.data, len(kv_lens)
        batch.block_indptr = block_indptr.ctypes.data
        batch.block_table, batch.num_blocks = (
            (None, 0) if block_table is None else (block_table.ctypes.data, len(block_table))
        )
        summary = DecodePlanSummary()
        self._check(
            self._functions.blendserve_decode_plan(
                ctypes.byref(batch), plan.ctypes.data, plan.nbytes, ctypes.byref(summary)
            )
        )
        return summary

    def paged_decode(self, params: PagedDecodeParams, stream: int) -> None:
        """Queues attention of one query token per row."""
        self._check(self._functions.blendserve_paged_decode(ctypes.byref(params), stream))

    def attention_plan_bytes(self, batch: AttentionBatch) -> int:
        """Bytes that hold the plan of `batch`."""
        return int(self._functions.blendserve_attention_plan_bytes(ctypes.byref(batch)))

    def attention_plan(self, batch: AttentionBatch, plan: npt.NDArray[np.uint8]) -> int:
        """Plans the sequences of `batch` into `plan`; returns how many bytes of it are to reach the device."""
        used_bytes = _Int64()
        self._check(
            self._functions.blendserve_attention_plan(
                ctypes.byref(batch), plan.ctypes.data, plan.nbytes, ctypes.byref(used_bytes)
            )
        )
        return used_bytes.value

    def attention_workspace_bytes(self, num_ctas: int, head_dim: int) -> int:
        """Bytes of device memory that `paged_attention` needs."""
        return int(self._functions.blendserve_attention_workspace_bytes(num_ctas, head_dim))

    def paged_attention(self, params: PagedAttentionParams, stream: int) -> None:
        """Queues causal attention of any number of query tokens per sequence."""
        self._check(self._functions.blendserve_paged_attention(ctypes.byref(params), stream))

    def has_flashinfer(self) -> bool:
        """Whether FlashInfer's prefill is built in."""
        return bool(self._functions.blendserve_has_flashinfer())

    def flashinfer_plan_bytes(self, batch: AttentionBatch, block_size: int) -> int:
        """Bytes that hold FlashInfer's plan of `batch`."""
        return int(self._functions.blendserve_flashinfer_plan_bytes(ctypes.byref(batch), block_size))

    def flashinfer_plan(
        self,
        batch: AttentionBatch,
        block_table: npt.NDArray[np.int32],
        block_size: int,
        plan: npt.NDArray[np.uint8],
    ) -> FlashInferPlan:
        """Plans sequences whose query tokens follow each other into `plan`, with the step's block table."""
        planned = FlashInferPlan()
        self._check(
            self._functions.blendserve_flashinfer_plan_prefill(
                ctypes.byref(batch),
                block_table.ctypes.data,
                len(block_table),
                block_size,
                plan.ctypes.data,
                plan.nbytes,
                ctypes.byref(planned),
            )
        )
        return planned

    def flashinfer_prefill(self, params: FlashInferPrefillParams, stream: int) -> None:
        """Queues causal attention of the planned sequences."""
        self._check(self._functions.blendserve_flashinfer_prefill(ctypes.byref(params), stream))

    def kv_append(self, params: KvAppendParams, stream: int) -> None:
        """Queues the rotation of new queries and keys, in place, and the copy of keys and values into the cache."""
        self._check(self._functions.blendserve_kv_append(ctypes.byref(params), stream))

    def _check(self, status: int) -> None:
        if status:
            message = self._functions.blendserve_last_error().decode()
            raise UserError(message) if status == INVALID_INPUT else BlendserveError(message)


def library_path() -> Path:
    """What BLENDSERVE_CUDA_LIB names, else the library beside the package."""
    named = os.environ.get(LIBRARY_VARIABLE)
    return Path(named) if named else Path(__file__).parent.parent / LIBRARY_NAME


@cache
def load_cuda_library() -> CudaLibrary:
    """The library at `library_path()`."""
    return CudaLibrary(library_path())


def why_not_loaded() -> str | None:
    """Why the library cannot be used, in words; None when it can."""
    try:
        load_cuda_library()
    except UserError as error:
        return str(error)
    return None
