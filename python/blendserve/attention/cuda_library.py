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
    "CudaLibrary",
    "DecodeBatch",
    "DecodePlanSummary",
    "KvAppendParams",
    "PagedDecodeParams",
    "load_cuda_library",
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
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._functions, name)
            function.restype = result
            function.argtypes = arguments
        version = self._functions.blendserve_cuda_abi_version()
        if version != ABI_VERSION:
            raise UserError(f"{path} has ABI version {version}, this package needs {ABI_VERSION}: rebuild it")

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

    def kv_append(self, params: KvAppendParams, stream: int) -> None:
        """Queues the rotation of new queries and keys, in place, and the copy of keys and values into the cache."""
        self._check(self._functions.blendserve_kv_append(ctypes.byref(params), stream))

    def _check(self, status: int) -> None:
        if status:
            message = self._functions.blendserve_last_error().decode()
            raise UserError(message) if status == INVALID_INPUT else BlendserveError(message)


@cache
def load_cuda_library() -> CudaLibrary:
    """The library named by BLENDSERVE_CUDA_LIB, else the one beside the package."""
    named = os.environ.get(LIBRARY_VARIABLE)
    return CudaLibrary(Path(named) if named else Path(__file__).parent.parent / LIBRARY_NAME)
