"""The engine follows the planner: under `blend` and `paper` every answer is the one that any other order gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from blendserve import LLM, SamplingParams
from blendserve.engine import Engine, EngineRequest
from prompts import mixed_prompts, random_tokens, short_prompts
from tiny_models import build_llama

SCHEDULES = ["blend", "paper", "dfs", "random"]
KV_BLOCK = 16 * 256  # bytes, of 16 tokens
LIMITS = [0, 1, 5, 40, 120]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


def load(model_dir: Path, schedule: Any, *, num_blocks: int = 24, **settings: Any) -> LLM:
    settings = {"kv_memory": num_blocks * KV_BLOCK, "max_batch_tokens": 64, **settings}
    return LLM(model_dir, device="cpu", schedule=schedule, **settings)


def request(index: int, prompt: list[int], *, hint: int | None = None, **params: Any) -> EngineRequest:
    settings = SamplingParams(**{"temperature": 0, "ignore_eos": True, **params})
    return EngineRequest(np.array(prompt, np.int32), settings, str(index), hint)


def mixed_lengths() -> list[EngineRequest]:
    """Of known and unknown lengths, greedy and seeded, with one choice and with more, some with scored prompts."""
    return [
        request(
            i,
            prompt,
            max_tokens=LIMITS[i % 5],
            prompt_logprobs=1 if i % 5 == 0 else None,
            logprobs=2 if i % 4 == 0 else None,
            temperature=0.8 if i % 3 else 0.0,
            ignore_eos=i % 2 == 0,
            n=1 + i % 3,
        )
        for i, prompt in enumerate(short_prompts(30))
    ]


def wrong_hints() -> list[EngineRequest]:
    """The short answers are said to be long, and the long ones to be short."""
    stops = tuple(range(150, 384))
    return [
        request(i, prompt, max_tokens=130, min_tokens=LIMITS[i % 5], stop_token_ids=stops, hint=121 - LIMITS[i % 5])
        for i, prompt in enumerate(short_prompts(20))
    ]


def one_long_prompt() -> list[EngineRequest]:
    tiny = [[10 + i] for i in range(12)]
    prompts = [*tiny[:6], mixed_prompts()[3], *tiny[6:]]
    return [request(i, prompt, max_tokens=30, ignore_eos=False) for i, prompt in enumerate(prompts)]


def all_equal() -> list[EngineRequest]:
    return [request(i, list(range(40, 73)), max_tokens=20, temperature=0.7) for i in range(15)]


def room_for_three() -> list[EngineRequest]:
    """Each fills a third of the cache."""
    rng = Random(5)
    return [request(i, random_tokens(rng, 64), max_tokens=64, stop_token_ids=[7]) for i in range(9)]


JOBS = [mixed_lengths, wrong_hints, one_long_prompt, all_equal, room_for_three]


def run(engine: Engine) -> dict[int, Any]:
    answers = {}
    while (outputs := engine.step()) is not None:
        engine.scheduler.verify()
        for output in outputs:
            assert output.index not in answers
            choices = [(choice.token_ids, choice.finish_reason, choice.logprobs) for choice in output.outputs]
            answers[output.index] = (output.prompt_logprobs, choices)
    assert (engine.scheduler.num_unfinished, engine.scheduler.num_running) == (0, 0)
    assert engine.scheduler.num_available_blocks == engine.scheduler.num_blocks
    return answers


def answers_of(llm: LLM, requests: list[EngineRequest]) -> dict[int, Any]:
    llm.engine.add(requests)
    return run(llm.engine)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("make_job", JOBS)
def test_answers_are_those_of_any_order(
    model_dir: Path, make_job: Callable[[], list[EngineRequest]], schedule: str
) -> None:
    job = make_job()
    expected = answers_of(load(model_dir, "fcfs"), job)
    assert sorted(expected) == list(range(len(job)))
    assert answers_of(load(model_dir, schedule), job) == expected


@pytest.mark.parametrize("schedule", ["blend", "paper"])
def test_preempted_requests_of_a_plan_are_answered(model_dir: Path, schedule: str) -> None:
    llm = load(model_dir, schedule, num_blocks=12)
    assert answers_of(llm, mixed_lengths()) == answers_of(load(model_dir, "fcfs"), mixed_lengths())
    assert llm.stats.num_preemptions > 0


@pytest.mark.parametrize("schedule", ["blend", "paper"])
def test_a_model_answers_one_planned_job_after_another(model_dir: Path, schedule: str) -> None:
    llm = load(model_dir, schedule)
    jobs = [room_for_three(), [], mixed_lengths(), one_long_prompt()]
    start = 0
    for job in jobs:
        expected = answers_of(load(model_dir, "fcfs"), job)
        assert answers_of(llm, job) == {start + index: answer for index, answer in expected.items()}
        start += len(job)
    assert llm.stats.num_finished == sum(request.params.n for job in jobs for request in job)
    assert llm.engine.planning_s > 0


def test_requests_that_come_while_a_planned_job_runs_are_answered_after_it(model_dir: Path) -> None:
    llm = load(model_dir, "blend", max_batch_requests=1)
    llm.engine.add(one_long_prompt())
    llm.engine.step()
    late = llm.engine.add(all_equal())
    answers = run(llm.engine)
    assert sorted(list(answers)[-15:]) == list(late)
    assert answers == {
        **answers_of(load(model_dir, "fcfs"), one_long_prompt()),
        **dict(zip(late, answers_of(load(model_dir, "fcfs"), all_equal()).values(), strict=True)),
    }


@pytest.mark.parametrize("schedule", ["blend", "paper"])
def test_cancelled_requests_of_a_plan_leave_the_others_alone(model_dir: Path, schedule: str) -> None:
    llm = load(model_dir, schedule)
    llm.engine.add(mixed_lengths())
    for _ in range(3):
        llm.engine.step()
    llm.engine.cancel(range(10, 30))
    expected = answers_of(load(model_dir, "fcfs"), mixed_lengths())
    answers = run(llm.engine)
    assert answers == {index: expected[index] for index in answers}
    assert set(answers) >= set(range(10)) - {0, 1, 5, 6}  # those may have ended in the first steps


@pytest.mark.parametrize("schedule", ["blend", "paper"])
def test_a_failed_step_of_a_planned_job_is_run_again(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    llm = load(model_dir, schedule)
    llm.engine.add(mixed_lengths())
    for _ in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(llm.engine, "_run", lambda _plan: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                llm.engine.step()
        llm.engine.scheduler.verify()
    assert run(llm.engine) == answers_of(load(model_dir, "fcfs"), mixed_lengths())


def test_streams_may_be_read_in_turns(model_dir: Path) -> None:
    llm = load(model_dir, "blend")
    prompts, params = short_prompts(6), SamplingParams(temperature=0, max_tokens=8)
    expected = [output.token_ids for output in load(model_dir, "fcfs").generate(prompts, params)]
    first, second = llm.stream(prompts, params), llm.stream(prompts[::-1], params)
    taken = [next(first), next(second)]
    assert [o.token_ids for o in sorted([taken[0], *first], key=lambda o: o.index)] == expected
    second.close()  # type: ignore[attr-defined]
    assert [output.token_ids for output in llm.generate(prompts, params)] == expected


def test_what_a_planned_job_computed_is_kept_only_as_long_as_somebody_waits_to_read_it(model_dir: Path) -> None:
    prompts = [[*range(40, 73), 100 + i] for i in range(9)]
    requests = [request(i, prompt, max_tokens=20) for i, prompt in enumerate(prompts)]
    blend, dfs = (load(model_dir, schedule, num_blocks=12) for schedule in ("blend", "dfs"))
    assert answers_of(blend, requests) == answers_of(dfs, requests)
    assert blend.stats.num_cached_tokens >= dfs.stats.num_cached_tokens > 0
    assert blend.stats.num_dead_blocks > 0
    assert blend.stats.num_evicted_blocks < dfs.stats.num_evicted_blocks
    assert dfs.stats.num_dead_blocks == 0
