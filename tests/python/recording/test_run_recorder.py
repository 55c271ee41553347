"""What is recorded of an engine's steps, held against the engine's own counts and the performance model by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import _core
from blendserve._core import CostModel, TimeCorrection
from blendserve.engine import EngineRequest, run_recorder
from blendserve.engine.window_planner import engine_specs
from blendserve.recording import RunReport
from tiny_models import build_llama

SHARED = list(range(10, 58))  # three blocks
PROMPTS = [[*SHARED, 60 + i] for i in range(4)] + [[200 + i] for i in range(2)]
OUTPUT_LENS = [5, 6, 7, 8, 30, 40]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), eos_token_id=None)


def recorded(model_dir: Path, **options: Any) -> bs.LLM:
    llm = bs.LLM(model_dir, kv_memory=64 * 16 * 256 * 2, seed=3, **options)
    llm.engine.recorder = run_recorder(model_dir, llm.model_config, llm.config)
    return llm


def report_of(llm: bs.LLM) -> RunReport:
    assert llm.engine.recorder is not None
    report = llm.engine.recorder.report(
        llm.engine.pacing.correction, stage_s=llm.engine.clock.seconds, step_stage_s=llm.engine.step_clock.seconds
    )
    assert report is not None
    return report


def run(model_dir: Path, *, prompts: Sequence[Sequence[int]] = PROMPTS, n: int = 1, **options: Any) -> RunReport:
    llm = recorded(model_dir, **options)
    requests = [
        EngineRequest(np.array(prompt, np.int32), bs.SamplingParams(max_tokens=length, n=n, ignore_eos=True), str(i))
        for i, (prompt, length) in enumerate(zip(prompts, OUTPUT_LENS, strict=False))
    ]
    llm.engine.add(requests)
    while llm.engine.step() is not None:
        pass
    report, stats = report_of(llm), llm.stats
    assert (report.steps, report.output_tokens) == (stats.num_steps, stats.num_output_tokens)
    assert (report.prompt_tokens, report.preemptions) == (stats.num_prompt_tokens, stats.num_preemptions)
    assert report.sharing_ratio == pytest.approx(stats.num_cached_tokens / stats.num_prompt_tokens)
    return report


@pytest.mark.parametrize("async_scheduling", [True, False])
@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_the_report_counts_what_the_engine_did(model_dir: Path, schedule: str, async_scheduling: bool) -> None:
    started = time.perf_counter()
    report = run(model_dir, schedule=schedule, async_scheduling=async_scheduling)
    wall_s = time.perf_counter() - started
    assert report.num_sequences == 6
    assert (report.prompt_tokens, report.output_tokens) == (4 * 49 + 2, sum(OUTPUT_LENS))
    assert report.sharing_ratio_reachable == pytest.approx(3 * 48 / report.prompt_tokens)
    assert report.sharing_fraction_of_optimal == pytest.approx(1)
    assert 0 < report.total_s < wall_s
    assert report.settings["device"] == "cpu"


def test_a_predicted_step_is_the_performance_models(model_dir: Path) -> None:
    """One request of 40 tokens in and 3 out: a chunk and two decode steps."""
    report = run(model_dir, prompts=[list(range(20, 60))])
    llm = recorded(model_dir)
    cost = CostModel(*engine_specs(model_dir, llm.model_config, llm.config))
    steps = [_core.BatchDesc() for _ in range(5)]
    steps[0].add_chunk(0, 40)
    for i, step in enumerate(steps[1:]):
        step.add_decode(41 + i)
    times = [cost.step_time(step, "sequential") for step in steps]
    assert report.predicted_s == pytest.approx(sum(one.total_s for one in times))
    assert report.compute_s == pytest.approx(sum(one.compute_s for one in times))
    assert report.memory_s == pytest.approx(sum(one.memory_s for one in times))


def test_every_choice_is_a_sequence(model_dir: Path) -> None:
    report = run(model_dir, n=3)
    assert report.num_sequences == 18
    assert report.output_tokens == 3 * sum(OUTPUT_LENS)


@pytest.mark.parametrize("async_scheduling", [True, False])
def test_the_steps_add_up_to_the_run_and_the_stages_to_the_steps(model_dir: Path, async_scheduling: bool) -> None:
    report = run(model_dir, async_scheduling=async_scheduling)
    assert set(report.stage_s) == {"schedule", "step", "update", "answers"}
    assert set(report.step_stage_s) == {"model", "sampling"}
    assert 0.8 * report.total_s < sum(report.stage_s.values())
    assert sum(report.step_stage_s.values()) < report.total_s
    assert report.timeline["duration_s"].sum() == pytest.approx(report.total_s)


@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_windows_of_one_run_are_one_report(model_dir: Path, schedule: str) -> None:
    """A planned window has a scheduler of its own, whose counts and ids begin at 0 again; equal requests run once."""
    llm = recorded(model_dir, schedule=schedule)
    for output_len in (2, 3, 5):
        prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[1]]
        llm.generate(prompts, bs.SamplingParams(max_tokens=output_len, temperature=0, ignore_eos=True))
    report = report_of(llm)
    assert report.num_sequences == 6
    assert report.timeline["prompt_tokens"].sum() == report.prompt_tokens == 6 * 49
    assert report.timeline["output_tokens"].sum() == report.output_tokens == 2 * (2 + 3 + 5)
    assert report.steps == llm.stats.num_steps


def test_there_is_no_report_where_nothing_ran(model_dir: Path) -> None:
    recorder = recorded(model_dir).engine.recorder
    assert recorder is not None
    assert recorder.report(TimeCorrection(), stage_s={}, step_stage_s={}) is None
