"""The course of a simulated run: step times (the paper's figure 10), KV cache, running requests, sharing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blendserve.report.html_chart import Axis, Floats, Mark, Series, chart
from blendserve.report.units import TimeUnit
from blendserve.simulation import SimulatedRun, SimulationReport

__all__ = ["RunCharts"]

_TALL, _LOW = "11rem", "7.5rem"


@dataclass(frozen=True, slots=True)
class RunCharts:
    """All runs of a report have the same axes, so that they can be compared; but the time of a step has its own."""

    report: SimulationReport
    unit: TimeUnit
    time: Axis
    kv_tokens: Axis
    running: Axis
    sharing: Axis

    @classmethod
    def of(cls, report: SimulationReport) -> RunCharts:
        runs = report.runs
        longest_s = max(max(run.total_s for run in runs), report.bound.practical_s)
        unit = TimeUnit.of(longest_s)
        shared = max(report.workload.sharing_ratio_reachable, *(float(_shared_so_far(run).max()) for run in runs))
        return cls(
            report=report,
            unit=unit,
            time=Axis.to(longest_s / unit.seconds, _suffixed(unit.symbol), num_ticks=5),
            kv_tokens=Axis.to(1.08 * report.kv_capacity_tokens, _thousands, num_ticks=3),
            running=Axis.to(1.08 * max(float(_per_second(run, "running_s").max()) for run in runs), num_ticks=3),
            sharing=Axis.to(1.1 * max(shared, 0.05), "{:.0%}".format, num_ticks=3),
        )

    def html(self, run: SimulatedRun) -> str:
        edges = np.concatenate([[0.0], np.cumsum(run.timeline["duration_s"])]) / self.unit.seconds
        optimum = self.report.bound.practical_s / self.unit.seconds
        end = Mark("practical optimum", optimum, "--ink", is_time=True)
        others = "".join(
            chart(name, edges, series, x=self.time, y=y, marks=marks, height=_LOW)
            for name, series, y, marks in (self._kv(run), self._running(run), self._sharing(run))
        )
        series = [
            Series("compute", _step_ms(run, "compute_s"), "--compute"),
            Series("memory", _step_ms(run, "memory_s"), "--memory"),
        ]
        steps = chart(
            "Time per step (ms)",
            edges,
            series,
            x=self.time,
            y=Axis.to(1.1 * max(float(one.values.max()) for one in series)),
            marks=[end],
            height=_TALL,
        )
        return f'{steps}<div class="row">{others}</div>'

    def _kv(self, run: SimulatedRun) -> _Panel:
        held = _per_second(run, "held_tokens_s")
        memory = np.minimum(_per_second(run, "memory_tokens_s"), held)
        if memory.any():
            series = [
                Series("memory side", memory, "--memory", "area"),
                Series("others", held - memory, "--compute", "area"),
            ]
        else:
            series = [Series("held by running requests", held, "--plain", "area")]
        capacity = Mark("capacity", float(self.report.kv_capacity_tokens), "--ink")
        return "KV cache (tokens)", series, self.kv_tokens, [capacity]

    def _running(self, run: SimulatedRun) -> _Panel:
        series = [Series("running", _per_second(run, "running_s"), "--plain")]
        return "Running requests", series, self.running, []

    def _sharing(self, run: SimulatedRun) -> _Panel:
        reachable = Mark("reachable", self.report.workload.sharing_ratio_reachable, "--ink")
        return (
            "Prompt tokens shared so far",
            [Series("shared", _shared_so_far(run), "--plain")],
            self.sharing,
            [reachable],
        )


_Panel = tuple[str, list[Series], Axis, list[Mark]]


def _step_ms(run: SimulatedRun, name: str) -> Floats:
    return run.timeline[name] / run.timeline["steps"] * 1e3


def _per_second(run: SimulatedRun, name: str) -> Floats:
    return run.timeline[name] / run.timeline["duration_s"]


def _shared_so_far(run: SimulatedRun) -> Floats:
    prompt = np.cumsum(run.timeline["prompt_tokens"])
    cached = np.cumsum(run.timeline["cached_tokens"])
    return np.divide(cached, prompt, out=np.zeros_like(cached), where=prompt > 0)


def _suffixed(symbol: str) -> Callable[[float], str]:
    return lambda value: f"{value:g} {symbol}" if value else "0"


def _thousands(tokens: float) -> str:
    return "0" if tokens == 0 else f"{tokens / 1e6:g} M" if tokens >= 1e6 else f"{tokens / 1e3:g} k"
