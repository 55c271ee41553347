"""Whatever is passed to the planning half of the package: a ValueError, a TypeError, or a right answer, never a crash.

`make asan-python` runs these under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import blendserve as bs
import numpy as np
from blendserve import PrefixTree, StepScheduler
from blendserve._core import CostModel, PlanCore, choose_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.anything import ANYTHING, FLOATS, INTEGERS, arrays
from planning.jobs import TOY, TOY_DEVICE, plan_of
from planning.naive_trie import NaiveTrie, arrays_of, prompt_lists

fuzzed = settings(deadline=None, max_examples=200)

PROMPTS = [[1, 2], [1, 3, 3], [4]]
SMALL = st.one_of(st.integers(-2, 60), st.sampled_from([2**31, -(2**63), 2**64]), FLOATS, st.none(), st.just("7"))


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether the call is a ValueError or a TypeError; any other one is an error of the test."""
    try:
        call(*args, **kwargs)
    except (ValueError, TypeError):
        return True
    return False


def options_of(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these options, the others left out."""
    return st.fixed_dictionaries({}, optional=strategies)


def assert_is_a_plan(plan: bs.Plan) -> None:
    assert np.sort(plan.order).tolist() == list(range(plan.num_requests))
    assert np.isfinite(plan.expected_output_lengths).all()
    plan.tree_view("planned").verify()


# Half of the offsets rise, so that some trees come about.
OFFSETS = st.one_of(
    st.lists(st.integers(0, 8), min_size=1, max_size=6).map(lambda values: np.sort(np.array(values, np.int64))),
    arrays(),
    ANYTHING,
)
TOKENS = st.one_of(st.lists(st.integers(0, 2), max_size=8).map(lambda values: np.array(values, np.int32)), ANYTHING)


@fuzzed
@given(TOKENS, OFFSETS, st.one_of(st.integers(-2, 4), ANYTHING))
def test_any_prompts_are_refused_or_make_their_tree(tokens: Any, offsets: Any, num_threads: Any) -> None:
    trees: list[PrefixTree] = []
    if refused(lambda: trees.append(PrefixTree.build(tokens, offsets, num_threads=num_threads))):
        return
    prompts = [np.asarray(tokens)[begin:end].tolist() for begin, end in pairwise(np.asarray(offsets))]
    trees[0].verify()
    assert trees[0].prompt_lens.tolist() == [len(prompt) for prompt in prompts]
    assert trees[0].num_unique_tokens == NaiveTrie(prompts).num_tokens


@fuzzed
@given(TOKENS, OFFSETS, st.one_of(st.integers(-2, 20), ANYTHING))
def test_a_window_of_anything_leaves_a_sound_tree(tokens: Any, offsets: Any, max_lines: Any) -> None:
    tree = PrefixTree.build(*arrays_of(PROMPTS))
    if refused(tree.extend, tokens, offsets):
        assert tree.num_requests == 3
    tree.verify()
    refused(tree.to_string, max_lines)


@fuzzed
@given(
    prompt_lists(max_size=4),
    options_of(
        output_lengths=st.one_of(arrays(FLOATS, 4), arrays(max_size=4), ANYTHING),
        evidence_weights=st.one_of(arrays(FLOATS, 4), arrays(max_size=4), ANYTHING),
        max_output_lengths=st.one_of(arrays(FLOATS, 4), arrays(max_size=4), ANYTHING),
        prior_output_len=ANYTHING,
        split_budget=ANYTHING,
        step_tokens=ANYTHING,
        num_threads=st.one_of(st.integers(-2, 4), ANYTHING),
    ),
)
def test_any_argument_is_refused_or_makes_a_plan(prompts: list[list[int]], options: dict[str, Any]) -> None:
    plans: list[bs.Plan] = []
    if not refused(lambda: plans.append(plan_of(prompts, **options))):
        assert_is_a_plan(plans[0])


@fuzzed
@given(
    st.tuples(arrays(FLOATS, 3), st.none() | arrays(FLOATS, 3), st.none() | arrays(max_size=3))
    | st.tuples(*[ANYTHING] * 3),
    st.fixed_dictionaries({"prior_mean": FLOATS, "prior_second_moment": FLOATS, "split_budget": FLOATS}),
    INTEGERS,
)
def test_the_core_refuses_anything_or_plans_it(columns: Any, figures: dict[str, float], step_tokens: int) -> None:
    tree, model = PrefixTree.build(*arrays_of(PROMPTS)), CostModel(TOY, TOY_DEVICE)
    cores: list[PlanCore] = []
    if not refused(
        lambda: cores.append(PlanCore.make(tree, *columns, model, **figures, step_tokens=step_tokens, build_s=0.0))
    ):
        assert np.sort(cores[0].order).tolist() == [0, 1, 2]


@fuzzed
@given(
    options_of(
        rate=ANYTHING,
        seed=INTEGERS,
        method=st.sampled_from(["uniform", "memory_variance", "", None]),
        max_output_lengths=arrays(max_size=3) | ANYTHING,
        prior_output_len=ANYTHING,
    )
)
def test_any_sample_is_refused_or_has_rows_of_the_tree(options: dict[str, Any]) -> None:
    samples: list[Any] = []
    if not refused(lambda: samples.append(choose_samples(PrefixTree.build(*arrays_of(PROMPTS)), **options))):
        rows, weights = samples[0]
        assert set(rows.tolist()) <= {0, 1, 2}
        assert (weights >= 1).all()


PARTS = ("prompt_lens", "mean_output_lens", "second_moments", "is_length_known", "rows", "lcp", "order")


@fuzzed
@given(st.sets(st.sampled_from(PARTS), min_size=1, max_size=2), st.data())
def test_a_plan_restored_from_anything_is_refused_or_can_be_used(damaged: set[str], data: st.DataObject) -> None:
    tree, core = PrefixTree.build(*arrays_of(PROMPTS)), plan_of(PROMPTS, [1, 90, 3]).core
    parts: dict[str, Any] = {part: getattr(core, part) for part in PARTS}
    for part in sorted(damaged):
        right = parts[part].dtype
        like = st.lists(st.integers(-1, 4), min_size=3, max_size=3).map(
            lambda values, dtype=right: np.array(values).astype(dtype)
        )
        parts[part] = data.draw(st.one_of(like, arrays(max_size=3), arrays(FLOATS, 3), ANYTHING))
    summary = data.draw(
        st.one_of(st.just(core.summary), st.dictionaries(st.sampled_from(list(core.summary)), ANYTHING))
    )
    cores: list[PlanCore] = []
    if refused(lambda: cores.append(PlanCore.restore(CostModel(TOY, TOY_DEVICE), **parts, summary=summary))):
        return
    assert np.sort(cores[0].order).tolist() == [0, 1, 2]
    refused(cores[0].shards, 2)
    cores[0].planned_view()
    refused(cores[0].built_view, tree)


@fuzzed
@given(ANYTHING, ANYTHING)
def test_any_number_of_shards_and_any_view_are_refused_or_right(num_shards: Any, layout: Any) -> None:
    plan = plan_of(PROMPTS, [1, 90, 3])
    if not refused(plan.shards, num_shards):
        assert len(plan.shards(num_shards)) == num_shards
    assert refused(plan.tree_view, layout)
    assert refused(plan.core.built_view, layout)


@fuzzed
@given(
    options_of(
        num_blocks=SMALL,
        block_size=SMALL,
        max_batch_tokens=SMALL,
        max_batch_requests=SMALL,
        max_chunk_tokens=SMALL,
        seed=INTEGERS,
        schedule=st.sampled_from(["paper", "fcfs", "", None, 3]),
        max_new_tokens=arrays(max_size=3) | ANYTHING,
        stop_token_ids=st.one_of(st.lists(INTEGERS, max_size=3), ANYTHING),
    )
)
def test_any_scheduler_is_refused_or_runs_the_plan_to_its_end(options: dict[str, Any]) -> None:
    plan = plan_of(PROMPTS, [1, 20, 3])
    schedulers: list[StepScheduler] = []
    if refused(lambda: schedulers.append(StepScheduler(plan, **{"num_blocks": 50, **options}))):
        return
    while (step := schedulers[0].schedule()) is not None:
        schedulers[0].update(step, np.zeros(len(step.sample_ids), np.int32))
    assert schedulers[0].num_unfinished == 0
    schedulers[0].verify()


@fuzzed
@given(
    st.lists(st.tuples(st.sampled_from(["add", "add one", "update", "abort", "stop", "forget"]), ANYTHING, ANYTHING))
)
def test_any_call_of_a_scheduler_is_refused_or_keeps_it_sound(calls: list[tuple[str, Any, Any]]) -> None:
    scheduler = StepScheduler(plan_of(PROMPTS, [1, 20, 3]), num_blocks=50)
    for name, first, second in calls:
        step = scheduler.schedule()
        if name == "update" and step is not None:
            refused(scheduler.update, step, first)
        refused(scheduler.update, first, second)
        refused(scheduler.abort_step, first)
        if name == "abort" and step is not None:
            refused(scheduler.abort_step, step)
        elif step is not None:
            refused(scheduler.update, step, np.zeros(len(step.sample_ids), np.int32))
        if name == "add":
            refused(scheduler.add_requests, *arrays_of([[1]]), first, second)
            refused(scheduler.add_requests, first, second, *[np.array([1], np.int32)] * 2)
        if name == "add one":
            refused(scheduler.add_request, first, max_new_tokens=second)
        if name in ("stop", "forget"):
            refused(getattr(scheduler, name), first)
        scheduler.verify()
