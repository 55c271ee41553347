"""Calls of the CPU attention kernel on random K and V, and what the machine can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from blendserve import _core
from blendserve.attention import AttentionSpec, StepTensors
from blendserve.attention.native_cpu import empty_layer

BLOCK_SIZE = 16


@dataclass(frozen=True)
class Heads:
    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def spec(self, dtype: torch.dtype, num_blocks: int) -> AttentionSpec:
        return AttentionSpec(
            num_layers=1,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=torch.device("cpu"),
        )


def step_of(num_seqs: int, qo_len: int, kv_len: int, max_len: int) -> StepTensors:
    """A step of equal sequences, each with blocks for max_len positions that lie in shuffled order."""
    blocks_each = -(-max_len // BLOCK_SIZE)
    table = np.random.default_rng(1).permutation(num_seqs * blocks_each).astype(np.int32)
    positions = np.tile(np.arange(kv_len - qo_len, kv_len, dtype=np.int32), num_seqs)
    rows = np.repeat(np.arange(num_seqs), qo_len)
    blocks = table.reshape(num_seqs, blocks_each)[rows, positions // BLOCK_SIZE].astype(np.int64)
    return StepTensors(
        qo_indptr=np.arange(num_seqs + 1, dtype=np.int32) * np.int32(qo_len),
        kv_lens=np.full(num_seqs, kv_len, np.int32),
        block_indptr=np.arange(num_seqs + 1, dtype=np.int32) * np.int32(blocks_each),
        block_table=table,
        slot_mapping=blocks * BLOCK_SIZE + positions % BLOCK_SIZE,
        positions=positions,
    )


class Case:
    """One call of the kernel."""

    def __init__(self, heads: Heads, dtype: torch.dtype, num_seqs: int, qo_len: int, kv_len: int) -> None:
        self.step = step_of(num_seqs, qo_len, kv_len, kv_len)
        self.spec = heads.spec(dtype, len(self.step.block_table))
        self.kv = torch.as_tensor(empty_layer(self.spec)).normal_()
        self.q = torch.randn(num_seqs * qo_len, heads.num_heads, heads.head_dim)
        self.out = np.empty(self.q.shape, np.float32)
        visible = sum(range(kv_len - qo_len + 1, kv_len + 1)) * num_seqs
        self.flops = 4 * visible * heads.num_heads * heads.head_dim
        self.kv_bytes = num_seqs * kv_len * 2 * heads.num_kv_heads * heads.head_dim * self.kv.element_size()

    def __call__(self) -> None:
        step = self.step
        indices = (step.qo_indptr, step.kv_lens, step.block_indptr, step.block_table)
        _core.paged_attention(self.q.numpy(), self.kv, self.out, *indices, self.spec.scale)


class MemoryRead:
    """The sum of 256 MB: of torch's reductions the fastest. From numpy, as the KV cache: on huge pages."""

    def __init__(self) -> None:
        self._x = torch.from_numpy(np.ones(2**26, np.float32))
        self.work = self._x.nbytes

    def __call__(self) -> None:
        self._x.sum()


class MatrixProduct:
    """Of 2048 x 2048 by 2048 x 2048."""

    work = 2 * 2048**3

    def __init__(self) -> None:
        self._a, self._b = torch.randn(2, 2048, 2048)

    def __call__(self) -> None:
        torch.mm(self._a, self._b)


def median_times_s(first: Callable[[], None], second: Callable[[], None], budget_s: float = 1.0) -> tuple[float, float]:
    """Of calls that take turns, so that both see the same load from outside."""
    times: list[tuple[float, float]] = []
    first(), second()
    end = time.perf_counter() + budget_s
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        first()
        between = time.perf_counter()
        second()
        times.append((between - start, time.perf_counter() - between))
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times)
