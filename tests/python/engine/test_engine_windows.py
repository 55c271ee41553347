"""When an engine starts a window, and what it keeps from one to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blendserve import LLM, SamplingParams
from blendserve.engine import Engine, EngineRequest
from prompts import short_prompts
from tiny_models import build_llama

PROMPTS = short_prompts(12)
SHARED = list(range(40, 88))  # three blocks


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


def load(model_dir: Path, **settings: Any) -> LLM:
    return LLM(model_dir, device="cpu", **{"kv_memory": "1MiB", "max_batch_tokens": 32, **settings})


def requests(prompts: list[list[int]], max_tokens: int = 8) -> list[EngineRequest]:
    params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    return [EngineRequest(np.array(prompt, np.int32), params, str(i)) for i, prompt in enumerate(prompts)]


def run(engine: Engine) -> dict[int, tuple[int, ...]]:
    answers = {}
    while (outputs := engine.step()) is not None:
        engine.scheduler.verify()
        answers.update({output.index: output.outputs[0].token_ids for output in outputs})
    return answers


def started_at(engine: Engine, num_windows: int) -> tuple[int, int]:
    """Requests that are not finished, and that wait, when a window has just started, itself left out."""
    while engine.num_windows < num_windows:
        before = engine.scheduler.num_unfinished, engine.scheduler.num_running
        assert engine.step() is not None
    return before[0], before[0] - before[1]


@pytest.mark.parametrize("schedule", ["dfs", "fcfs", "random"])
def test_a_window_starts_while_the_last_of_another_run(model_dir: Path, schedule: str) -> None:
    engine = load(model_dir, schedule=schedule, max_batch_requests=4).engine
    engine.add(requests(PROMPTS))
    engine.add(requests(PROMPTS))
    scheduler = engine.scheduler
    num_unfinished, num_waiting = started_at(engine, 2)
    assert 0 < num_unfinished <= 4
    assert num_waiting == 0
    assert engine.scheduler is scheduler
    assert len(run(engine)) > 12


def test_a_window_with_a_plan_starts_when_the_last_one_has_ended(model_dir: Path) -> None:
    engine = load(model_dir, schedule="blend", max_batch_requests=4).engine
    engine.add(requests(PROMPTS))
    engine.step()
    scheduler = engine.scheduler
    engine.add(requests(PROMPTS))
    assert started_at(engine, 2) == (0, 0)
    assert engine.scheduler is not scheduler


def test_there_is_work_that_waits_until_all_of_it_has_started(model_dir: Path) -> None:
    engine = load(model_dir, schedule="fcfs", max_batch_requests=4).engine
    assert not engine.has_waiting
    engine.add(requests(PROMPTS[:6]))
    assert engine.has_waiting
    while engine.has_waiting:
        assert engine.step() is not None
    assert 0 < engine.scheduler.num_unfinished <= 4


def test_what_is_cached_stays_for_the_next_window(model_dir: Path) -> None:
    llm = load(model_dir)
    llm.generate([[*SHARED, 5]])
    assert llm.generate([[*SHARED, 6]])[0].num_cached_tokens == 48


@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_a_scheduler_that_has_had_many_requests_is_replaced(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    expected = run_windows(load(model_dir, schedule=schedule))
    monkeypatch.setattr("blendserve.engine.schedulers._MAX_ROWS", 6)
    llm = load(model_dir, schedule=schedule)
    assert run_windows(llm) == expected
    assert llm.engine.scheduler.num_requests <= 6
    assert llm.stats.num_finished == llm.engine.num_windows * 4 == 12


def run_windows(llm: LLM) -> dict[int, tuple[int, ...]]:
    for start in range(0, 12, 4):
        llm.engine.add(requests(PROMPTS[start : start + 4]))
    return run(llm.engine)


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_of_a_window_that_waits_the_rest_runs_when_some_is_cancelled(model_dir: Path, async_scheduling: bool) -> None:
    engine = load(model_dir, max_batch_requests=4, async_scheduling=async_scheduling).engine
    engine.add(requests(PROMPTS))
    engine.step()
    waiting = engine.add(requests(PROMPTS))
    engine.cancel(waiting[2:])
    answers = run(engine)
    assert {index for index in answers if index >= waiting.start} == set(waiting[:2])
    assert answers[waiting[1]] == answers[1]


def test_a_request_is_not_taken_for_one_that_another_scheduler_has_ended(model_dir: Path) -> None:
    llm = load(model_dir, schedule="blend")
    params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True, logprobs=0)
    first, second = (llm.generate(PROMPTS[0], params)[0] for _ in range(2))
    assert first.outputs == second.outputs
    assert len(second.logprobs or ()) == 4


@pytest.mark.parametrize("schedule", ["dfs", "blend", "paper"])
def test_windows_that_wait_for_one_another_are_answered_with_a_step_in_flight(model_dir: Path, schedule: str) -> None:
    expected = run_together(load(model_dir, schedule="fcfs"), 1)
    engine_settings: dict[str, Any] = {"schedule": schedule, "max_batch_requests": 4, "async_scheduling": True}
    answers = run_together(load(model_dir, **engine_settings), 3)
    assert answers == {12 * window + index: answer for window in range(3) for index, answer in expected.items()}


def run_together(llm: LLM, num_windows: int) -> dict[int, tuple[int, ...]]:
    for _ in range(num_windows):
        llm.engine.add(requests(PROMPTS))
    answers = {}
    while (outputs := llm.engine.step()) is not None:
        answers.update({output.index: output.outputs[0].token_ids for output in outputs})
    return answers
