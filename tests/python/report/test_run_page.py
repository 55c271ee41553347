"""The page of a real run: what it says and draws, and that it needs nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from blendserve._core import TimeCorrection
from blendserve.recording import RunReport
from blendserve.report.run_page import run_page
from blendserve.simulation.results import BoundFigures
from pages import assert_whole_html

COLUMNS = {
    "duration_s": [2.0, 2.0],
    "predicted_s": [1.0, 1.5],
    "compute_s": [0.75, 0.25],
    "memory_s": [0.25, 1.25],
    "steps": [10.0, 20.0],
    "prompt_tokens": [1000.0, 1000.0],
    "cached_tokens": [0.0, 500.0],
    "output_tokens": [10.0, 190.0],
    "preemptions": [0.0, 3.0],
    "running_s": [10.0, 20.0],
    "held_tokens_s": [1000.0, 2000.0],
    "memory_tokens_s": [500.0, 500.0],
}

REPORT = RunReport(
    settings={
        "version": "1", "model": "tiny", "device": "cpu", "schedule": "blend", "dtype": "float32",
        "kv_dtype": "bfloat16", "max_batch_tokens": 512, "seed": 0,
    },
    num_sequences=12,
    prompt_tokens=2000,
    output_tokens=200,
    density=1.5,
    sharing_ratio=0.25,
    sharing_ratio_reachable=0.5,
    kv_capacity_tokens=4096,
    bound=BoundFigures(t_comp_s=1.0, t_mem_s=1.0, ideal_s=1.0, practical_s=1.0),
    total_s=4.0,
    predicted_s=2.5,
    compute_s=1.0,
    memory_s=1.5,
    correction=TimeCorrection(1.25, 0.5),
    steps=30,
    preemptions=3,
    stage_s={"loading": 1.0, "step": 3.0, "a new stage": 0.0},
    step_stage_s={"model": 3.0, "sampling": 0.5},
    timeline={name: np.array(column) for name, column in COLUMNS.items()},
)  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return run_page(REPORT)


def test_it_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    assert_whole_html(page)


def test_it_sets_the_run_beside_its_prediction_and_its_bound(page: str) -> None:
    rows = re.findall(r"<tr.*?</tr>", page)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert ["this run (blend)", "4 s", "25.0%", "550", "50.0%", "3"] in cells
    assert ["its steps as predicted", "2.5 s", "40.0%", "880", "50.0%", "3"] in cells
    assert ["practical optimum", "1 s", "100.0%", "2,200", "100.0%", "0"] in cells
    assert "blend reached 25.0% of the practical optimum. " in page
    assert "Its steps took 1.60 times as long as predicted for cpu; " in page
    assert "75.0% of their time was the model&#x27;s." in page


def test_it_says_what_the_steps_were_paced_by(page: str) -> None:
    assert "arithmetic x 1.25, reads x 0.5" in page


def test_it_says_where_the_time_went(page: str) -> None:
    assert "<td>loading the model</td><td>1 s</td><td>25.0%</td>" in page
    assert "<tr class=best><td>waiting for the step</td><td>3 s</td><td>75.0%</td>" in page
    assert "<tr class=best><td>the model</td><td>3 s</td><td>85.7%</td>" in page
    assert "<td>a new stage</td><td>0 s</td><td>0.0%</td>" in page


def test_measured_and_predicted_steps_are_drawn_to_one_scale(page: str) -> None:
    """200 and 100 ms a step of 220 that the axis has; predicted are 25 and 62.5 of memory, on top 75 and 12.5."""
    chart = page[page.index("Time per step (ms)") : page.index("Compute, of compute and memory time")]
    assert re.findall(r' d="([^"]+)"', chart)[1:] == [
        "M0.0 88.64H500.0V71.59H1000.0L1000.0 100.00H500.0V100.00H0.0Z",
        "M0.0 54.55H500.0V65.91H1000.0L1000.0 71.59H500.0V88.64H0.0Z",
        "M0.0 9.09H500.0V54.55H1000.0",
        "M250.0 0V100",
    ]


def test_the_balance_is_the_share_of_compute(page: str) -> None:
    """75 % and 17 % of an axis to 105 %; the whole run has 40 %."""
    chart = page[page.index("Compute, of compute and memory time") : page.index("KV cache (tokens)")]
    assert re.findall(r' d="([^"]+)"', chart)[1:] == ["M0.0 28.57H500.0V84.13H1000.0", "M0 61.90H1000"]


def test_preemptions_are_drawn_where_there_are_some(page: str) -> None:
    assert "Preemptions so far" in page
    assert "Preemptions so far" not in run_page(dataclasses.replace(REPORT, preemptions=0))


def test_a_device_that_does_more_than_its_figures_say_keeps_the_bar_in_its_cell() -> None:
    fast = dataclasses.replace(REPORT, bound=dataclasses.replace(REPORT.bound, practical_s=8.0))
    assert "200.0%" in run_page(fast)
    assert 'style="width: 200.0%"' not in run_page(fast)


def test_names_are_escaped() -> None:
    assert "<b>&" not in run_page(dataclasses.replace(REPORT, settings={**REPORT.settings, "model": "<b>&"}))
