"""What any run shows over time, simulated or real: KV cache, running requests, sharing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blendserve.report.html_chart import Axis, Floats, Mark, Series, chart
from blendserve.report.units import TimeUnit
from blendserve.simulation.results import Timeline

__all__ = ["Panel", "TimelineCharts", "step_s"]

_TALL, _LOW = "11rem", "7.5rem"
_FLAT = 0.2  # of the height of a chart

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
        most_held = max(float(_per_second(timeline, "held_tokens_s").max()) for timeline in timelines)
        most_running = max(float(_per_second(timeline, "running_s").max()) for timeline in timelines)
        return cls(
            kv_capacity_tokens=kv_capacity_tokens,
            reachable=reachable,
            unit=unit,
            time=Axis.to(longest_s / unit.seconds, _suffixed(unit.symbol), num_ticks=5),
            kv_tokens=Axis.to(1.08 * _kv_height(most_held, kv_capacity_tokens), _token_amount, num_ticks=3),
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
        """A tall chart of the time of a step, on an axis of its own. `series` are in seconds."""
        longest_s = 1.1 * max(float(one.values.max()) for one in series)
        unit = TimeUnit.of(longest_s)
        return chart(
            f"Time per step ({unit.symbol})",
            self.edges(timeline),
            [replace(one, values=one.values / unit.seconds) for one in series],
            x=self.time,
            y=Axis.to(longest_s / unit.seconds),
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
        if self.kv_capacity_tokens > self.kv_tokens.end:
            name = f"KV cache (tokens, of {_token_amount(self.kv_capacity_tokens)})"
            return name, series, self.kv_tokens, []
        return "KV cache (tokens)", series, self.kv_tokens, [Mark("capacity", float(self.kv_capacity_tokens), "--ink")]

    def _running(self, timeline: Timeline) -> Panel:
        series = [Series("running", _per_second(timeline, "running_s"), "--plain")]
        return "Running requests", series, self.running, []

    def _sharing(self, timeline: Timeline) -> Panel:
        series = [Series("shared", _shared_so_far(timeline), "--plain")]
        return "Prompt tokens shared so far", series, self.sharing, [Mark("reachable", self.reachable, "--ink")]


def step_s(timeline: Timeline, name: str) -> Floats:
    """Seconds a step."""
    return timeline[name] / timeline["steps"]


def _per_second(timeline: Timeline, name: str) -> Floats:
    return timeline[name] / timeline["duration_s"]


def _shared_so_far(timeline: Timeline) -> Floats:
    prompt = np.cumsum(timeline["prompt_tokens"])
    cached = np.cumsum(timeline["cached_tokens"])
    return np.divide(cached, prompt, out=np.zeros_like(cached), where=prompt > 0)


def _suffixed(symbol: str) -> Callable[[float], str]:
    return lambda value: f"{value:g} {symbol}" if value else "0"


def _kv_height(most_held: float, capacity: int) -> float:
    """The capacity, but what is held where it would lie flat at the foot of that."""
    return most_held if 0 < most_held < _FLAT * capacity else capacity


def _token_amount(tokens: float) -> str:
    """As an axis has it: 250, 2.5 k, 1.2 M."""
    for scale, symbol in ((1e6, " M"), (1e3, " k")):
        if tokens >= scale:
            return f"{tokens / scale:.3g}{symbol}"
    return f"{tokens:g}"
