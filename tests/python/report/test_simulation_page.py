"""The page of a simulation: what it says, what it draws, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re

import blendserve as bs
import numpy as np
import pytest
from blendserve.report.html_chart import Axis, Mark, Series, chart
from blendserve.report.simulation_page import simulation_page
from blendserve.report.timeline_charts import TimelineCharts
from blendserve.report.units import TimeUnit, duration
from blendserve.simulation import SimulationReport
from blendserve.traces import LengthTrace
from pages import assert_whole_html


@pytest.fixture(scope="module")
def report() -> SimulationReport:
    lengths = np.tile([[2000, 4], [50, 700]], (200, 1)).astype(np.int32)
    trace = LengthTrace.unshared("made", lengths[:, 0].copy(), lengths[:, 1].copy()).with_tokens()
    model, device = bs.ModelSpec.named("llama-3.1-8b"), bs.DeviceSpec.named("a100-sxm-80gb")
    return bs.simulate(trace, model=model, device=device, schedules=("dfs", "blend"), dp=2)


@pytest.fixture(scope="module")
def page(report: SimulationReport) -> str:
    return simulation_page(report)


def test_it_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    assert_whole_html(page)


def test_it_has_the_figures_of_every_run(page: str, report: SimulationReport) -> None:
    assert "400 requests, llama-3.1-8b on a100-sxm-80gb, 2 replicas" in page
    for run in report.runs:
        assert f"<td>{run.schedule}</td><td>{duration(run.total_s)}</td>" in page
        assert f"<td>{run.practical_optimal_fraction:.1%}</td>" in page
        assert f"<td>{run.throughput_tok_s:,.0f}</td>" in page
    assert duration(report.bound.practical_s) in page
    assert "The charts show the slowest replica of each run." in page


def test_every_run_has_its_four_charts(page: str) -> None:
    for name in ("Time per step (ms)", "KV cache (tokens)", "Running requests", "Prompt tokens shared so far"):
        assert page.count(f'<span class="name">{name}</span>') == 2
    assert page.count("practical optimum</span>") == 2
    assert page.count("memory side</span>") == 1
    assert page.count("held by running requests</span>") == 1


@pytest.mark.parametrize(
    ("capacity", "name", "ticks"),
    [
        (1000, "KV cache (tokens)", ["0", "500", "1 k"]),
        (2_500_000, "KV cache (tokens, of 2.5 M)", ["0", "200", "400"]),
    ],
)
def test_the_axis_of_the_kv_cache_ends_at_its_capacity_or_where_that_is_far_at_what_is_held(
    report: SimulationReport, capacity: int, name: str, ticks: list[str]
) -> None:
    timeline = {column: np.array([2.0, 2.0]) for column in report.runs[0].timeline}
    timeline["held_tokens_s"], timeline["memory_tokens_s"] = np.array([400.0, 900.0]), np.zeros(2)
    charts = TimelineCharts.of([timeline], longest_s=4.0, kv_capacity_tokens=capacity, reachable=0.5)
    shown, _, axis, marks = charts.panels(timeline)[0]
    assert (shown, [axis.text(tick) for tick in axis.ticks]) == (name, ticks)
    assert [mark.name for mark in marks] == (["capacity"] if capacity == 1000 else [])


def test_names_are_escaped(report: SimulationReport) -> None:
    report.settings["model"], kept = "<b>&", report.settings["model"]
    try:
        assert "<b>&" not in simulation_page(report)
    finally:
        report.settings["model"] = kept


def test_a_chart_is_drawn_where_its_values_are() -> None:
    x, y = Axis.to(10.0), Axis.to(100.0)
    drawn = chart(
        "Load (%)",
        np.array([0.0, 5.0, 10.0]),
        [Series("a", np.array([50.0, 25.0]), "--one", "area"), Series("b", np.array([25.0, 400.0]), "--two", "area")],
        x=x,
        y=y,
        marks=[Mark("end", 2.5, "--ink", is_time=True), Mark("most", 75.0, "--ink")],
        height="5rem",
    )
    assert re.findall(r' d="([^"]+)"', drawn)[1:] == [
        "M0.0 50.00H500.0V75.00H1000.0L1000.0 100.00H500.0V100.00H0.0Z",
        "M0.0 25.00H500.0V0.00H1000.0L1000.0 75.00H500.0V50.00H0.0Z",
        "M250.0 0V100",
        "M0 25.00H1000",
    ]


@pytest.mark.parametrize(
    ("end", "ticks"),
    [
        (10, (0, 2.5, 5, 7.5, 10)),
        (0.9, (0, 0.25, 0.5, 0.75)),
        (411_520, (0, 200_000, 400_000)),
        (0, (0, 0.25, 0.5, 0.75, 1)),
    ],
)
def test_ticks_are_at_round_numbers(end: float, ticks: tuple[float, ...]) -> None:
    assert Axis.to(end).ticks == ticks


def test_times_are_in_readable_units() -> None:
    assert [duration(seconds) for seconds in (0.5, 119, 150, 7300)] == ["0.5 s", "119 s", "2.5 min", "2.0 h"]
    assert [duration(seconds) for seconds in (0, 3.2e-6, 1.5e-3)] == ["0 s", "3.2 µs", "1.5 ms"]
    assert [TimeUnit.of(seconds).symbol for seconds in (60, 200, 9000)] == ["s", "min", "h"]
    assert [TimeUnit.of(seconds).symbol for seconds in (5e-5, 0.02)] == ["µs", "ms"]
