"""Times the CPU attention kernel against what the machine can do; checks the answers first.

Decode is bound by memory: its figure is K/V bytes read per second, beside the measured read bandwidth. Prefill is bound
by arithmetic: its figure is 4 · head_dim floating-point operations per query head and visible position, beside torch's
matrix product of 2048 x 2048.

    python benchmarks/kernels/cpu_attention.py [--threads N] [--dtype float32|bfloat16]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import blendserve
import numpy as np
import torch
from blendserve import _core
from blendserve.attention import AttentionSpec, StepTensors, create_backend

BLOCK_SIZE = 16


@dataclass(frozen=True)
class Heads:
    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int


HEADS = (
    Heads("SmolLM2-135M", 9, 3, 64),
    Heads("Llama-3.1-8B", 32, 8, 128),
    Heads("Llama-2-7B", 32, 32, 128),
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


def best_time_s(run: Callable[[], object], budget_s: float = 0.7) -> float:
    run()
    best, end = float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def read_bandwidth() -> float:
    """Bytes per second of summing 512 MB, the largest figure of torch's reductions."""
    x = torch.ones(128 * 2**20)
    return x.nbytes / best_time_s(x.sum)


def matmul_flops() -> float:
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / best_time_s(lambda: a @ b)


def spec_of(heads: Heads, dtype: torch.dtype, num_blocks: int) -> AttentionSpec:
    return AttentionSpec(
        num_layers=1,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        head_dim=heads.head_dim,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        dtype=dtype,
        device=torch.device("cpu"),
    )


def check(heads: Heads, dtype: torch.dtype) -> None:
    """A prefill, a chunk after it and a decode step of three sequences equal the reference."""
    spec = spec_of(heads, dtype, len(step_of(3, 1, 401, 401).block_table))
    backends = [create_backend(name, spec) for name in ("native_cpu", "torch_ref")]
    for qo_len, kv_len in ((300, 300), (100, 400), (1, 401)):
        step = step_of(3, qo_len, kv_len, 401)
        q = torch.randn(3 * qo_len, heads.num_heads, heads.head_dim)
        k, v = torch.randn(2, 3 * qo_len, heads.num_kv_heads, heads.head_dim)
        for backend in backends:
            backend.plan(step)
        out, expected = (backend.forward(0, q, k, v) for backend in backends)
        worst = float((out - expected).abs().max())
        if not worst < 1e-5:
            raise SystemExit(f"wrong answer: {heads} at {kv_len} positions differs by {worst:.3g} from the reference")


class Case:
    """One call of the kernel on random K and V."""

    def __init__(self, heads: Heads, dtype: torch.dtype, num_seqs: int, qo_len: int, kv_len: int) -> None:
        self.step = step_of(num_seqs, qo_len, kv_len, kv_len)
        self.spec = spec_of(heads, dtype, len(self.step.block_table))
        num_tokens = num_seqs * qo_len
        memory = np.empty(self.spec.layer_shape, np.float32 if dtype == torch.float32 else np.uint16)
        self.kv = torch.from_numpy(memory)
        if dtype == torch.bfloat16:
            self.kv = self.kv.view(torch.bfloat16)
        self.kv.normal_()
        self.q = torch.randn(num_tokens, heads.num_heads, heads.head_dim)
        self.out = np.empty(self.q.shape, np.float32)
        visible = sum(range(kv_len - qo_len + 1, kv_len + 1)) * num_seqs
        self.flops = 4 * visible * heads.num_heads * heads.head_dim
        self.kv_bytes = num_seqs * kv_len * 2 * heads.num_kv_heads * heads.head_dim * self.kv.element_size()

    def attend(self) -> None:
        step = self.step
        _core.paged_attention(
            self.q.numpy(),
            self.kv,
            self.out,
            step.qo_indptr,
            step.kv_lens,
            step.block_indptr,
            step.block_table,
            self.spec.scale,
        )


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=_core.num_threads())
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    _core.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)

    print(f"{cpu_name()}, {args.threads} threads, isa {_core.isa()}, K/V in {args.dtype}, blocks of {BLOCK_SIZE}")
    print(f"blendserve {blendserve.__version__}, torch {torch.__version__}, python {platform.python_version()}")
    for heads in HEADS:
        check(heads, dtype)
    bandwidth, flops = read_bandwidth(), matmul_flops()
    print(f"measured: reading memory {bandwidth / 1e9:.1f} GB/s, matrix product {flops / 1e9:.0f} GFLOP/s")

    print(f"\n{'decode':14} {'seqs':>5} {'kv_len':>7} {'us':>9} {'GB/s':>7} {'of memory':>10}")
    for heads in HEADS:
        for kv_len in (512, 2048, 8192):
            token_bytes = 2 * heads.num_kv_heads * heads.head_dim * dtype.itemsize
            num_seqs = max(1, 2**28 // (kv_len * token_bytes))  # 256 MB, far more than the caches hold
            for n in sorted({1, num_seqs}):
                case = Case(heads, dtype, n, 1, kv_len)
                seconds = best_time_s(case.attend)
                rate = case.kv_bytes / seconds
                print(
                    f"{heads.name:14} {n:5} {kv_len:7} {seconds * 1e6:9.1f} {rate / 1e9:7.1f} {rate / bandwidth:10.0%}"
                )

    print(f"\n{'prefill':14} {'chunk':>5} {'kv_len':>7} {'us':>9} {'GFLOP/s':>7} {'of matmul':>10}")
    for heads in HEADS:
        for kv_len in (512, 2048):
            case = Case(heads, dtype, 1, 512, kv_len)
            seconds = best_time_s(case.attend)
            rate = case.flops / seconds
            print(f"{heads.name:14} {512:5} {kv_len:7} {seconds * 1e6:9.1f} {rate / 1e9:7.0f} {rate / flops:10.0%}")


if __name__ == "__main__":
    main()
