"""The course of a real run: step times as measured and predicted, balance, KV cache, running requests, sharing."""

from __future__ import annotations

import numpy as np

from blendserve.recording.run_report import RunReport
from blendserve.report.html_chart import Axis, Mark, Series
from blendserve.report.timeline_charts import Panel, TimelineCharts, step_s
from blendserve.simulation.results import Timeline

__all__ = ["run_charts"]


def run_charts(report: RunReport) -> str:
    timeline = report.timeline
    charts = TimelineCharts.of(
        [timeline],
        longest_s=max(report.total_s, report.bound.practical_s),
        kv_capacity_tokens=report.kv_capacity_tokens,
        reachable=report.sharing_ratio_reachable,
    )
    series = [
        Series("memory, predicted", step_s(timeline, "memory_s"), "--memory", "area"),
        Series("compute, predicted", step_s(timeline, "compute_s"), "--compute", "area"),
        Series("measured", step_s(timeline, "duration_s"), "--ink"),
    ]
    optimum = Mark("practical optimum", report.bound.practical_s / charts.unit.seconds, "--ink", is_time=True)
    panels = [_balance(report), *charts.panels(timeline)]
    if report.preemptions:
        panels.append(_preemptions(timeline))
    return charts.step_times(timeline, series, [optimum]) + charts.row(timeline, panels)


def _balance(report: RunReport) -> Panel:
    """Level is good: then no stretch of the run wants for one resource while the other lies idle."""
    compute, memory = report.timeline["compute_s"], report.timeline["memory_s"]
    whole = report.compute_s / (report.compute_s + report.memory_s)
    series = [Series("share", compute / (compute + memory), "--compute")]
    axis = Axis.to(1.05, "{:.0%}".format, num_ticks=3)
    return "Compute, of compute and memory time", series, axis, [Mark("of the whole run", whole, "--ink")]


def _preemptions(timeline: Timeline) -> Panel:
    so_far = np.cumsum(timeline["preemptions"])
    axis = Axis.to(1.08 * float(so_far[-1]), num_ticks=3)
    return "Preemptions so far", [Series("preempted", so_far, "--plain")], axis, []
