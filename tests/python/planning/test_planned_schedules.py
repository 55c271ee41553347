"""A plan run to its end by a StepScheduler; a formula stands in for the model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import StepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_executor import PagedExecutor, answer
from planning.jobs import MixedJob, plan_of
from planning.naive_trie import arrays_of, prompt_lists

SCHEDULES = st.sampled_from([None, "paper", "fcfs", "dfs", "random"])
JOB = MixedJob.random(60)


def scheduler_of(plan: Any, num_blocks: int = 200, **options: Any) -> StepScheduler:
    options = {"block_size": 4, "max_batch_tokens": 32, "max_batch_requests": 8, **options}
    return StepScheduler(plan, num_blocks=num_blocks, **options)


def run(scheduler: StepScheduler, between_steps: Callable[[int], None] = lambda _: None) -> list[int]:
    """The requests in the order they finished."""
    executor = PagedExecutor(scheduler, 4)
    finished: list[int] = []
    while step := scheduler.schedule():
        finished += scheduler.update(step, executor.run(step)).tolist()
        scheduler.verify()
        between_steps(step.step)
    assert scheduler.num_unfinished == 0
    assert scheduler.num_available_blocks == scheduler.num_blocks
    return finished


@settings(deadline=None, max_examples=150)
@given(
    prompts=prompt_lists(tokens=st.integers(0, 2), min_len=1),
    schedule=SCHEDULES,
    num_blocks=st.integers(20, 40),
    max_batch_tokens=st.integers(1, 20),
    data=st.data(),
)
def test_every_request_is_answered_once_at_its_length(
    prompts: list[list[int]], schedule: str | None, num_blocks: int, max_batch_tokens: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(0, 30), min_size=len(prompts), max_size=len(prompts)))
    scheduler = scheduler_of(
        plan_of(prompts, lengths),
        num_blocks,
        schedule=schedule,
        max_batch_tokens=max_batch_tokens,
        max_batch_requests=min(5, max_batch_tokens),
    )
    assert sorted(run(scheduler)) == list(range(len(prompts)))
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        assert scheduler.output_tokens(row).tolist() == answer(prompt, max(length, 1))
        assert scheduler.finish_reason(row) == "length"


@settings(deadline=None, max_examples=60)
@given(prompts=prompt_lists(tokens=st.integers(0, 2), min_len=1), data=st.data())
def test_lengths_that_are_far_off_the_estimates_change_nothing_but_the_order(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    columns = [data.draw(st.lists(st.integers(1, 30), min_size=len(prompts), max_size=len(prompts))) for _ in range(2)]
    limits = np.array(columns[1], np.int32)
    scheduler = scheduler_of(plan_of(prompts, columns[0]), 24, max_new_tokens=limits)
    assert sorted(run(scheduler)) == list(range(len(prompts)))
    for row, prompt in enumerate(prompts):
        assert scheduler.output_tokens(row).tolist() == answer(prompt, limits[row])


class PlannedLife:
    """Steps that run or fail, requests that are stopped or come late: nothing is lost, and nothing waits for ever."""

    def __init__(self, scheduler: StepScheduler, prompts: list[list[int]], rng: np.random.Generator) -> None:
        self.scheduler = scheduler
        self.prompts = list(prompts)
        self.rng = rng
        self.stopped: set[int] = set()
        self.num_aborted = 0

    def run(self, num_late: int) -> None:
        executor = PagedExecutor(self.scheduler, 4)
        while True:
            step = self.scheduler.schedule()
            if step is None:
                assert self.scheduler.num_unfinished == 0
                if num_late == 0:
                    break
            elif self.rng.random() < 0.15:
                self.scheduler.abort_step(step)
                self.num_aborted += 1
            else:
                self.scheduler.update(step, executor.run(step))
            self.scheduler.verify()
            if num_late > 0 and self.rng.random() < 0.3:
                num_late -= 1
                self.add()
            if self.rng.random() < 0.1:
                self.stop(int(self.rng.integers(self.scheduler.num_requests)))

    def add(self) -> None:
        prompt = self.prompts[int(self.rng.integers(len(self.prompts)))] + [3]
        assert self.scheduler.add_request(prompt, max_new_tokens=6) == len(self.prompts)
        self.prompts.append(prompt)

    def stop(self, request_id: int) -> None:
        if self.scheduler.finish_reason(request_id) is None:
            self.stopped.add(request_id)
        self.scheduler.stop(request_id)


@settings(deadline=None, max_examples=100)
@given(
    prompts=prompt_lists(tokens=st.integers(0, 2), min_len=1, max_size=20),
    schedule=SCHEDULES,
    num_blocks=st.integers(15, 40),
    seed=st.integers(0, 2**32),
)
def test_failing_steps_stopped_requests_and_late_ones_lose_nothing(
    prompts: list[list[int]], schedule: str | None, num_blocks: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, len(prompts))
    life = PlannedLife(scheduler_of(plan_of(prompts, lengths), num_blocks, schedule=schedule), prompts, rng)
    life.run(num_late=5)
    limits = [*lengths.tolist(), *[6] * 5]
    for row, (prompt, limit) in enumerate(zip(life.prompts, limits, strict=True)):
        output, expected = life.scheduler.output_tokens(row).tolist(), answer(prompt, limit)
        assert output == (expected[: len(output)] if row in life.stopped else expected)
        assert life.scheduler.finish_reason(row) == ("stopped" if row in life.stopped else "length")
    assert life.scheduler.num_available_blocks == num_blocks


@pytest.mark.parametrize("schedule", ["paper", "fcfs"])
def test_a_small_cache_preempts_and_answers_all_the_same(schedule: str) -> None:
    scheduler = scheduler_of(JOB.plan(), 120, schedule=schedule)
    assert sorted(run(scheduler)) == list(range(60))
    assert scheduler.stats.num_preemptions > 0
    for row, (prompt, length) in enumerate(zip(JOB.prompts, JOB.lengths, strict=True)):
        assert scheduler.output_tokens(row).tolist() == answer(prompt, length)


def test_the_same_plan_is_scheduled_the_same_way_again_and_the_paper_way_by_default() -> None:
    plan = JOB.plan()
    order = run(scheduler_of(plan))
    assert run(scheduler_of(plan)) == run(scheduler_of(plan, schedule="paper")) == order
    assert run(scheduler_of(plan, schedule="fcfs")) != order


def test_the_dual_scanner_starts_at_both_ends_of_the_planned_tree() -> None:
    job = MixedJob.random(300)
    step = scheduler_of(job.plan(), 800, max_batch_tokens=2048, max_batch_requests=1024).schedule()
    assert step is not None
    is_heavy = np.array(job.lengths)[np.unique(step.request_ids)] >= 150
    assert 0 < is_heavy.sum() < len(is_heavy)


def test_stopped_requests_that_wait_and_that_run_make_room_for_the_others() -> None:
    scheduler = scheduler_of(JOB.plan())

    def stop_most(step: int) -> None:
        if step == 3:
            for row in range(0, 60, 2):
                scheduler.stop(row)

    finished = run(scheduler, stop_most)
    assert set(range(1, 60, 2)) <= set(finished)
    assert len(finished) == len(set(finished))
    assert {scheduler.finish_reason(row) for row in range(0, 60, 2)} >= {"stopped"}
    assert scheduler.stats.num_finished == 60


def test_requests_beyond_the_plan_run_after_it() -> None:
    scheduler = scheduler_of(plan_of([[1, 2], [3, 4]], [2, 2]), max_batch_requests=1)
    assert scheduler.add_request([0], max_new_tokens=1) == 2
    assert scheduler.add_requests(*arrays_of([[1], [4]]), np.array([1, 1], np.int32), np.zeros(2, np.int32)) == 3
    order = run(scheduler)
    assert sorted(order[:2]) == [0, 1]
    assert order[2:] == [2, 3, 4]


def test_where_no_limit_is_known_a_request_may_fill_the_cache() -> None:
    plan = plan_of([[1, 2, 3], [4]])
    scheduler = scheduler_of(plan, 6)
    run(scheduler)
    assert [len(scheduler.output_tokens(row)) for row in (0, 1)] == [21, 23]
    stopping = scheduler_of(plan, 6, stop_token_ids=[answer([1, 2, 3], 3)[2]])
    run(stopping)
    assert stopping.output_tokens(0).tolist() == answer([1, 2, 3], 21, stop=answer([1, 2, 3], 3)[2])
    assert stopping.finish_reason(0) == "stop_token"


def test_a_loaded_plan_is_scheduled_as_the_one_that_was_saved(tmp_path: Path) -> None:
    plan = JOB.plan()
    plan.save(tmp_path / "plan.npz")
    loaded = bs.Plan.load(tmp_path / "plan.npz", *arrays_of(JOB.prompts))
    for schedule in ("paper", "blend"):
        assert run(scheduler_of(loaded, schedule=schedule)) == run(scheduler_of(plan, schedule=schedule))
    with pytest.raises(ValueError, match="the plan was loaded without its prompts; pass tokens and offsets to Plan"):
        scheduler_of(bs.Plan.load(tmp_path / "plan.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"schedule": "blended"},
            'schedule is "blended"; it must be one of fcfs, random, dfs, and with a plan paper or blend',
        ),
        ({"schedule": "blend", "first_rows": [99]}, "first_rows has 99; the plan has"),
        ({"max_new_tokens": np.array([1], np.int32)}, "max_new_tokens has 1 entries; the plan has 2 requests"),
        ({"max_new_tokens": np.array([1, 2])}, "max_new_tokens has dtype int64; it must be int32"),
        ({"max_new_tokens": np.array([1, -2], np.int32)}, "request 1 has max_new_tokens -2; it must be 0 or more"),
        ({"num_blocks": 1}, "request 0 needs 8 tokens of KV cache .* but the cache holds 4"),
        ({"num_blocks": 0}, "num_blocks is 0; it must be"),
    ],
)
def test_what_does_not_fit_a_plan_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheduler_of(plan_of([[1, 2, 3], [4]], [5, 5]), **{"num_blocks": 50, **options})


def test_only_a_plan_has_requests_of_its_own() -> None:
    for nothing in (3, "plan", [], object(), JOB):
        with pytest.raises(ValueError, match=r"plan is a \w+; it must be a blendserve.Plan or None"):
            scheduler_of(nothing)
    with pytest.raises(ValueError, match=r'schedule "paper" needs a plan; pass the result of blendserve.plan'):
        scheduler_of(None, schedule="paper")
    for options in ({"max_new_tokens": np.array([1], np.int32)}, {"stop_token_ids": [1]}):
        with pytest.raises(ValueError, match="max_new_tokens and stop_token_ids belong to the requests of a plan"):
            scheduler_of(None, **options)
    with pytest.raises(ValueError, match="request 1 has an empty prompt; give it at least one token"):
        scheduler_of(plan_of([[1], []], [1, 1]))


@pytest.mark.parametrize("schedule", ["paper", "blend"])
def test_a_plans_requests_may_be_added_by_the_caller_all_of_them_before_the_first_step(schedule: str) -> None:
    plan = JOB.plan()
    scheduler = scheduler_of(plan, schedule=schedule, adds_requests=False)
    tokens, offsets = arrays_of(JOB.prompts)
    half, stop_sets = len(JOB.prompts) // 2, np.zeros(len(JOB.prompts), np.int32)
    limits = plan.max_new_tokens
    scheduler.add_requests(tokens, offsets[: half + 1], limits[:half], stop_sets[:half])
    with pytest.raises(
        ValueError, match="the plan has 60 requests, and 30 were added; add all of them before the first"
    ):
        scheduler.schedule()
    scheduler.add_requests(tokens, offsets[half:], limits[half:], stop_sets[half:])
    assert run(scheduler) == run(scheduler_of(plan, schedule=schedule))
    with pytest.raises(ValueError, match="stop_token_ids belong to the requests of a plan that are added with it"):
        scheduler_of(plan, adds_requests=False, stop_token_ids=[1])


def test_a_scheduler_may_go_while_a_step_is_in_flight() -> None:
    scheduler = scheduler_of(plan_of([[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 0, 0, 0, 0]], [1, 1]))
    step = scheduler.schedule()
    assert step is not None
    assert len(step.request_ids) == 2
    del scheduler
    gc.collect()
    assert len(step.token_ids) == 12
