"""The paper's evaluation, and ours, on the simulator.

    python benchmarks/paper/evaluate.py workloads             # 400,000 requests, 3 seeds: about 25 minutes
    python benchmarks/paper/evaluate.py grid --requests 100000
    python benchmarks/paper/evaluate.py traces --data DIR     # the published traces

cases.py has the experiments. Each case is checked as it is run (no run may be faster than the bound, and every one must
read the same KV), printed, and written to --out (default: benchmarks/results/paper/EXPERIMENT.json).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blendserve as bs
from blendserve._core import CostModel
from blendserve.traces import Trace
from cases import EXPERIMENTS, Case, Settings

RESULTS = Path(__file__).parents[1] / "results" / "paper"


def main() -> None:
    arguments = parsed_arguments()
    out = arguments.out or RESULTS / f"{arguments.experiment}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "command": command_of(arguments),
        "blendserve": bs.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "requests": arguments.requests,
        "cases": [],
    }
    settings = Settings(arguments.requests, arguments.seeds, arguments.data)
    traces = TraceOfLastCase()
    print(
        f"{'workload':22} {'lengths':8} {'schedule':10} {'share of optimum':>16} {'over the first':>14}  sharing kept"
    )
    for case in EXPERIMENTS[arguments.experiment](settings):
        started = time.monotonic()
        result = run(case, traces.of(case))
        result["wall_s"] = round(time.monotonic() - started, 1)
        record["cases"].append(result)
        out.write_text(json.dumps(record, indent=1) + "\n")
        show(case, result)


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS))
    parser.add_argument("--requests", type=int, default=400_000, help="of each made workload [default: 400000]")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="only workloads uses more than the first"
    )
    parser.add_argument("--data", type=Path, help="a folder with the published traces")
    parser.add_argument("--out", type=Path, help="a JSON file")
    return parser.parse_args()


def command_of(arguments: argparse.Namespace) -> str:
    data = " --data DIR" if arguments.data else ""
    seeds = " ".join(map(str, arguments.seeds))
    return f"evaluate.py {arguments.experiment} --requests {arguments.requests} --seeds {seeds}{data}"


class TraceOfLastCase:
    """Cases of one workload follow each other and share it."""

    def __init__(self) -> None:
        self._make: Callable[[], Trace] | None = None
        self._trace: Trace | None = None

    def of(self, case: Case) -> Trace:
        if self._trace is None or case.make is not self._make:
            self._trace = None
            self._trace = case.make()
            self._make = case.make
        return self._trace


def run(case: Case, trace: Trace) -> dict[str, Any]:
    model, device = bs.ModelSpec.named(case.model), bs.DeviceSpec.named(case.hardware, tp=case.tp)
    report = bs.simulate(
        trace,
        model=model,
        device=device,
        schedules=case.schedules,
        execution=case.execution,
        lengths=case.lengths,
        dp=case.dp,
        seed=case.seed,
        sample_rate=case.sample_rate,
        timeline_bins=0,
    )
    longest = int((trace.prompt_lens + trace.output_lengths).max())
    check(report, num_replicas=case.dp, longest_read_s=CostModel(model, device).t_kv * longest)
    return {"workload_name": case.workload, "sample_rate": case.sample_rate, **report.as_json()}


def check(report: bs.SimulationReport, *, num_replicas: int, longest_read_s: float) -> None:
    """Preemption repeats prefills, never decode steps: it saves one, whose token comes with the repeated prefill."""
    whole = num_replicas * report.bound.t_mem_s  # the bound is of replicas that share the work evenly
    for one in report.runs:
        assert one.practical_optimal_fraction <= 1 + 1e-9, f"{one.schedule} is faster than the bound"
        saved = one.preemptions * longest_read_s
        assert -saved - 1e-6 * whole <= one.memory_s - whole <= 1e-6 * whole, (
            f"{one.schedule} reads {one.memory_s} s of KV, not {whole} less {saved} s at most"
        )


def show(case: Case, result: dict[str, Any]) -> None:
    name = case.workload if case.model == "llama-3.1-8b" else f"{case.model} {case.workload}"
    name += f" x{case.dp}" if case.dp > 1 else ""
    name += " H100" if case.hardware.startswith("h100") else ""
    name += f" {case.sample_rate:.1%}" if case.sample_rate != 0.01 else ""
    first_s = result["runs"][0]["total_s"]
    for one in result["runs"]:
        schedule = one["schedule"] + (" seq." if one["execution"] == "sequential" else "")
        print(
            f"{name:22} {case.lengths:8} {schedule:10} {one['practical_optimal_fraction']:16.1%} "
            f"{first_s / one['total_s']:13.3f}x  {one['sharing_fraction_of_optimal']:7.1%}"
            f"  {one['preemptions']:,} preempted",
            flush=True,
        )


if __name__ == "__main__":
    main()
