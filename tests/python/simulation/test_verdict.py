"""What binds, and whether blending pays, in words."""

from __future__ import annotations

import dataclasses

import blendserve as bs
import pytest
from blendserve.simulation import SimulationReport, binding, verdict
from workloads import DEVICE, MODEL, trace_of


@pytest.fixture(scope="module")
def report() -> SimulationReport:
    return bs.simulate(trace_of([100, 200], [10, 20]), model=MODEL, device=DEVICE, schedules=["dfs", "blend"])


def with_times(report: SimulationReport, dfs_s: float, blend_s: float) -> SimulationReport:
    runs = [
        dataclasses.replace(run, total_s=seconds, practical_optimal_fraction=60 / seconds)
        for run, seconds in zip(report.runs, (dfs_s, blend_s), strict=True)
    ]
    return dataclasses.replace(report, runs=tuple(runs))


def with_bound(report: SimulationReport, compute_s: float, memory_s: float, practical_s: float) -> SimulationReport:
    bound = dataclasses.replace(report.bound, t_comp_s=compute_s, t_mem_s=memory_s, practical_s=practical_s)
    return dataclasses.replace(report, bound=bound)


@pytest.mark.parametrize(
    ("compute_s", "memory_s", "practical_s", "what"),
    [(10, 2, 11, "compute"), (2, 10, 11, "memory"), (10, 9, 14.5, "both"), (2, 1, 5, "steps")],
)
def test_what_binds(report: SimulationReport, compute_s: float, memory_s: float, practical_s: float, what: str) -> None:
    assert binding(with_bound(report, compute_s, memory_s, practical_s)) == what


def test_a_gain_is_told(report: SimulationReport) -> None:
    sentence = verdict(with_times(report, dfs_s=99, blend_s=75))
    assert sentence == "Blending pays here: blend is 1.32x dfs and reaches 80.0% of the practical optimum."


def test_a_loss_is_told(report: SimulationReport) -> None:
    sentence = verdict(with_times(report, dfs_s=75, blend_s=90))
    assert sentence == "Blending does not pay here: blend takes 1.20 times as long as dfs."


def test_where_the_order_changes_little_the_reason_is_told(report: SimulationReport) -> None:
    even = with_times(with_bound(report, 2, 10, 11), dfs_s=75, blend_s=75)
    assert verdict(even) == (
        "Memory-bound under any order: blend is 1.00x dfs, which reaches 80.0% of the practical optimum."
    )


def test_without_a_comparison_the_best_is_told(report: SimulationReport) -> None:
    alone = dataclasses.replace(with_times(report, 75, 60), runs=with_times(report, 75, 60).runs[:1])
    assert verdict(alone) == "dfs reaches 80.0% of the practical optimum."
