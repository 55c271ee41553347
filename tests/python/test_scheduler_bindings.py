"""The Python face of the step scheduler, as an engine builder embeds it; a formula stands in for the model."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from blendserve import StepPlan, StepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from paged_executor import PagedExecutor, answer


def make(num_blocks: int = 16, block_size: int = 4, **options: Any) -> StepScheduler:
    options = {"max_batch_tokens": 16, "max_batch_requests": 8, **options}
    return StepScheduler(num_blocks=num_blocks, block_size=block_size, **options)


def add_all(
    scheduler: StepScheduler, prompts: Sequence[Sequence[int]], max_new_tokens: int = 4, stop_set: int = 0
) -> int:
    return scheduler.add_requests(
        np.array([token for prompt in prompts for token in prompt], np.int32),
        np.cumsum([0, *map(len, prompts)], dtype=np.int64),
        np.full(len(prompts), max_new_tokens, np.int32),
        np.full(len(prompts), stop_set, np.int32),
    )


def run(scheduler: StepScheduler, executor: PagedExecutor | None = None) -> list[int]:
    """The docstring's loop; returns the requests in the order they finished."""
    executor = executor or PagedExecutor(scheduler, 4)
    finished: list[int] = []
    while step := scheduler.schedule():
        finished += scheduler.update(step, executor.run(step)).tolist()
        scheduler.verify()
    return finished


def test_the_loop_of_the_docstring_answers_every_request() -> None:
    scheduler = make()
    prompts = [[1, 2, 3], [1, 2, 3, 4, 0], [4]]
    assert add_all(scheduler, prompts) == 0
    assert scheduler.add_request([2, 2], max_new_tokens=3) == 3
    assert sorted(run(scheduler)) == [0, 1, 2, 3]
    for request_id, prompt in enumerate(prompts):
        assert scheduler.output_tokens(request_id).tolist() == answer(prompt, 4)
        assert scheduler.finish_reason(request_id) == "length"
    assert scheduler.output_tokens(3).tolist() == answer([2, 2], 3)
    assert scheduler.schedule() is None
    assert (scheduler.num_requests, scheduler.num_unfinished, scheduler.num_running) == (4, 0, 0)
    assert scheduler.num_available_blocks == scheduler.num_blocks == 16
    stats = scheduler.stats
    assert (stats.num_finished, stats.num_prompt_tokens, stats.num_output_tokens) == (4, 11, 15)
    assert (stats.num_steps, stats.num_preemptions, stats.num_recomputed_tokens) == (4, 0, 0)


def test_a_plan_holds_what_an_executor_needs_and_nothing_else() -> None:
    scheduler = make()
    add_all(scheduler, [[1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 3]])
    plan = scheduler.schedule()
    assert plan is not None
    expected = {
        "request_ids": (np.int32, [0, 1]),
        "qo_indptr": (np.int32, [0, 6, 7]),  # the second reads the block that the first computes
        "token_ids": (np.int32, [1, 2, 3, 4, 0, 1, 3]),
        "positions": (np.int32, [0, 1, 2, 3, 4, 5, 4]),
        "slot_mapping": (np.int64, [0, 1, 2, 3, 4, 5, 8]),
        "kv_lens": (np.int32, [6, 5]),
        "block_indptr": (np.int32, [0, 2, 4]),
        "block_table": (np.int32, [0, 1, 0, 2]),
        "logit_rows": (np.int32, [5, 6]),
        "sample_ids": (np.int32, [0, 1]),
        "sample_positions": (np.int32, [0, 0]),
    }
    for name, (dtype, values) in expected.items():
        array = getattr(plan, name)
        assert (array.dtype, array.tolist()) == (dtype, values), name
    assert plan.step == 0
    assert scheduler.num_cached_tokens(1) == 4
    assert "block 0: pending" in scheduler.to_string()


def test_a_plans_arrays_are_read_only_and_outlive_the_scheduler() -> None:
    scheduler = make()
    add_all(scheduler, [[1, 2, 3]])
    plan = scheduler.schedule()
    assert plan is not None
    token_ids = plan.token_ids
    with pytest.raises(ValueError, match="read-only"):
        token_ids[0] = 7
    with pytest.raises(AttributeError):
        plan.token_ids = token_ids  # type: ignore[misc]
    del scheduler
    gc.collect()
    assert plan.positions.tolist() == [0, 1, 2]
    del plan
    gc.collect()
    assert token_ids.tolist() == [1, 2, 3]


def test_added_buffers_are_borrowed_and_let_go_with_the_scheduler() -> None:
    scheduler = make()
    tokens = np.array([9, 1, 2, 3], np.int32)
    scheduler.add_requests(tokens, np.array([1, 4], np.int64), np.array([2], np.int32), np.array([0], np.int32))
    tokens[1] = 4  # seen, since nothing is copied: a caller must not do this
    plan = scheduler.schedule()
    assert plan is not None
    assert plan.token_ids.tolist() == [4, 2, 3]
    alive = weakref.ref(tokens)
    del tokens
    gc.collect()
    assert alive() is not None
    del scheduler
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.array([1, 2], np.int64)}, "tokens has dtype int64; it must be int32"),
        ({"tokens": np.array([1.0, 2.0])}, "tokens has dtype float64; it must be int32"),
        ({"tokens": np.array([[1, 2]], np.int32)}, "tokens must be one-dimensional and contiguous"),
        ({"tokens": np.array([1, 2, 3, 4], np.int32)[::2]}, "tokens must be one-dimensional and contiguous"),
        ({"offsets": np.array([0, 2], np.uint64)}, "offsets has dtype uint64; it must be int64"),
        ({"offsets": np.array([], np.int64)}, "offsets is empty; n prompts need n \\+ 1 offsets"),
        ({"offsets": np.array([-1, 2], np.int64)}, r"offsets\[0\] is -1; it must be 0 or more"),
        ({"offsets": np.array([0, 3], np.int64)}, "the last offset is 3, but there are only 2 tokens"),
        ({"offsets": np.array([2, 1], np.int64)}, r"offsets\[1\] is 1, less than the one before \(2\)"),
        ({"offsets": np.array([0, 1, 2], np.int64)}, "there are 2 prompts, but limits for 1"),
        ({"offsets": np.array([1, 1], np.int64)}, "request 0 has an empty prompt"),
        ({"max_new_tokens": np.array([4], np.uint32)}, "max_new_tokens has dtype uint32; it must be int32"),
        ({"max_new_tokens": np.array([-1], np.int32)}, "request 0 has max_new_tokens -1; it must be 0 or more"),
        (
            {"prompt_logprobs": np.array([-2], np.int32)},
            "request 0 has prompt_logprobs -2; it must be 0 or more, or -1",
        ),
        ({"prompt_logprobs": np.array([0, 0], np.int32)}, "there are 1 prompts, but prompt_logprobs for 2"),
        ({"max_new_tokens": np.array([63], np.int32)}, "request 0 needs 65 tokens of KV cache .* the cache holds 64"),
        ({"stop_sets": np.array([0, 0], np.int32)}, "stop_sets has 2 entries, max_new_tokens 1"),
        ({"stop_sets": np.array([1], np.int32)}, "request 0 has stop set 1, which is not registered"),
        ({"stop_sets": np.array([-1], np.int32)}, "request 0 has stop set -1, which is not registered"),
    ],
)
def test_a_wrong_array_is_named_and_nothing_is_added(changes: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {
        "tokens": np.array([1, 2], np.int32),
        "offsets": np.array([0, 2], np.int64),
        "max_new_tokens": np.array([4], np.int32),
        "stop_sets": np.array([0], np.int32),
    }
    scheduler = make()
    with pytest.raises(ValueError, match=message):
        scheduler.add_requests(**{**arrays, **changes})
    assert scheduler.num_requests == 0
    assert scheduler.schedule() is None
    assert scheduler.add_requests(**arrays) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "lifo"}, 'schedule is "lifo"; it must be one of fcfs, random, dfs'),
        ({"num_blocks": 0}, "num_blocks is 0; it must be"),
        ({"num_blocks": 2**31}, "num_blocks is 2147483648; it must be between 1 and 2147483647"),
        ({"block_size": 0}, "block_size is 0; it must be at least 1"),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; it must be at least 1"),
        ({"max_batch_requests": 17}, r"max_batch_requests is 17, more than max_batch_tokens \(16\)"),
        ({"plan": 3}, "plan is a int; it must be a blendserve.Plan or None"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_schedules_order_the_requests_by_their_names() -> None:
    prompts = [[3, 1], [1, 2, 2], [3], [1, 2], [0]]

    def order(schedule: str, seed: int = 0) -> list[int]:
        scheduler = make(schedule=schedule, max_batch_requests=1, seed=seed)
        add_all(scheduler, prompts, max_new_tokens=1)
        return run(scheduler)

    assert order("fcfs") == [0, 1, 2, 3, 4]
    assert order("dfs") == [4, 3, 1, 2, 0]
    assert sorted(order("random")) == [0, 1, 2, 3, 4]
    assert order("random", 1) == order("random", 1)
    assert len({tuple(order("random", seed)) for seed in range(8)}) > 2


def test_steps_and_updates_take_turns() -> None:
    scheduler = make()
    add_all(scheduler, [[1, 2, 3]])
    plan = scheduler.schedule()
    assert plan is not None
    with pytest.raises(ValueError, match=r"step 0 is in flight; pass it to update\(\) or abort_step\(\) first"):
        scheduler.schedule()
    with pytest.raises(ValueError, match=r"stop\(\) is called while the prompt of request 0"):
        scheduler.stop(0)
    with pytest.raises(ValueError, match=r"step 0 samples 1 tokens, but 2 were passed to update\(\)"):
        scheduler.update(plan, np.array([1, 2], np.int32))
    with pytest.raises(ValueError, match="sampled_tokens has dtype int64; it must be int32"):
        scheduler.update(plan, np.array([1]))
    assert scheduler.update(plan, np.array([1], np.int32)).tolist() == []
    with pytest.raises(ValueError, match="step 0 is not in flight"):
        scheduler.update(plan, np.array([1], np.int32))
    with pytest.raises(ValueError, match="step 0 is not in flight"):
        scheduler.abort_step(plan)


def test_a_plan_of_another_scheduler_is_refused() -> None:
    one, other = make(), make()
    add_all(one, [[1, 2, 3]] * 2)
    add_all(other, [[1, 2, 3]])
    plan, own = one.schedule(), other.schedule()
    assert plan is not None
    assert own is not None
    with pytest.raises(ValueError, match="step 0 is not in flight"):
        other.update(plan, np.array([1, 1], np.int32))
    with pytest.raises(ValueError, match="step 0 is not in flight"):
        other.abort_step(plan)
    other.update(own, np.array([1], np.int32))


def test_an_aborted_step_is_run_again_with_the_output_kept() -> None:
    scheduler = make()
    add_all(scheduler, [[1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 3]])
    executor = PagedExecutor(scheduler, 4)
    first = scheduler.schedule()
    assert first is not None
    scheduler.update(first, executor.run(first))
    second = scheduler.schedule()
    assert second is not None
    scheduler.abort_step(second)
    scheduler.verify()
    assert scheduler.num_running == 0
    assert scheduler.num_available_blocks == 16
    assert scheduler.output_tokens(0).tolist() == answer([1, 2, 3, 4, 0, 1], 1)
    assert sorted(run(scheduler, executor)) == [0, 1]
    assert scheduler.output_tokens(0).tolist() == answer([1, 2, 3, 4, 0, 1], 4)
    assert scheduler.output_tokens(1).tolist() == answer([1, 2, 3, 4, 3], 4)


def test_a_stop_token_ends_a_request_and_equal_stop_sets_are_one() -> None:
    scheduler = make()
    expected = answer([1, 2], 8)
    assert scheduler.add_stop_set([]) == 0
    assert scheduler.add_stop_set([99, expected[2]]) == scheduler.add_stop_set([expected[2], 99]) == 1
    add_all(scheduler, [[1, 2]], max_new_tokens=8, stop_set=1)
    scheduler.add_request([1, 2], max_new_tokens=8, stop_token_ids=[expected[2]])
    run(scheduler)
    length = expected.index(expected[2]) + 1
    for request_id in (0, 1):
        assert scheduler.output_tokens(request_id).tolist() == expected[:length]
        assert scheduler.finish_reason(request_id) == "stop_token"


def test_a_request_may_be_stopped_and_forgotten_between_steps() -> None:
    scheduler = make(max_batch_requests=1)
    add_all(scheduler, [[1, 2, 3], [4, 4]], max_new_tokens=8)
    executor = PagedExecutor(scheduler, 4)
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.update(plan, executor.run(plan))
    with pytest.raises(ValueError, match=r"request 0 is not finished; stop\(\) it before forget\(\)"):
        scheduler.forget(0)
    scheduler.stop(0)  # running
    scheduler.stop(1)  # waiting
    scheduler.stop(1)  # again: nothing happens
    assert [scheduler.finish_reason(request_id) for request_id in (0, 1)] == ["stopped", "stopped"]
    assert scheduler.output_tokens(0).tolist() == answer([1, 2, 3], 1)
    assert scheduler.schedule() is None
    assert scheduler.num_available_blocks == 16
    scheduler.forget(0)
    assert scheduler.output_tokens(0).tolist() == []
    assert scheduler.finish_reason(0) == "stopped"
    assert scheduler.stats.num_finished == 2


def test_answers_are_taken_in_the_order_asked_for_and_no_longer_kept() -> None:
    scheduler = make()
    add_all(scheduler, [[1, 2, 3], [2, 2]], 3)
    run(scheduler)
    expected = [(tuple(answer(prompt, 3)), "length") for prompt in ([2, 2], [1, 2, 3])]
    assert scheduler.take_answers(np.array([1, 0], np.int32)) == expected
    assert [scheduler.output_tokens(request_id).tolist() for request_id in (0, 1)] == [[], []]
    assert scheduler.take_answers(np.array([], np.int32)) == []


def test_the_answer_of_a_request_that_runs_is_refused() -> None:
    scheduler = make()
    add_all(scheduler, [[1]])
    with pytest.raises(ValueError, match=r"request 0 is not finished"):
        scheduler.take_answers(np.array([0], np.int32))


@pytest.mark.parametrize("call", ["stop", "forget", "output_tokens", "finish_reason", "num_cached_tokens"])
@pytest.mark.parametrize("request_id", [-1, 1])
def test_an_unknown_request_is_refused(call: str, request_id: int) -> None:
    scheduler = make()
    add_all(scheduler, [[1]])
    with pytest.raises(ValueError, match=f"there is no request {request_id}; 1 were added"):
        getattr(scheduler, call)(request_id)


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=14)  # of two tokens: prefixes are shared by chance


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(PROMPTS, min_size=1, max_size=12),
    max_new_tokens=st.integers(1, 9),
    num_tokens=st.integers(24, 80),
    block_size=st.integers(1, 6),
    max_batch_tokens=st.integers(1, 20),
    schedule=st.sampled_from(["fcfs", "dfs", "random"]),
)
def test_every_request_gets_its_answer_and_every_block_comes_back(
    prompts: list[list[int]],
    max_new_tokens: int,
    num_tokens: int,
    block_size: int,
    max_batch_tokens: int,
    schedule: str,
) -> None:
    scheduler = make(
        num_blocks=-(-num_tokens // block_size),
        block_size=block_size,
        max_batch_tokens=max_batch_tokens,
        max_batch_requests=min(4, max_batch_tokens),
        schedule=schedule,
    )
    add_all(scheduler, prompts, max_new_tokens)
    assert sorted(run(scheduler, PagedExecutor(scheduler, block_size))) == list(range(len(prompts)))
    for request_id, prompt in enumerate(prompts):
        assert scheduler.output_tokens(request_id).tolist() == answer(prompt, max_new_tokens)
    assert scheduler.num_available_blocks == scheduler.num_blocks


class SchedulerLife(RuleBasedStateMachine):
    """Requests come, steps run or fail, requests are stopped, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = make(num_blocks=9, block_size=3, max_batch_tokens=7, max_batch_requests=4, schedule="dfs")
        self.executor = PagedExecutor(self.scheduler, 3)
        self.expected: list[list[int]] = []
        self.stopped: set[int] = set()
        self.plan: StepPlan | None = None

    @precondition(lambda self: len(self.expected) < 30)
    @rule(prompts=st.lists(PROMPTS, min_size=1, max_size=3), max_new_tokens=st.integers(1, 9), stop=st.integers(0, 9))
    def add(self, prompts: list[list[int]], max_new_tokens: int, stop: int) -> None:
        first = add_all(self.scheduler, prompts, max_new_tokens, self.scheduler.add_stop_set([stop]))
        assert first == len(self.expected)
        self.expected += [answer(prompt, max_new_tokens, stop) for prompt in prompts]

    @precondition(lambda self: self.plan is None)
    @rule()
    def schedule(self) -> None:
        self.plan = self.scheduler.schedule()
        assert (self.plan is None) == (self.scheduler.num_unfinished == 0)

    @precondition(lambda self: self.plan is not None)
    @rule()
    def update(self) -> None:
        assert self.plan is not None
        finished = self.scheduler.update(self.plan, self.executor.run(self.plan))
        for request_id in finished.tolist():
            assert self.scheduler.output_tokens(request_id).tolist() == self.expected[request_id]
        self.plan = None

    @precondition(lambda self: self.plan is not None)
    @rule()
    def abort(self) -> None:
        assert self.plan is not None
        self.scheduler.abort_step(self.plan)
        self.plan = None

    @precondition(lambda self: self.plan is None and self.expected)
    @rule(choice=st.integers(0, 10**6))
    def stop(self, choice: int) -> None:
        request_id = choice % len(self.expected)
        if self.scheduler.finish_reason(request_id) is None:
            self.stopped.add(request_id)
        self.scheduler.stop(request_id)

    @precondition(lambda self: self.plan is None)
    @invariant()
    def every_invariant_holds_between_steps(self) -> None:
        self.scheduler.verify()

    def teardown(self) -> None:
        if self.plan is not None:
            self.update()
        while (plan := self.scheduler.schedule()) is not None:
            self.scheduler.update(plan, self.executor.run(plan))
        self.scheduler.verify()
        assert self.scheduler.num_available_blocks == 9
        for request_id, expected in enumerate(self.expected):
            output = self.scheduler.output_tokens(request_id).tolist()
            assert output == (expected[: len(output)] if request_id in self.stopped else expected)


TestSchedulerLife = SchedulerLife.TestCase
TestSchedulerLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_scored_prompt_names_its_rows_and_the_tokens_behind_them() -> None:
    scheduler = make(max_prompt_logits=3)
    scheduler.add_request([5, 6, 7, 8, 9], max_new_tokens=0, prompt_logprobs=0)
    seen = []
    while step := scheduler.schedule():
        seen.append((step.prompt_logit_rows.tolist(), step.prompt_next_tokens.tolist(), len(step.sample_ids)))
        finished = scheduler.update(step, np.empty(0, np.int32))
    assert seen == [([0, 1, 2], [6, 7, 8], 0), ([0], [9], 0)]
    assert (finished.tolist(), scheduler.finish_reason(0), scheduler.output_tokens(0).tolist()) == ([0], "length", [])
