"""A batch of equal decode requests on the device, and its attention as one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from blendserve.attention.cuda_library import CudaLibrary, DecodeBatch, DecodePlanSummary, PagedDecodeParams
from blendserve.attention.kv_elements import as_indexable, from_cached

SHARING_WORKSPACE_BYTES = 64 << 20
KV_DTYPES = {"bfloat16": torch.bfloat16, "fp8_e4m3": torch.float8_e4m3fn}
_DTYPE_CODES = {torch.bfloat16: 0, torch.float8_e4m3fn: 2}


@dataclass(frozen=True, kw_only=True)
class DecodeShape:
    """`batch` requests with `context` cached tokens each, the first `shared` of them the same; queries are bfloat16."""

    batch: int = 256
    context: int = 2048
    shared: int = 0
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    block_size: int = 16
    kv_dtype: str = "bfloat16"

    @property
    def kv_bytes(self) -> int:
        """The floor in bytes: every cached key and value once."""
        num_tokens = self.shared + self.batch * (self.context - self.shared)
        return num_tokens * self.num_kv_heads * self.head_dim * 2 * KV_DTYPES[self.kv_dtype].itemsize

    @property
    def flops(self) -> int:
        """The floor in operations: q.k and the weighted sum of v."""
        return 4 * self.batch * self.context * self.num_heads * self.head_dim


class DecodeWorkload:
    """Random queries and a random paged cache; `call(num_ctas)` makes a planned, repeatable call."""

    def __init__(self, library: CudaLibrary, shape: DecodeShape) -> None:
        self.shape = shape
        self._library = library
        blocks_per_row = -(-shape.context // shape.block_size)
        num_blocks = shape.batch * blocks_per_row
        layer_shape = (num_blocks, 2, shape.num_kv_heads, shape.block_size, shape.head_dim)
        self.kv = torch.randn(layer_shape, dtype=torch.bfloat16, device="cuda").to(KV_DTYPES[shape.kv_dtype])
        self.q = torch.randn(shape.batch, shape.num_heads, shape.head_dim, dtype=torch.bfloat16, device="cuda")
        self.out = torch.full_like(self.q, float("nan"))
        table = torch.randperm(num_blocks, device="cuda").int().view(shape.batch, blocks_per_row)
        num_shared = shape.shared // shape.block_size
        table[:, :num_shared] = table[0, :num_shared].clone()
        self.block_table = table.flatten()
        self._host_block_table = self.block_table.cpu().numpy()
        self._kv_lens = np.full(shape.batch, shape.context, np.int32)
        self._block_indptr = np.arange(shape.batch + 1, dtype=np.int32) * blocks_per_row

    def call(self, num_ctas: int, kv_copy: int = 0, *, share: bool = False) -> DecodeCall:
        return DecodeCall(self._library, self, num_ctas, kv_copy, share)

    def plan(self, batch: DecodeBatch, *, share: bool) -> tuple[torch.Tensor, DecodePlanSummary]:
        plan_bytes = self._library.decode_plan_bytes(
            self.shape.batch, batch.num_kv_heads, batch.num_ctas, batch.max_partials
        )
        host = np.zeros(plan_bytes, np.uint8)
        table = self._host_block_table if share else None
        summary = self._library.decode_plan(batch, self._kv_lens, self._block_indptr, table, host)
        return torch.from_numpy(host[: summary.used_bytes]).cuda(), summary

    def error(self, num_rows: int = 8) -> float:
        """Relative error of the first rows of the last call's output against float64; NaN if one is missing."""
        shape = self.shape
        group = shape.num_heads // shape.num_kv_heads
        worst = 0.0
        for row in range(min(num_rows, shape.batch)):
            blocks = self.block_table[int(self._block_indptr[row]) : int(self._block_indptr[row + 1])].long()
            tiles = as_indexable(self.kv)[blocks].view(self.kv.dtype)
            k, v = from_cached(tiles.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, : shape.context], torch.float64, 1.0)
            q = self.q[row].view(shape.num_kv_heads, group, shape.head_dim).double()
            expected = ((q @ k.mT * shape.head_dim**-0.5).softmax(-1) @ v).flatten(0, 1)
            error = float((self.out[row].double() - expected).norm() / expected.norm())
            worst = error if not error <= worst else worst
        return worst


class DecodeCall:
    """Queues the attention of a workload on the current stream, within `num_ctas` multiprocessors; with `share`, what
    requests share is read once where the plan finds that it pays.
    """

    def __init__(
        self, library: CudaLibrary, workload: DecodeWorkload, num_ctas: int, kv_copy: int, share: bool
    ) -> None:
        shape = workload.shape
        self._library = library
        group = shape.num_heads // shape.num_kv_heads
        partial_bytes = library.decode_partial_bytes(group, shape.head_dim)
        max_partials = max(2 * num_ctas, SHARING_WORKSPACE_BYTES // partial_bytes if share else 0)
        batch = DecodeBatch(
            num_kv_heads=shape.num_kv_heads,
            group=group,
            head_dim=shape.head_dim,
            block_size=shape.block_size,
            num_ctas=num_ctas,
            max_partials=max_partials,
            kv_element_bytes=workload.kv.dtype.itemsize,
        )
        self._plan, summary = workload.plan(batch, share=share)
        workspace_bytes = max_partials * partial_bytes
        self._workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device="cuda")
        self._params = PagedDecodeParams(
            q=workload.q.data_ptr(),
            out=workload.out.data_ptr(),
            kv=workload.kv.data_ptr(),
            block_table=workload.block_table.data_ptr(),
            plan=self._plan.data_ptr(),
            workspace=self._workspace.data_ptr(),
            workspace_bytes=workspace_bytes,
            q_stride=workload.q.stride(0),
            out_stride=workload.out.stride(0),
            num_blocks=len(workload.kv),
            max_partials=max_partials,
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            block_size=shape.block_size,
            num_ctas=num_ctas,
            dtype=_DTYPE_CODES[workload.q.dtype],
            kv_dtype=_DTYPE_CODES[workload.kv.dtype],
            kv_copy=kv_copy,
            read_shared=int(summary.num_shared_items > 0),
            scale=shape.head_dim**-0.5,
            k_scale=1.0,
            v_scale=1.0,
        )

    def __call__(self) -> None:
        self._library.paged_decode(self._params, torch.cuda.current_stream().cuda_stream)
