"""What scheduling a step costs with about 1,000 running requests, in microseconds of CPU time.

    python benchmarks/core/scheduling.py

Requests of 100-300 prompt tokens, half of them behind one of 20 prefixes, and of 200-600 output tokens; a KV cache that
holds them all. Every schedule must finish every request before its times are printed; all are medians of --repeats.
"""

from __future__ import annotations

import argparse
import platform
import statistics

import blendserve as bs
import numpy as np
from blendserve._core import SIMULATED_STOP_TOKEN, CostModel, simulate
from numpy.typing import NDArray

NUM_RUNNING = 1000
TARGETS = {"mean": 50, "p99": 200}
COST = CostModel(bs.ModelSpec.named("llama-3.1-8b"), bs.DeviceSpec.named("h200-sxm-141gb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"blendserve {bs.__version__}, Python {platform.python_version()}, {platform.machine()}")
    print(
        f"{'schedule':9} {'running':>8} {'mean us':>8} {'p99 us':>8}   targets: {TARGETS['mean']} and {TARGETS['p99']}"
    )
    tokens, offsets, lengths = made_job(arguments.requests)
    for schedule in ("dfs", "paper", "blend"):
        times = [measured(schedule, tokens, offsets, lengths) for _ in range(arguments.repeats)]
        running, mean, p99 = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{schedule:9} {running:8.0f} {mean:8.1f} {p99:8.1f}")


def made_job(num_requests: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    prefixes = rng.integers(0, 100_000, (20, 96))
    prompts = []
    for _ in range(num_requests):
        own = rng.integers(0, 100_000, int(rng.integers(100, 301)))
        prompts.append(np.concatenate([prefixes[rng.integers(20)], own]) if rng.random() < 0.5 else own)
    offsets = np.cumsum([0, *map(len, prompts)])
    return np.concatenate(prompts).astype(np.int32), offsets, rng.integers(200, 601, num_requests).astype(np.int32)


def measured(
    schedule: str, tokens: NDArray[np.int32], offsets: NDArray[np.int64], lengths: NDArray[np.int32]
) -> tuple[float, float, float]:
    plan = bs.plan(tokens, offsets, lengths, model=COST.model, device=COST.device)
    scheduler = bs.StepScheduler(
        plan,
        num_blocks=COST.kv_capacity_tokens() // 16,
        max_batch_requests=NUM_RUNNING,
        schedule=schedule,
        max_new_tokens=np.zeros(len(lengths), np.int32),
        stop_token_ids=[SIMULATED_STOP_TOKEN],
    )
    run = simulate(scheduler, COST, lengths, timeline_bins=64)
    assert scheduler.num_unfinished == 0
    assert scheduler.stats.num_output_tokens == lengths.sum()
    running = run.timeline["running_s"].sum() / run.timeline["duration_s"].sum()
    return running, run.step_schedule_mean_us, run.step_schedule_p99_us


if __name__ == "__main__":
    main()
