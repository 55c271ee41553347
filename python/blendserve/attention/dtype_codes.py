"""torch's dtypes by their number in enum blendserve_dtype (csrc/kernels/cuda/blendserve_cuda.h)."""

from __future__ import annotations

import torch

__all__ = ["DTYPE_CODES", "KV_DTYPE_CODES"]

DTYPE_CODES = {torch.bfloat16: 0, torch.float16: 1}  # of queries
KV_DTYPE_CODES = {**DTYPE_CODES, torch.float8_e4m3fn: 2}  # of cached keys and values
