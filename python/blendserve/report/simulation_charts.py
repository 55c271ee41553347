"""The course of a simulated run: step times (the paper's figure 10), KV cache, running requests, sharing."""

from __future__ import annotations

from dataclasses import dataclass

from blendserve.report.html_chart import Mark, Series
from blendserve.report.timeline_charts import TimelineCharts, step_s
from blendserve.simulation import SimulatedRun, SimulationReport

__all__ = ["RunCharts"]


@dataclass(frozen=True, slots=True)
class RunCharts:
    """All runs of a report have the same axes, but for the time of a step, which has its own."""

    charts: TimelineCharts
    optimum_s: float

    @classmethod
    def of(cls, report: SimulationReport) -> RunCharts:
        optimum_s = report.bound.practical_s
        charts = TimelineCharts.of(
            [run.timeline for run in report.runs],
            longest_s=max(optimum_s, *(run.total_s for run in report.runs)),
            kv_capacity_tokens=report.kv_capacity_tokens,
            reachable=report.workload.sharing_ratio_reachable,
        )
        return cls(charts, optimum_s)

    def html(self, run: SimulatedRun) -> str:
        timeline = run.timeline
        series = [
            Series("compute", step_s(timeline, "compute_s"), "--compute"),
            Series("memory", step_s(timeline, "memory_s"), "--memory"),
        ]
        end = Mark("practical optimum", self.optimum_s / self.charts.unit.seconds, "--ink", is_time=True)
        steps = self.charts.step_times(timeline, series, [end])
        return steps + self.charts.row(timeline, self.charts.panels(timeline))
