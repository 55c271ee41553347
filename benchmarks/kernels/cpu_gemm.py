"""Times the CPU GEMM on packed weights beside torch's linear layer and a large matrix product; checks answers first.

Many rows are bound by arithmetic: the figure is the share of the rate at which torch multiplies 2048 x 2048 float32
matrices with as many threads. Few rows are bound by reading the weights: the figure is bytes of weights per second.
All of them take turns; figures are medians. Each timed call follows one like it that is not timed, with the same
weights, or with --weights cold with the one before of several copies, as in a model that the caches do not hold.

    python benchmarks/kernels/cpu_gemm.py [--weights cold] [--threads 1 2] [--dtype bfloat16] [--isa avx2] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blendserve
import numpy as np
from blendserve import _core
from blendserve.openmp import let_idle_threads_sleep

let_idle_threads_sleep()  # as the engine does, or torch's threads would spin on the cores of the other side
import torch  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))
from machine import cpu_name  # noqa: E402

ROWS = (1, 4, 16, 64, 128, 256, 512)
LARGE = 2048
COLD_BYTES = 2**26  # of all copies of a layer's weights
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
COLUMNS = (("us", 11), ("GFLOP/s", 9), ("GB/s", 7), ("share", 8), ("linear", 8), ("matmul", 9))


@dataclass(frozen=True)
class Layer:
    model: str
    name: str
    num_outputs: int
    num_inputs: int


def layers_of(model: str, *, hidden: int, kv: int, intermediate: int, vocab: int) -> tuple[Layer, ...]:
    return (
        Layer(model, "qkv", hidden + 2 * kv, hidden),
        Layer(model, "o", hidden, hidden),
        Layer(model, "gate_up", 2 * intermediate, hidden),
        Layer(model, "down", hidden, intermediate),
        Layer(model, "lm_head", vocab, hidden),
    )


LAYERS = (
    *layers_of("SmolLM2-135M", hidden=576, kv=192, intermediate=1536, vocab=49152),
    *layers_of("llama-56m", hidden=512, kv=256, intermediate=1408, vocab=32000),
)


def check(layer: Layer, dtype: str) -> None:
    """Against float64, to the rounding of the stored weights; and each row alone, to the bit."""
    weights = torch.randn(layer.num_outputs, layer.num_inputs)
    a = torch.randn(37, layer.num_inputs)
    matrix = _core.PackedMatrix(weights, dtype)
    out = np.empty((37, layer.num_outputs), np.float32)
    _core.gemm(a, matrix, out)
    expected = a.double().numpy() @ weights.double().numpy().T
    error = np.linalg.norm(out - expected) / np.linalg.norm(expected)
    alone = np.empty((1, layer.num_outputs), np.float32)
    _core.gemm(a[36:], matrix, alone)
    if not error < {"float32": 1e-6, "bfloat16": 3e-3, "int8": 2e-2}[dtype]:
        raise SystemExit(f"wrong answer: {layer} differs by {error:.3g} of its norm from float64")
    if not np.array_equal(alone[0], out[36]):
        raise SystemExit(f"wrong answer: {layer} gives a row other bits alone than in a batch")
    if not np.array_equal(_core.gemm_argmax(a, matrix), out.argmax(axis=1)):
        raise SystemExit(f"wrong answer: {layer} has another arg-max than its outputs")


class Batch:
    """One batch through layers of one shape, the next layer with each call."""

    def __init__(self, num_rows: int, weights: list[torch.Tensor], matrices: list[_core.PackedMatrix]) -> None:
        num_outputs, num_inputs = weights[0].shape
        self.weights, self.matrices = itertools.cycle(weights), itertools.cycle(matrices)
        self.a = torch.randn(num_rows, num_inputs)
        self.numpy_a = self.a.numpy()
        self.out = np.empty((num_rows, num_outputs), np.float32)

    def gemm(self) -> None:
        _core.gemm(self.numpy_a, next(self.matrices), self.out)

    def linear(self) -> None:
        torch.nn.functional.linear(self.a, next(self.weights))


def second_time_s(call: Callable[[], object]) -> float:
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_times_s(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    times = [[second_time_s(call) for call in calls] for _ in range(rounds)]
    return np.median(times, axis=0).tolist()


def measure(layer: Layer, args: argparse.Namespace) -> list[dict[str, Any]]:
    weight_bytes = layer.num_outputs * layer.num_inputs * DTYPE_BYTES[args.dtype]
    num_copies = 1 + COLD_BYTES // weight_bytes if args.weights == "cold" else 1
    weights = [torch.randn(layer.num_outputs, layer.num_inputs) for _ in range(num_copies)]
    matrices = [_core.PackedMatrix(copy, args.dtype) for copy in weights]
    batches = [Batch(num_rows, weights, matrices) for num_rows in args.rows]
    large = torch.randn(LARGE, LARGE)
    calls = [lambda: large @ large, *(batch.gemm for batch in batches), *(batch.linear for batch in batches)]
    matmul_s, *times = median_times_s(calls, args.rounds)
    matmul_rate = 2 * LARGE**3 / matmul_s
    results = []
    for num_rows, gemm_s, linear_s in zip(args.rows, times[: len(batches)], times[len(batches) :], strict=True):
        flops = 2 * num_rows * layer.num_outputs * layer.num_inputs
        results.append(
            asdict(layer)
            | {
                "rows": num_rows,
                "gemm_us": gemm_s * 1e6,
                "gemm_gflops": flops / gemm_s / 1e9,
                "gemm_share": flops / gemm_s / matmul_rate,
                "linear_share": flops / linear_s / matmul_rate,
                "matmul_gflops": matmul_rate / 1e9,
                "weights_gb_per_s": weight_bytes / gemm_s / 1e9,
            }
        )
    return results


def show(results: list[dict[str, Any]]) -> None:
    for of in results:
        print(
            f"{of['model']:13}{of['name']:9}{of['num_outputs']:6} x {of['num_inputs']:4}{of['rows']:5}"
            f"{of['gemm_us']:11.1f}{of['gemm_gflops']:9.1f}{of['weights_gb_per_s']:7.1f}"
            f"{of['gemm_share']:8.0%}{of['linear_share']:8.0%}{of['matmul_gflops']:9.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--weights", choices=("warm", "cold"), default="warm")
    parser.add_argument("--dtype", choices=tuple(DTYPE_BYTES), default="float32")
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    _core.set_isa(args.isa)
    report: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "isa": _core.isa(),
        "dtype": args.dtype,
        "weights": args.weights,
        "rounds": args.rounds,
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "blendserve": blendserve.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": {},
    }
    print(*(f"{name} {value}" for name, value in report.items() if name != "threads"), sep=", ")
    for layer in LAYERS:
        check(layer, args.dtype)
    for num_threads in args.threads:
        _core.set_num_threads(num_threads)
        torch.set_num_threads(num_threads)
        print(f"\n{num_threads} threads{'rows':>29}" + "".join(f"{title:>{width}}" for title, width in COLUMNS))
        report["threads"][num_threads] = results = []
        for layer in LAYERS:
            results.extend(measure(layer, args))
            show(results[-len(args.rows) :])
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
