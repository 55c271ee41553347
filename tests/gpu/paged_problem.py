"""Random paged decode problems, their answer in float64, and the call that is under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from blendserve.attention.cuda_library import CudaLibrary, DecodeBatch, DecodePlanSummary, PagedDecodeParams
from blendserve.attention.kv_elements import as_indexable, from_cached
from torch import Tensor

DEVICE = torch.device("cuda")
KV_COPY_AUTO, KV_COPY_ASYNC, KV_COPY_BULK = 0, 1, 2
DTYPE_CODES = {torch.bfloat16: 0, torch.float16: 1, torch.float8_e4m3fn: 2}
E4M3_SCALES = (2.5, 0.3)


@dataclass(frozen=True)
class PagedProblem:
    q: Tensor  # [rows, num_heads, head_dim]
    kv: Tensor  # [num_blocks, 2, num_kv_heads, block_size, head_dim]; NaN wherever no row has a token
    kv_lens: npt.NDArray[np.int32]
    block_indptr: npt.NDArray[np.int32]
    block_table: Tensor

    @property
    def kv_scales(self) -> tuple[float, float]:
        """What the elements of K and of V are multiplied by."""
        return E4M3_SCALES if self.kv.dtype == torch.float8_e4m3fn else (1.0, 1.0)

    @property
    def host_block_table(self) -> npt.NDArray[np.int32]:
        table: npt.NDArray[np.int32] = self.block_table.cpu().numpy()
        return table

    @property
    def group(self) -> int:
        return self.q.shape[1] // self.kv.shape[2]


def make_problem(
    kv_lens: Sequence[int],
    *,
    group: int,
    num_kv_heads: int = 2,
    head_dim: int = 128,
    block_size: int = 16,
    dtype: torch.dtype = torch.bfloat16,
    kv_dtype: torch.dtype | None = None,
    q_scale: float = 1.0,
    seed: int = 0,
) -> PagedProblem:
    """The cache is in `kv_dtype`, or in the dtype of the queries."""
    random = torch.Generator(DEVICE).manual_seed(seed)
    lens = np.asarray(kv_lens, np.int32)
    num_row_blocks = -(-lens // block_size)
    num_blocks = int(num_row_blocks.sum()) + 3
    table = torch.randperm(num_blocks, generator=random, device=DEVICE)[: num_blocks - 3].int()
    kv = torch.randn((num_blocks, 2, num_kv_heads, block_size, head_dim), generator=random, device=DEVICE)
    used = torch.zeros(num_blocks, dtype=torch.int64, device=DEVICE)
    in_block = [min(block_size, n - at) for n in lens.tolist() for at in range(0, n, block_size)]
    used[table.long()] = torch.tensor(in_block, device=DEVICE)
    unused = torch.arange(block_size, device=DEVICE) >= used[:, None]
    kv.masked_fill_(unused[:, None, None, :, None], float("nan"))
    q = torch.randn((len(lens), num_kv_heads * group, head_dim), generator=random, device=DEVICE) * q_scale
    indptr = np.concatenate(([0], np.cumsum(num_row_blocks))).astype(np.int32)
    return PagedProblem(q.to(dtype), kv.to(kv_dtype or dtype), lens, indptr, table)


def share_prefixes(problem: PagedProblem, prefixes: Sequence[tuple[int, int, int]]) -> PagedProblem:
    """For each (first, last, num_tokens) rows [first, last) get the first positions of row `first`: whole pages."""
    block_size = problem.kv.shape[3]
    table = problem.block_table.clone()
    for first, last, num_tokens in prefixes:
        num_blocks = num_tokens // block_size
        source = int(problem.block_indptr[first])
        for row in range(first + 1, last):
            assert problem.kv_lens[row] > num_tokens
            begin = int(problem.block_indptr[row])
            table[begin : begin + num_blocks] = table[source : source + num_blocks]
    return replace(problem, block_table=table)


def expected_output(problem: PagedProblem) -> Tensor:
    """[rows, num_heads, head_dim] in float64, row by row, by the definition."""
    num_kv_heads, head_dim = problem.kv.shape[2], problem.kv.shape[4]
    out = torch.empty(problem.q.shape, dtype=torch.float64, device=DEVICE)
    for row, kv_len in enumerate(problem.kv_lens.tolist()):
        blocks = problem.block_table[int(problem.block_indptr[row]) : int(problem.block_indptr[row + 1])].long()
        tiles = as_indexable(problem.kv)[blocks].view(problem.kv.dtype).permute(1, 2, 0, 3, 4).flatten(2, 3)
        k, v = (
            from_cached(x, torch.float64, scale)
            for x, scale in zip(tiles[:, :, :kv_len], problem.kv_scales, strict=True)
        )
        q = problem.q[row].view(num_kv_heads, problem.group, head_dim).double()
        weights = (q @ k.mT * head_dim**-0.5).softmax(dim=-1)
        out[row] = (weights @ v).flatten(0, 1)
    return out


class DecodeCall:
    """One planned call; the plan and the workspace live on the device, and the output starts as NaN."""

    def __init__(
        self,
        library: CudaLibrary,
        problem: PagedProblem,
        *,
        num_ctas: int,
        kv_copy: int = KV_COPY_AUTO,
        max_partials: int | None = None,
    ) -> None:
        num_blocks, _, num_kv_heads, block_size, head_dim = problem.kv.shape
        self._library = library
        self._problem = problem
        max_partials = max_partials or 2 * num_ctas
        self.plan, self.summary = make_plan(library, problem, num_ctas, max_partials)
        self.out = torch.full_like(problem.q, float("nan"))
        workspace_bytes = max_partials * library.decode_partial_bytes(problem.group, head_dim)
        self._workspace = torch.full((workspace_bytes,), 255, dtype=torch.uint8, device=DEVICE)
        self.params = PagedDecodeParams(
            q=problem.q.data_ptr(),
            out=self.out.data_ptr(),
            kv=problem.kv.data_ptr(),
            block_table=problem.block_table.data_ptr(),
            plan=self.plan.data_ptr(),
            workspace=self._workspace.data_ptr(),
            workspace_bytes=workspace_bytes,
            q_stride=problem.q.stride(0),
            out_stride=self.out.stride(0),
            num_blocks=num_blocks,
            max_partials=max_partials,
            num_heads=problem.q.shape[1],
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            block_size=block_size,
            num_ctas=num_ctas,
            dtype=DTYPE_CODES[problem.q.dtype],
            kv_dtype=DTYPE_CODES[problem.kv.dtype],
            kv_copy=kv_copy,
            read_shared=int(self.summary.num_shared_items > 0),
            scale=head_dim**-0.5,
            k_scale=problem.kv_scales[0],
            v_scale=problem.kv_scales[1],
        )

    def __call__(self) -> Tensor:
        self._library.paged_decode(self.params, torch.cuda.current_stream().cuda_stream)
        return self.out


def make_plan(
    library: CudaLibrary, problem: PagedProblem, num_ctas: int, max_partials: int
) -> tuple[Tensor, DecodePlanSummary]:
    """On the device, in a buffer that holds the plan of any batch of as many rows."""
    _, _, num_kv_heads, block_size, head_dim = problem.kv.shape
    batch = DecodeBatch(
        num_kv_heads=num_kv_heads,
        group=problem.group,
        head_dim=head_dim,
        block_size=block_size,
        num_ctas=num_ctas,
        max_partials=max_partials,
        kv_element_bytes=problem.kv.dtype.itemsize,
    )
    host = np.zeros(library.decode_plan_bytes(len(problem.kv_lens), num_kv_heads, num_ctas, max_partials), np.uint8)
    summary = library.decode_plan(batch, problem.kv_lens, problem.block_indptr, problem.host_block_table, host)
    return torch.from_numpy(host).to(DEVICE), summary


def worst_row_error(out: Tensor, expected: Tensor) -> float:
    """The largest relative error of a (row, head) vector by its norm; NaN anywhere gives NaN."""
    return float(((out.double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
