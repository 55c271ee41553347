"""`LLM.submit`: prompts that come while others run, from any thread, in the order that is asked for."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blendserve import LLM, RequestError, RequestOutput, SamplingParams, UserError
from prompts import short_prompts
from tiny_models import build_llama

PROMPTS = short_prompts(12)
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
WAIT_S = 60


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


@pytest.fixture(params=["dfs", "blend"])
def llm(request: pytest.FixtureRequest, model_dir: Path) -> LLM:
    return load(model_dir, schedule=request.param)


@pytest.fixture(scope="module")
def expected(model_dir: Path) -> list[tuple[int, ...]]:
    return [output.token_ids for output in load(model_dir).generate(PROMPTS, GREEDY)]


def load(model_dir: Path, **settings: Any) -> LLM:
    return LLM(model_dir, device="cpu", **{"kv_memory": "1MiB", "max_batch_tokens": 32, **settings})


def tokens(outputs: list[RequestOutput]) -> list[tuple[int, ...]]:
    assert [output.index for output in outputs] == list(range(len(outputs)))
    return [output.token_ids for output in outputs]


def test_results_are_those_of_generate(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    first, second = llm.submit(PROMPTS[:8], GREEDY), llm.submit(PROMPTS[8:], GREEDY)
    assert (len(first), len(second)) == (8, 4)
    assert tokens(second.result()) == expected[8:]
    assert tokens(first.result()) == expected[:8]
    assert tokens(first.result()) == expected[:8]
    assert llm.generate(PROMPTS[0], GREEDY)[0].token_ids == expected[0]


def test_a_handle_does_no_work_until_somebody_waits(llm: LLM) -> None:
    submission = llm.submit(PROMPTS, GREEDY)
    assert not submission.done()
    assert llm.stats.num_steps == 0
    submission.result()
    assert submission.done()


def test_iterating_yields_results_as_they_finish_and_again(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (8, 1, 4)]
    submission = llm.submit(PROMPTS[:3], params)
    outputs = list(submission)
    assert [output.index for output in outputs] == [1, 2, 0]
    assert [output.token_ids for output in outputs] == [expected[1][:1], expected[2][:4], expected[0]]
    assert list(submission) == outputs


def test_a_stream_goes_on_while_prompts_are_submitted(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    stream = llm.stream(PROMPTS, GREEDY)
    outputs = [next(stream)]
    submission = llm.submit(PROMPTS[::-1], GREEDY)
    outputs += stream
    assert {output.index: output.token_ids for output in outputs} == dict(enumerate(expected))
    assert tokens(submission.result()) == expected[::-1]


def test_many_threads_submit_and_wait_at_once(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    barrier = threading.Barrier(8)

    def ask(thread: int) -> bool:
        barrier.wait(WAIT_S)
        for start in range(4):
            part = PROMPTS[start : start + 1 + thread]
            if thread % 2:
                answers = tokens(llm.submit(part, GREEDY, priority=thread).result())
            else:
                answers = tokens(llm.generate(part, GREEDY))
            assert answers == expected[start : start + 1 + thread]
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8), timeout=WAIT_S))
    llm.engine.scheduler.verify()
    assert llm.engine.scheduler.num_unfinished == 0
    assert not llm._shared._wanted
    assert not llm._shared._finished


def test_submissions_start_by_priority_then_deadline_then_arrival(model_dir: Path) -> None:
    llm = load(model_dir, schedule="fcfs", max_batch_requests=1)
    orders: list[dict[str, Any]] = [
        {},
        {"deadline": 100},
        {"deadline": 10},
        {"priority": 1},
        {"priority": 1, "deadline": 1000},
        {"priority": -1, "deadline": 0},
        {"deadline": 10},
    ]
    short = SamplingParams(temperature=0, max_tokens=1)
    for i, order in enumerate(orders):
        llm.submit(PROMPTS[i], short, **order)
    finished: list[int] = []
    while (outputs := llm.engine.step()) is not None:
        finished += [output.index for output in outputs]
    assert finished == [4, 3, 2, 6, 1, 0, 5]


@pytest.mark.parametrize(("schedule", "num_finished"), [("dfs", 8), ("blend", 12)])
def test_a_later_submission_waits_until_nothing_of_an_earlier_one_does(
    model_dir: Path, schedule: str, num_finished: int
) -> None:
    """With a plan of its own also until all of the earlier one has ended."""
    llm = load(model_dir, schedule=schedule, max_batch_requests=4)
    llm.submit(PROMPTS, GREEDY)
    llm.engine.step()
    llm.submit(PROMPTS[:6], GREEDY, priority=5)
    finished: list[int] = []
    while llm.engine.num_windows == 1:
        finished += [output.index for output in llm.engine.step() or []]
    assert len([index for index in finished if index < 12]) >= num_finished


def test_what_can_run_at_once_beside_the_others_need_not_wait(model_dir: Path, expected: list[tuple[int, ...]]) -> None:
    llm = load(model_dir, schedule="blend")
    long = llm.submit(PROMPTS[:3], SamplingParams(temperature=0, max_tokens=200, ignore_eos=True))
    stream = iter(llm.submit(PROMPTS[3:5], GREEDY))
    assert {next(stream).token_ids, next(stream).token_ids} == set(expected[3:5])
    assert not long.done()
    assert llm.engine.num_windows == 2


def test_cancelled_results_never_come_and_finished_ones_stay(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (2, 500, 500)]
    submission = llm.submit(PROMPTS[:3], params)
    waiting = llm.submit(PROMPTS, GREEDY)
    assert next(iter(submission)).token_ids == expected[0][:2]
    submission.cancel()
    waiting.cancel()
    assert submission.done()
    assert [output.index for output in submission.result()] == [0]
    assert waiting.result() == []
    llm.engine.scheduler.verify()
    assert llm.engine.scheduler.num_unfinished == 0
    assert tokens(llm.generate(PROMPTS, GREEDY)) == expected


def test_a_thread_that_waits_is_told_that_its_prompts_are_cancelled(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = llm.submit(PROMPTS[0], SamplingParams(temperature=0, max_tokens=900, ignore_eos=True))
    run, cancel = llm.engine._runner.most_likely, threading.Event()

    def run_and_tell(plan: Any) -> Any:
        cancel.set()
        return run(plan)

    monkeypatch.setattr(llm.engine._runner, "most_likely", run_and_tell)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(submission.result)
        assert cancel.wait(WAIT_S)
        submission.cancel()
        assert waiting.result(WAIT_S) == []
    assert llm.stats.num_output_tokens < 900


def test_submitting_never_waits_for_a_step(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for one in flight that a thread waits for because it cancels."""
    llm = load(model_dir, async_scheduling=True)
    run, cancel = llm.engine._runner.most_likely, llm.engine.cancel
    may_run, may_end, cancels = threading.Semaphore(1), threading.Event(), threading.Event()

    def run_once(plan: Any) -> Any:
        assert may_run.acquire(blocking=False) or may_end.wait(WAIT_S)
        return run(plan)

    def cancel_and_tell(indices: Any) -> None:
        cancels.set()
        cancel(indices)

    monkeypatch.setattr(llm.engine._runner, "most_likely", run_once)
    monkeypatch.setattr(llm.engine, "cancel", cancel_and_tell)
    submission = llm.submit([[5], [6]], [SamplingParams(temperature=0, max_tokens=1), GREEDY])
    assert next(iter(submission)).index == 0
    with ThreadPoolExecutor(2) as pool:
        try:
            cancelling = pool.submit(submission.cancel)
            assert cancels.wait(WAIT_S)
            other = pool.submit(llm.submit, PROMPTS, GREEDY).result(timeout=5)
            assert not cancelling.done()
        finally:
            may_end.set()
    assert len(other.result()) == len(PROMPTS)
    assert len(submission.result()) == 1


def test_a_step_that_fails_while_it_is_waited_for_to_cancel_loses_no_result(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = load(model_dir, async_scheduling=True)
    short = SamplingParams(temperature=0, max_tokens=1)
    submission = llm.submit([[5], [6], [7]], [short, short, GREEDY])
    run, num_steps = llm.engine._runner.most_likely, iter(range(2))
    monkeypatch.setattr(llm.engine._runner, "most_likely", lambda plan: run(plan) if next(num_steps) == 0 else 1 / 0)
    other = llm.submit([[8]], short)
    assert len(other.result()) == 1  # by a step that answers two of the first three too
    with pytest.raises(ZeroDivisionError):
        submission.cancel()
    assert [output.index for output in submission.result()] == [0, 1]


def test_a_failing_step_is_told_to_the_thread_that_drives(
    llm: LLM, expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = llm.submit(PROMPTS, GREEDY)
    with monkeypatch.context() as patch:
        patch.setattr(llm.engine._runner, "most_likely", lambda _plan: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            submission.result()
    assert tokens(submission.result()) == expected


def test_answers_of_a_step_that_was_interrupted_are_not_waited_for(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = llm.submit([5], SamplingParams(temperature=0, max_tokens=1))

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(llm.engine._answers, "accept", interrupt)
        with pytest.raises(KeyboardInterrupt):
            submission.result()
    with pytest.raises(RuntimeError, match="answers are missing"):
        submission.result()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompts": [[5], []]}, RequestError, r"prompts\[1\]: the prompt is empty"),
        ({"prompts": None}, UserError, "prompts is None; it must be a string"),
        ({"prompts": ["a"], "params": [GREEDY] * 2}, UserError, "there are 1 prompts, but params for 2"),
        ({"prompts": "a", "priority": "high"}, UserError, "priority is 'high'; it must be a finite number"),
        ({"prompts": "a", "priority": None}, UserError, "priority is None; it must be a finite number"),
        ({"prompts": "a", "deadline": math.nan}, UserError, "deadline is nan; it must be a finite number"),
        ({"prompts": "a", "deadline": True}, UserError, "deadline is True; it must be a finite number"),
    ],
)
def test_what_cant_be_used_is_named_and_nothing_is_queued(
    llm: LLM, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        llm.submit(**arguments)
    assert llm.engine.step() is None


def test_nothing_to_answer_is_done_at_once(llm: LLM) -> None:
    submission = llm.submit([])
    assert (submission.done(), submission.result(), list(submission)) == (True, [], [])
