"""Times the CPU attention kernel against what the machine can do; checks the answers first.

Decode is bound by memory: its figure is K/V bytes read per second, beside the read bandwidth of as many threads.
Prefill is bound by arithmetic: its figure is 4 · head_dim floating-point operations per query head and visible
position, beside torch's matrix product. Each is timed in turns with its ceiling; medians.

    python benchmarks/kernels/cpu_attention.py [--threads 1,2] [--dtype float32,bfloat16] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blendserve
from blendserve import _core
from blendserve.openmp import let_idle_threads_sleep

let_idle_threads_sleep()  # as the engine does, or torch's threads would spin on the cores of the other side
import torch  # noqa: E402
from blendserve.attention import create_backend  # noqa: E402
from cpu_workload import BLOCK_SIZE, Case, Heads, MatrixProduct, MemoryRead, median_times_s, step_of  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))
from machine import cpu_name  # noqa: E402

HEADS = (
    Heads("SmolLM2-135M", 9, 3, 64),
    Heads("Llama-3.1-8B", 32, 8, 128),
    Heads("Llama-2-7B", 32, 32, 128),
    Heads("Gemma-2-9B", 16, 8, 256),
)
DECODE_CONTEXTS = (512, 2048, 8192)
DECODE_BYTES = 2**28  # far more than the caches hold
CHUNK_LEN = 512
PREFILL_CONTEXTS = (512, 2048)


def check(heads: Heads, dtype: torch.dtype) -> None:
    """A prefill, a chunk after it and a decode step of three sequences equal the reference."""
    spec = heads.spec(dtype, len(step_of(3, 1, 401, 401).block_table))
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


def decode(heads: Heads, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    for kv_len in DECODE_CONTEXTS:
        seq_bytes = kv_len * 2 * heads.num_kv_heads * heads.head_dim * dtype.itemsize
        case = Case(heads, dtype, max(1, DECODE_BYTES // seq_bytes), 1, kv_len)
        yield {"kind": "decode", "kv_len": kv_len} | rates(case, case.kv_bytes, MemoryRead())


def prefill(heads: Heads, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    for kv_len in PREFILL_CONTEXTS:
        case = Case(heads, dtype, 1, CHUNK_LEN, kv_len)
        yield {"kind": "prefill", "kv_len": kv_len} | rates(case, case.flops, MatrixProduct())


def rates(case: Case, work: int, ceiling: MemoryRead | MatrixProduct) -> dict[str, float]:
    """In 1e9 bytes or operations a second."""
    seconds, ceiling_s = median_times_s(case, ceiling)
    rate, ceiling_rate = work / seconds / 1e9, ceiling.work / ceiling_s / 1e9
    return {"us": seconds * 1e6, "rate": rate, "ceiling": ceiling_rate, "share": rate / ceiling_rate}


def measure(threads: list[int], dtypes: list[torch.dtype]) -> Iterator[dict[str, Any]]:
    for num_threads in threads:
        _core.set_num_threads(num_threads)
        torch.set_num_threads(num_threads)
        for heads in HEADS:
            for dtype in dtypes:
                case = {"threads": num_threads, "heads": heads.name, "kv_dtype": str(dtype).removeprefix("torch.")}
                for row in (*decode(heads, dtype), *prefill(heads, dtype)):
                    yield case | row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default=",".join(str(n) for n in sorted({1, _core.num_threads()})))
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--out", type=Path, help="write the rows as JSON, too")
    args = parser.parse_args()
    dtypes = [getattr(torch, name) for name in args.dtype.split(",")]
    for heads in HEADS:
        for dtype in dtypes:
            check(heads, dtype)

    machine = {
        "cpu": cpu_name(),
        "isa": _core.isa(),
        "block_size": BLOCK_SIZE,
        "blendserve": blendserve.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print("rates of decode and memory in GB/s, of prefill chunks and the matrix product in GFLOP/s\n")
    print(
        f"{'':8} {'threads':>7} {'heads':14} {'K/V':9} {'kv_len':>6} {'us':>10} {'rate':>6} {'ceiling':>7} {'share':>6}"
    )
    rows = []
    for row in measure([int(n) for n in args.threads.split(",")], dtypes):
        rows.append(row)
        print(
            "{kind:8} {threads:7} {heads:14} {kv_dtype:9} {kv_len:6} {us:10.1f} {rate:6.1f} {ceiling:7.1f} "
            "{share:6.0%}".format(**row),
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
