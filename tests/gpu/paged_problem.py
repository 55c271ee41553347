"""Random paged decode problems, their answer in float64, and the call that is under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from blendserve.attention.cuda_library import CudaLibrary, PagedDecodeParams
from torch import Tensor

DEVICE = torch.device("cuda")
KV_COPY_AUTO, KV_COPY_ASYNC, KV_COPY_BULK = 0, 1, 2
DTYPE_CODES = {torch.bfloat16: 0, torch.float16: 1}


@dataclass(frozen=True)
class PagedProblem:
    q: Tensor  # [rows, num_heads, head_dim]
    kv: Tensor  # [num_blocks, 2, num_kv_heads, block_size, head_dim]; NaN wherever no row has a token
    kv_lens: npt.NDArray[np.int32]
    block_indptr: npt.NDArray[np.int32]
    block_table: Tensor

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
    q_scale: float = 1.0,
    seed: int = 0,
) -> PagedProblem:
    random = torch.Generator(DEVICE).manual_seed(seed)
    lens = np.asarray(kv_lens, np.int32)
    num_row_blocks = -(-lens // block_size)
    num_blocks = int(num_row_blocks.sum()) + 3
    table = torch.randperm(num_blocks, generator=random, device=DEVICE)[: num_blocks - 3].int()
    kv = torch.randn((num_blocks, 2, num_kv_heads, block_size, head_dim), generator=random, device=DEVICE).to(dtype)
    used = torch.zeros(num_blocks, dtype=torch.int64, device=DEVICE)
    in_block = [min(block_size, n - at) for n in lens.tolist() for at in range(0, n, block_size)]
    used[table.long()] = torch.tensor(in_block, device=DEVICE)
    unused = torch.arange(block_size, device=DEVICE) >= used[:, None]
    kv.masked_fill_(unused[:, None, None, :, None], float("nan"))
    q = torch.randn((len(lens), num_kv_heads * group, head_dim), generator=random, device=DEVICE) * q_scale
    indptr = np.concatenate(([0], np.cumsum(num_row_blocks))).astype(np.int32)
    return PagedProblem(q.to(dtype), kv, lens, indptr, table)


def expected_output(problem: PagedProblem) -> Tensor:
    """[rows, num_heads, head_dim] in float64, row by row, by the definition."""
    num_kv_heads, head_dim = problem.kv.shape[2], problem.kv.shape[4]
    out = torch.empty(problem.q.shape, dtype=torch.float64, device=DEVICE)
    for row, kv_len in enumerate(problem.kv_lens.tolist()):
        blocks = problem.block_table[int(problem.block_indptr[row]) : int(problem.block_indptr[row + 1])].long()
        tiles = problem.kv[blocks].permute(1, 2, 0, 3, 4).flatten(2, 3)
        k, v = tiles[:, :, :kv_len].double()
        q = problem.q[row].view(num_kv_heads, problem.group, head_dim).double()
        weights = (q @ k.mT * head_dim**-0.5).softmax(dim=-1)
        out[row] = (weights @ v).flatten(0, 1)
    return out


class DecodeCall:
    """One planned call; the plan and the workspace live on the device, and the output starts as NaN."""

    def __init__(
        self, library: CudaLibrary, problem: PagedProblem, *, num_ctas: int, kv_copy: int = KV_COPY_AUTO
    ) -> None:
        num_blocks, _, num_kv_heads, block_size, head_dim = problem.kv.shape
        self._library = library
        self._problem = problem
        self.plan = self.make_plan(library, problem, num_ctas)
        self.out = torch.full_like(problem.q, float("nan"))
        self._workspace = torch.full(
            (library.decode_workspace_bytes(problem.group, head_dim, num_ctas),), 255, dtype=torch.uint8, device=DEVICE
        )
        self.params = PagedDecodeParams(
            q=problem.q.data_ptr(),
            out=self.out.data_ptr(),
            kv=problem.kv.data_ptr(),
            block_table=problem.block_table.data_ptr(),
            plan=self.plan.data_ptr(),
            workspace=self._workspace.data_ptr(),
            workspace_bytes=self._workspace.nbytes,
            q_stride=problem.q.stride(0),
            out_stride=self.out.stride(0),
            num_blocks=num_blocks,
            num_heads=problem.q.shape[1],
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            block_size=block_size,
            num_ctas=num_ctas,
            dtype=DTYPE_CODES[problem.q.dtype],
            kv_copy=kv_copy,
            scale=head_dim**-0.5,
        )

    @staticmethod
    def make_plan(library: CudaLibrary, problem: PagedProblem, num_ctas: int) -> Tensor:
        num_kv_heads = problem.kv.shape[2]
        host = np.zeros(library.decode_plan_bytes(len(problem.kv_lens), num_kv_heads, num_ctas), np.uint8)
        library.decode_plan(problem.kv_lens, problem.block_indptr, num_kv_heads, num_ctas, host)
        return torch.from_numpy(host).to(DEVICE)

    def __call__(self) -> Tensor:
        self._library.paged_decode(self.params, torch.cuda.current_stream().cuda_stream)
        return self.out


def worst_row_error(out: Tensor, expected: Tensor) -> float:
    """The largest relative error of a (row, head) vector by its norm; NaN anywhere gives NaN."""
    return float(((out.double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
