"""Steps are paced by the times that they take, and a run can be had again: by the device alone, or by a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import _core
from blendserve.engine import Pacing
from blendserve.recording import CorrectionChange
from step_plans import recorded_steps
from tiny_models import build_llama

BANDWIDTH = 1e9


def device(bandwidth: float) -> bs.DeviceSpec:
    """At the full bandwidth eight tokens take as long as reading the weights."""
    flops = 4 * BANDWIDTH
    return bs.DeviceSpec(
        name="toy",
        flops_4_byte=flops,
        flops_2_byte=flops,
        flops_1_byte=flops,
        bandwidth=bandwidth,
        memory_bytes=1e12,
        token_tile=4,
    )


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), eos_token_id=None)


@pytest.fixture
def take(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """take(bandwidth): from now on steps take what they would on a device of that bandwidth."""

    def of(bandwidth: float) -> None:
        cost = _core.CostModel(bs.ModelSpec.from_hf(model_dir, weight_bytes=4), device(bandwidth))

        def timed(run: Any, plan: bs.StepPlan) -> Any:
            return run(plan), cost.step_time(_core.batch_of(plan), "sequential").total_s

        monkeypatch.setattr("blendserve.engine.step_executor._timed", timed)

    return of


def run(model_dir: Path, **settings: Any) -> tuple[bs.LLM, list[list[list[int]]]]:
    """160 requests, half of them of long prompts and half of long answers; returns what was run in which steps."""
    rng = np.random.default_rng(5)
    shapes = [(int(rng.integers(30, 60)), 2) if i % 2 else (4, int(rng.integers(20, 60))) for i in range(160)]
    prompts = [rng.integers(1, 300, prompt_len).tolist() for prompt_len, _ in shapes]
    params = [bs.SamplingParams(max_tokens=output_len, ignore_eos=True, temperature=0.0) for _, output_len in shapes]
    settings = {"schedule": "blend", "hardware": device(BANDWIDTH), **settings}
    llm = bs.LLM(model_dir, device="cpu", kv_memory="256KiB", max_batch_tokens=64, max_batch_requests=8, **settings)
    with recorded_steps() as steps:
        llm.generate(prompts, params)
    return llm, steps


def test_steps_that_read_for_longer_than_predicted_are_made_wider(model_dir: Path, take: Any) -> None:
    take(BANDWIDTH)
    as_predicted, steps = run(model_dir)
    take(BANDWIDTH / 4)
    slower, fewer_steps = run(model_dir)
    assert as_predicted.engine.pacing.num_changes == 0
    correction = slower.engine.pacing.correction
    assert (correction.compute, correction.memory) == (pytest.approx(1, rel=0.05), pytest.approx(4, rel=0.05))
    assert steps[:256] == fewer_steps[:256]
    assert len(fewer_steps) < len(steps)


@pytest.mark.parametrize("schedule", ["blend", "paper", "dfs"])
def test_deterministic_schedules_do_not_depend_on_times(model_dir: Path, take: Any, schedule: str) -> None:
    take(BANDWIDTH)
    _, steps = run(model_dir, schedule=schedule, deterministic_schedule=True)
    take(BANDWIDTH / 4)
    llm, same_steps = run(model_dir, schedule=schedule, deterministic_schedule=True)
    assert same_steps == steps
    assert llm.engine.pacing.correction == _core.TimeCorrection()


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_logged_schedule_is_replayed_whatever_steps_take(
    model_dir: Path, take: Any, tmp_path: Path, async_scheduling: bool
) -> None:
    log = tmp_path / "schedule.jsonl"
    take(BANDWIDTH / 4)
    _, steps = run(model_dir, schedule_log=log, async_scheduling=async_scheduling)
    header, *changes = [json.loads(line) for line in log.read_text().splitlines()]
    assert header["max_batch_tokens"] == 64
    assert [change["after_steps"] % 256 for change in changes] == [0] * len(changes)
    assert changes

    take(BANDWIDTH)
    copy = tmp_path / "copy.jsonl"
    settings = {"replay_schedule": log, "schedule_log": copy, "async_scheduling": async_scheduling}
    assert run(model_dir, **settings)[1] == steps
    assert copy.read_text() == log.read_text()
    assert run(model_dir, async_scheduling=async_scheduling)[1] != steps


def test_a_log_of_another_device_is_refused(model_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "schedule.jsonl"
    run(model_dir, schedule_log=log)
    with pytest.raises(bs.UserError, match="is of a run with another hardware"):
        run(model_dir, replay_schedule=log, hardware=device(BANDWIDTH / 2))
    with pytest.raises(bs.UserError, match="is of a run with another seed: 0, not 3; a schedule is replayed with"):
        run(model_dir, replay_schedule=log, seed=3)


def test_corrections_outlive_a_scheduler(model_dir: Path, take: Any) -> None:
    """The second call has a scheduler of its own, and steps of the width that the first one learned."""
    take(BANDWIDTH / 4)
    experienced, _ = run(model_dir)
    fresh = bs.LLM(
        model_dir, device="cpu", kv_memory="256KiB", max_batch_tokens=64, max_batch_requests=8,
        hardware=device(BANDWIDTH), schedule="blend",
    )  # fmt: skip
    num_steps = []
    for llm in (experienced, fresh):
        with recorded_steps() as steps:
            llm.generate([[7 + i] * 50 for i in range(20)], bs.SamplingParams(max_tokens=2, ignore_eos=True))
        num_steps.append(len(steps))
    assert num_steps[0] < num_steps[1]


def test_a_pacing_counts_the_steps_that_ran() -> None:
    corrections = [_core.TimeCorrection(2.0, 1.0), _core.TimeCorrection(1.0, 0.5)]
    pacing = Pacing(replays=[CorrectionChange(2, corrections[0]), CorrectionChange(4, corrections[1])])
    plan: Any = None
    assert [pacing.stepped(plan, 0.1) for _ in range(5)] == [False, True, False, True, False]
    assert (pacing.correction, pacing.num_changes) == (corrections[1], 2)


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(bs.UserError, match="choose one of the two"):
        bs.EngineConfig(deterministic_schedule=True, replay_schedule=tmp_path / "log.jsonl")
    with pytest.raises(bs.UserError, match="schedule_log is 7; it must be the path of a file"):
        bs.EngineConfig(schedule_log=7)  # type: ignore[arg-type]
    with pytest.raises(bs.UserError, match="deterministic_schedule is 1; it must be True or False"):
        bs.EngineConfig(deterministic_schedule=1)  # type: ignore[arg-type]
