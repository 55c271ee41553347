"""What any run shows over time, simulated or real: KV cache, running requests, sharing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from blendserve.report.html_chart import Axis, Floats, Mark, Series, chart
from blendserve.report.units import TimeUnit
from blendserve.simulation.results import Timeline

__all__ = ["Panel", "TimelineCharts", "step_ms"]

_TALL, _LOW = "11rem", "7.5rem"

Panel = tuple[str, list[Series], Axis, list[Mark]]


@dataclass(frozen=True, slots=True)
class TimelineCharts:
    """All timelines of a page have the same axes, so that they can be compared.

    reachable: share of the prompt tokens that can be shared at most.
    """

    kv_capacity_tokens: int
    reachable: float
    unit: TimeUnit
    time: Axis
    kv_tokens: Axis
    running: Axis
    sharing: Axis

    @classmethod
    def of(
        cls, timelines: Sequence[Timeline], *, longest_s: float, kv_capacity_tokens: int, reachable: float
    ) -> TimelineCharts:
        unit = TimeUnit.of(longest_s)
        shared = max(reachable, *(float(_shared_so_far(timeline).max()) for timeline in timelines))
        most_running = max(float(_per_second(timeline, "running_s").max()) for timeline in timelines)
        return cls(
            kv_capacity_tokens=kv_capacity_tokens,
            reachable=reachable,
            unit=unit,
            time=Axis.to(longest_s / unit.seconds, _suffixed(unit.symbol), num_ticks=5),
            kv_tokens=Axis.to(1.08 * kv_capacity_tokens, _thousands, num_ticks=3),
            running=Axis.to(1.08 * most_running, num_ticks=3),
            sharing=Axis.to(1.1 * max(shared, 0.05), "{:.0%}".format, num_ticks=3),
        )

    def edges(self, timeline: Timeline) -> Floats:
        """Of the stretches, on the axis of time."""
        return np.concatenate([[0.0], np.cumsum(timeline["duration_s"])]) / self.unit.seconds

    def panels(self, timeline: Timeline) -> list[Panel]:
        return [self._kv(timeline), self._running(timeline), self._sharing(timeline)]

    def row(self, timeline: Timeline, panels: Sequence[Panel]) -> str:
        """Low charts beside each other."""
        edges = self.edges(timeline)
        charts = "".join(
            chart(name, edges, series, x=self.time, y=y, marks=marks, height=_LOW) for name, series, y, marks in panels
        )
        return f'<div class="row">{charts}</div>'

    def step_times(self, timeline: Timeline, series: Sequence[Series], marks: Sequence[Mark]) -> str:
        """A tall chart of milliseconds a step, on an axis of its own."""
        return chart(
            "Time per step (ms)",
            self.edges(timeline),
            series,
            x=self.time,
            y=Axis.to(1.1 * max(float(one.values.max()) for one in series)),
            marks=marks,
            height=_TALL,
        )

    def _kv(self, timeline: Timeline) -> Panel:
        held = _per_second(timeline, "held_tokens_s")
        memory = np.minimum(_per_second(timeline, "memory_tokens_s"), held)
        if memory.any():
            series = [
                Series("memory side", memory, "--memory", "area"),
                Series("others", held - memory, "--compute", "area"),
            ]
        else:
            series = [Series("held by running requests", held, "--plain", "area")]
        return "KV cache (tokens)", series, self.kv_tokens, [Mark("capacity", float(self.kv_capacity_tokens), "--ink")]

    def _running(self, timeline: Timeline) -> Panel:
        series = [Series("running", _per_second(timeline, "running_s"), "--plain")]
        return "Running requests", series, self.running, []

    def _sharing(self, timeline: Timeline) -> Panel:
        series = [Series("shared", _shared_so_far(timeline), "--plain")]
        return "Prompt tokens shared so far", series, self.sharing, [Mark("reachable", self.reachable, "--ink")]


def step_ms(timeline: Timeline, name: str) -> Floats:
    """Milliseconds a step."""
    return timeline[name] / timeline["steps"] * 1e3


def _per_second(timeline: Timeline, name: str) -> Floats:
    return timeline[name] / timeline["duration_s"]


def _shared_so_far(timeline: Timeline) -> Floats:
    prompt = np.cumsum(timeline["prompt_tokens"])
    cached = np.cumsum(timeline["cached_tokens"])
    return np.divide(cached, prompt, out=np.zeros_like(cached), where=prompt > 0)


def _suffixed(symbol: str) -> Callable[[float], str]:
    return lambda value: f"{value:g} {symbol}" if value else "0"


def _thousands(tokens: float) -> str:
    return "0" if tokens == 0 else f"{tokens / 1e6:g} M" if tokens >= 1e6 else f"{tokens / 1e3:g} k"
