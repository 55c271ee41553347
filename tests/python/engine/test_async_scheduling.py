"""The next step is planned while one runs: every answer is what it is without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blendserve import SamplingParams
from blendserve.engine import EngineRequest
from prefix_runner import engine_of
from prompts import short_prompts
from test_planned_jobs import JOBS, answers_of, load, mixed_lengths, request
from tiny_models import build_llama


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


@pytest.mark.parametrize("schedule", ["blend", "dfs"])
@pytest.mark.parametrize("make_job", JOBS)
def test_answers_are_those_of_one_step_after_the_other(
    model_dir: Path, make_job: Callable[[], list[EngineRequest]], schedule: str
) -> None:
    job = make_job()
    expected = answers_of(load(model_dir, "fcfs"), job)
    assert answers_of(load(model_dir, schedule, async_scheduling=True), job) == expected


def test_preempted_requests_are_answered(model_dir: Path) -> None:
    llm = load(model_dir, "blend", num_blocks=12, async_scheduling=True)
    assert answers_of(llm, mixed_lengths()) == answers_of(load(model_dir, "fcfs"), mixed_lengths())
    assert llm.stats.num_preemptions > 0


def stopped_early(**params: Any) -> SamplingParams:
    return SamplingParams(temperature=0.9, seed=3, max_tokens=40, **params)


@pytest.mark.parametrize(
    "params",
    [
        {"stop_token_ids": list(range(0, 384, 4))},
        {"stop": ["e", "a", " "]},
        {"stop_token_ids": list(range(0, 384, 4)), "logprobs": 2, "repetition_penalty": 1.3, "n": 2},
    ],
)
def test_a_stop_found_late_changes_no_answer(model_dir: Path, params: dict[str, Any]) -> None:
    prompts = short_prompts(30)
    one_by_one, ahead = load(model_dir, "dfs"), load(model_dir, "dfs", async_scheduling=True)
    expected = one_by_one.generate(prompts, stopped_early(**params))
    assert {choice.finish_reason for output in expected for choice in output.outputs} >= {"stop"}
    answers = ahead.generate(prompts, stopped_early(**params))
    assert [output.outputs for output in answers] == [output.outputs for output in expected]
    assert ahead.stats.num_wasted_tokens > 0 == one_by_one.stats.num_wasted_tokens
    assert ahead.stats.num_output_tokens == one_by_one.stats.num_output_tokens


def test_one_call_after_another_and_one_that_is_ended_early(model_dir: Path) -> None:
    ahead, one_by_one = load(model_dir, "blend", async_scheduling=True), load(model_dir, "blend")
    params = stopped_early(stop_token_ids=list(range(0, 384, 8)))
    for prompts in (short_prompts(8), short_prompts(20)):
        next(ahead.stream(prompts, params))
        answers, expected = (llm.generate(prompts, params) for llm in (ahead, one_by_one))
        assert [output.outputs for output in answers] == [output.outputs for output in expected]
    assert ahead.engine.scheduler.num_unfinished == 0


def test_a_step_that_fails_is_raised_and_its_requests_run_again() -> None:
    failures = iter([False, True, False, True])
    job = [request(i, [2 + i, 9, 10], max_tokens=6) for i in range(5)]
    engine = engine_of(fails=lambda: next(failures, False), async_scheduling=True)
    engine.add(job)
    answers: dict[int, Any] = {}
    num_failures = 0
    while True:
        try:
            outputs = engine.step()
        except FloatingPointError:
            num_failures += 1
            engine.scheduler.verify()
            continue
        if outputs is None:
            break
        answers |= {output.index: output.outputs[0].token_ids for output in outputs}
    assert num_failures == 2
    expected = engine_of()
    expected.add(job)
    while (outputs := expected.step()) is not None:
        for output in outputs:
            assert answers.pop(output.index) == output.outputs[0].token_ids
    assert not answers
