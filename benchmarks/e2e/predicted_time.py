"""The time that the performance model predicts for a mixed run on this CPU, beside the time that it takes.

    python benchmarks/e2e/predicted_time.py                        # 56 M parameters: 2 to 3 minutes on two cores
    python benchmarks/e2e/predicted_time.py --shape smollm2-135m --scale 0.3 --out FILE

Each repeat measures the device (as `blendserve profile` does), then answers the requests of throughput.py under
`--schedules` with that device file. `steps` is predicted from the very steps that ran, `simulated` by the simulator
from prompts and lengths alone. Every request is checked to run to its full length. The target: the median of predicted
over measured time within 15 % of 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import blendserve as bs
import numpy as np
from blendserve import LLM, _core  # LLM before torch: it says how torch's threads wait
from blendserve.config import EngineConfig
from blendserve.devices import device_fields
from blendserve.profiling import profile_device
from blendserve.runner import ModelRunner
from blendserve.traces import Trace
from mixed_requests import GreedyRequests
from random_model import SHAPES, write_random_model

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe

TARGET = 0.15


def main() -> None:
    arguments = parse_arguments()
    requests = GreedyRequests.mixed(2 * max(1, round(100 * arguments.scale)), SHAPES[arguments.shape]["vocab_size"])
    report: dict[str, Any] = {
        "machine": describe(threads=_core.num_threads(), isa=_core.isa()),
        "config": vars(arguments) | {"out": None},
        "runs": [],
    }
    print(json.dumps(report["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / arguments.shape
        write_random_model(folder, arguments.shape, seed=0, device="cpu")
        for _ in range(arguments.repeats):
            device = profile_device(folder, EngineConfig(device="cpu"), seconds=arguments.profile_s)
            for schedule in arguments.schedules:
                run = measure(folder, device, schedule, requests)
                report["runs"].append(run | {"device": device_fields(device)})
                print(line_of(run), flush=True)
    report["medians"] = {schedule: medians(report["runs"], schedule) for schedule in arguments.schedules}
    for schedule, ratios in report["medians"].items():
        print(f"median {schedule:6} " + verdict(ratios))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-56m")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of requests, 200")
    parser.add_argument("--schedules", nargs="+", default=["blend"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile-s", type=float, default=20.0, help="seconds of measuring the device")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def measure(folder: Path, device: bs.DeviceSpec, schedule: str, requests: GreedyRequests) -> dict[str, Any]:
    llm = LLM(folder, schedule=schedule, hardware=device)  # type: ignore[arg-type]
    load = os.getloadavg()[0]
    with recorded_steps() as batches:
        started = time.perf_counter()
        outputs = llm.generate(requests.prompts, requests.params())
        measured_s = time.perf_counter() - started
    assert [len(output.token_ids) for output in outputs] == requests.max_tokens
    assert len(batches) == llm.stats.num_steps
    model = bs.ModelSpec.from_hf(folder, weight_bytes=llm.config.dtype.itemsize)
    cost = _core.CostModel(model, device)
    simulated = simulate(model, device, schedule, requests, llm)
    steps_s = sum(cost.step_time(batch, "sequential").total_s for batch in batches)
    return {
        "schedule": schedule,
        "num_requests": len(requests.prompts),
        "num_tokens": requests.num_tokens,
        "load_before": load,
        "measured_s": measured_s,
        "throughput_tok_s": requests.num_tokens / measured_s,
        "num_steps": len(batches),
        "steps": {"predicted_s": steps_s, "over_measured": steps_s / measured_s},
        "simulated": {
            "predicted_s": simulated.total_s,
            "over_measured": simulated.total_s / measured_s,
            "num_steps": simulated.steps,
        },
    }


@contextmanager
def recorded_steps() -> Iterator[list[_core.BatchDesc]]:
    """What the time of every step depends on."""
    batches: list[_core.BatchDesc] = []
    most_likely = ModelRunner.most_likely

    def recorded(runner: ModelRunner, plan: bs.StepPlan) -> Any:
        batches.append(_core.batch_of(plan))
        return most_likely(runner, plan)

    with mock.patch.object(ModelRunner, "most_likely", recorded):
        yield batches


def simulate(
    model: bs.ModelSpec, device: bs.DeviceSpec, schedule: str, requests: GreedyRequests, llm: LLM
) -> bs.SimulatedRun:
    """On the engine's KV cache and batch; the lengths are known, as forced ones are to the engine's planner."""
    num_requests = len(requests.prompts)
    trace = Trace(
        tokens=np.concatenate([np.array(prompt, np.int32) for prompt in requests.prompts]),
        offsets=np.cumsum([0, *map(len, requests.prompts)], dtype=np.int64),
        output_lengths=np.array(requests.max_tokens, np.int32),
        is_known=np.ones(num_requests, np.bool_),
        sources=("mixed",),
        source=np.zeros(num_requests, np.int16),
    )
    kv_bytes = llm.config.kv_capacity * _core.CostModel(model, device).kv_bytes_per_token
    report = bs.simulate(
        trace,
        model=model,
        device=device,
        schedules=schedule,  # type: ignore[arg-type]
        execution="sequential",
        lengths="known",
        max_batch_tokens=llm.config.max_batch_tokens,
        kv_memory=int(kv_bytes),
    )
    return report.runs[0]


def medians(runs: list[dict[str, Any]], schedule: str) -> dict[str, float]:
    """Of predicted over measured."""
    return {
        kind: statistics.median(run[kind]["over_measured"] for run in runs if run["schedule"] == schedule)
        for kind in ("steps", "simulated")
    }


def line_of(run: dict[str, Any]) -> str:
    return (
        f"{run['schedule']:6} {run['measured_s']:6.1f} s measured in {run['num_steps']} steps, "
        f"{run['throughput_tok_s']:.0f} tokens/s; predicted "
        + ", ".join(
            f"{run[kind]['predicted_s']:.1f} s ({run[kind]['over_measured']:.2f}) {name}"
            for kind, name in (("steps", "from its steps"), ("simulated", "by the simulator"))
        )
    )


def verdict(ratios: dict[str, float]) -> str:
    return ", ".join(
        f"{kind} {ratio:.3f} of measured ({'within' if abs(ratio - 1) <= TARGET else 'NOT within'} {TARGET:.0%})"
        for kind, ratio in ratios.items()
    )


if __name__ == "__main__":
    main()
