"""What a simulation found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoundFigures", "SimulatedRun", "SimulationReport", "Timeline", "WorkloadFigures"]

Timeline = dict[str, NDArray[np.float64]]
"""Stretches of a run as columns: duration_s; predicted_s, compute_s and memory_s by the performance model; steps,
prompt_tokens, cached_tokens, output_tokens, preemptions; running requests times seconds, running_s; tokens of KV cache
times seconds, held_tokens_s, and those of the memory side, memory_tokens_s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFigures:
    """Of the requests that were run. docs/metrics.md defines every field.

    sources: name -> number of requests.
    dropped_rows: of the files, because they are no requests (`Trace.num_dropped`).
    num_samples: requests whose lengths are sampled.
    skipped_requests: left out, because prompt and output do not fit the KV cache even alone.
    over_context_requests: run, although they are longer than the model's context.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    sharing_ratio_optimal: float
    sharing_ratio_reachable: float
    density: float
    sources: dict[str, int]
    num_samples: int
    dropped_rows: int
    skipped_requests: int
    over_context_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFigures:
    """Seconds that no schedule can do without, over all replicas (docs/performance_model.md)."""

    t_comp_s: float
    t_mem_s: float
    ideal_s: float
    practical_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """One schedule under one execution. Times are seconds of the simulated clock, except `preprocess_s` (of planning)
    and `step_schedule_us` (mean and p99 of a step), which were measured on this machine.

    total_s: of the slowest replica; replica_s: of each. All counts and compute_s, memory_s are sums over the replicas.
    timeline: of the slowest replica.
    """

    schedule: str
    execution: str
    lengths: str
    dp: int
    total_s: float
    throughput_tok_s: float
    practical_optimal_fraction: float
    sharing_ratio: float
    sharing_fraction_of_optimal: float
    steps: int
    preemptions: int
    recomputed_tokens: int
    step_schedule_us: dict[str, float]
    preprocess_s: float
    compute_s: float
    memory_s: float
    replica_s: tuple[float, ...]
    timeline: Timeline = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """`runs` are in the order asked for: by execution, then by schedule.

    settings: what it was run with, by the names of `simulate`'s arguments, and `version`.
    """

    workload: WorkloadFigures
    bound: BoundFigures
    runs: tuple[SimulatedRun, ...]
    kv_capacity_tokens: int
    settings: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """All but the timelines, as `blendserve simulate --json` writes it."""
        return {
            **self.settings,
            "kv_capacity_tokens": self.kv_capacity_tokens,
            "workload": dataclasses.asdict(self.workload),
            "bound": dataclasses.asdict(self.bound),
            "runs": [_run_json(run) for run in self.runs],
        }


def _run_json(run: SimulatedRun) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(run) if field.name != "timeline"]
    return {name: getattr(run, name) for name in fields}
