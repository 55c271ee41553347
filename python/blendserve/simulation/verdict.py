"""What binds a workload, and whether blending pays for it, in words."""

from __future__ import annotations

from typing import Literal

from blendserve.simulation.results import SimulatedRun, SimulationReport

__all__ = ["Binding", "binding", "verdict"]

Binding = Literal["compute", "memory", "steps", "both"]

_GAIN = 1.03  # a speed-up that is worth speaking of
_BALANCED = 1.25  # the longer of compute and memory time / the shorter, up to which both bind


def binding(report: SimulationReport) -> Binding:
    """What the practical optimum is made of.

    steps: reading the weights in every step, of which the longest output, or a KV cache too small for more requests at
    once, asks for so many.
    """
    bound = report.bound
    shorter, longer = sorted((bound.t_comp_s, bound.t_mem_s))
    if bound.practical_s > (longer + report.settings["beta"] * shorter) * 1.001:
        return "steps"
    if longer <= _BALANCED * shorter:
        return "both"
    return "compute" if bound.t_comp_s > bound.t_mem_s else "memory"


def verdict(report: SimulationReport) -> str:
    """One sentence: is `blend` worth it here, and if not, why. Of the first execution only."""
    runs = [run for run in report.runs if run.execution == report.runs[0].execution]
    blend = next((run for run in runs if run.schedule == "blend"), None)
    other = next((run for run in runs if run.schedule != "blend"), None)
    if blend is None or other is None:
        best = min(runs, key=lambda run: run.total_s)
        return f"{best.schedule} reaches {_percent(best)} of the practical optimum."
    gain = other.total_s / blend.total_s
    if gain >= _GAIN:
        return (
            f"Blending pays here: blend is {gain:.2f}x {other.schedule} and reaches {_percent(blend)} of the practical "
            "optimum."
        )
    if gain < 1 / _GAIN:
        return f"Blending does not pay here: blend takes {1 / gain:.2f} times as long as {other.schedule}."
    return (
        f"{_REASONS[binding(report)]}: blend is {gain:.2f}x {other.schedule}, which reaches {_percent(other)} of the "
        "practical optimum."
    )


_REASONS: dict[Binding, str] = {
    "compute": "Compute-bound under any order",
    "memory": "Memory-bound under any order",
    "steps": "Bound by the number of steps under any order",
    "both": "The order changes little here",
}


def _percent(run: SimulatedRun) -> str:
    return f"{run.practical_optimal_fraction:.1%}"
