"""What a plan promises about its order, its tree and its sharing, on random jobs."""

from __future__ import annotations

import dataclasses
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import DeviceSpec, ModelSpec
from blendserve.planning.tree_view import TreeView
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.closed_forms import Rates
from planning.jobs import TARGETS, MixedJob, plan_of
from planning.naive_trie import arrays_of, prompt_lists

IDS = ["llama", "toy", "cascade"]
BUDGETS = st.sampled_from([0.0, 0.01, 0.1, 1.0])
# Half of them far longer than the others; some unknown.
LENGTHS = st.one_of(st.just(-1), st.integers(0, 5), st.integers(200, 900))


def children_from_left_to_right(view: TreeView) -> dict[int, list[tuple[int, float]]]:
    """By node: the first leaf and the density of each child."""
    children: dict[int, list[tuple[int, float]]] = {node: [] for node in range(len(view.parent))}
    for leaf, node in enumerate(view.leaf_parent.tolist()):
        children[node].append((leaf, float(view.leaf_density[leaf])))
    for node, parent in enumerate(view.parent.tolist()):
        if parent >= 0:
            children[parent].append((int(view.begin[node]), float(view.density[node])))
    return {node: sorted(of_node) for node, of_node in children.items()}


def random_plan(data: st.DataObject, model: ModelSpec, device: DeviceSpec) -> tuple[bs.Plan, float]:
    prompts = data.draw(prompt_lists(max_size=20))
    lengths = data.draw(st.lists(LENGTHS, min_size=len(prompts), max_size=len(prompts)))
    budget = data.draw(BUDGETS)
    return plan_of(prompts, lengths, model=model, device=device, split_budget=budget), budget


def assert_keeps_its_promises(plan: bs.Plan, budget: float) -> None:
    report, view = plan.report, plan.tree_view("planned")
    assert np.sort(plan.order).tolist() == list(range(plan.num_requests))
    view.verify()
    for children in children_from_left_to_right(view).values():
        densities = [density for _, density in children]
        assert densities == sorted(densities, reverse=True)
    assert report.sharing_ratio_planned >= (1 - budget) * report.sharing_ratio_optimal - 1e-12
    assert report.sharing_ratio_planned == pytest.approx(view.sharing_ratio, abs=1e-12)
    assert report.sharing_ratio_optimal == pytest.approx(plan.tree_view("built").sharing_ratio, abs=1e-12)
    assert report.num_copied_tokens <= budget * (report.prompt_tokens - report.unique_prompt_tokens)
    if budget == 0:
        assert report.sharing_ratio_planned == report.sharing_ratio_optimal


@pytest.mark.parametrize(("model", "device"), TARGETS, ids=IDS)
@settings(deadline=None)
@given(data=st.data())
def test_the_order_is_a_permutation_children_are_sorted_and_sharing_is_kept(
    model: ModelSpec, device: DeviceSpec, data: st.DataObject
) -> None:
    assert_keeps_its_promises(*random_plan(data, model, device))


@pytest.mark.parametrize("budget", [0.0, 0.005, 0.05, 0.5])
def test_a_mixed_job_is_split_within_its_budget(budget: float) -> None:
    plan = MixedJob.random(1500).plan(split_budget=budget)
    assert_keeps_its_promises(plan, budget)
    assert (plan.report.num_splits > 0) == (budget > 0)
    assert plan.report.split_stop in ("monotone", "budget", "rounds", "one_sided")
    assert (plan.report.num_copied_tokens > 0) == (budget > 0)


@pytest.mark.parametrize(("model", "device"), TARGETS[:2], ids=IDS[:2])
@settings(deadline=None)
@given(data=st.data())
def test_densities_are_those_of_the_closed_forms(model: ModelSpec, device: DeviceSpec, data: st.DataObject) -> None:
    plan, _ = random_plan(data, model, device)
    rates = Rates.of(model, device)
    for view in (plan.tree_view("built"), plan.tree_view("planned")):
        p, shared = view.leaf_len.astype(float), view.shared_len.astype(float)
        d, second_moment = plan.expected_output_lengths[view.rows], plan.core.second_moments[view.rows]
        leaf_s = rates.t_tok * (p - shared + d) + rates.t_attn * (p**2 - shared**2)
        memory_s = rates.t_kv * (p * d + second_moment / 2)
        start, end = view.segment_start.astype(float), view.depth.astype(float)
        segment_s = rates.t_tok * (end - start) + rates.t_attn * (end**2 - start**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(memory_s > 0, leaf_s / memory_s, np.inf)
            np.testing.assert_allclose(view.leaf_density, expected, rtol=1e-9)
        for node in range(len(view.parent)):
            below = slice(view.begin[node], view.end[node])
            inside = (view.begin >= view.begin[node]) & (view.end <= view.end[node]) & (end >= end[node])
            total_s = leaf_s[below].sum() + segment_s[inside].sum()
            density = total_s / memory_s[below].sum() if memory_s[below].sum() else np.inf
            assert view.density[node] == pytest.approx(density, rel=1e-9)


def test_a_job_larger_than_the_cache_is_blended_from_both_ends() -> None:
    job = MixedJob.random(1500)
    plan, lengths = job.plan(), np.array(job.lengths)
    first, last = plan.order[:400], plan.order[-400:]
    leaves = plan.tree_view("planned").rows
    assert (lengths[leaves[:400]] >= 150).sum() == 0
    assert (lengths[leaves[-200:]] >= 150).all()
    assert 0 < (lengths[first] >= 150).sum() < 200
    assert 0 < (lengths[last] >= 150).sum() < 400


@pytest.mark.parametrize("num_requests", [1, 40, 3000])
def test_the_plan_is_the_same_for_every_number_of_threads(num_requests: int) -> None:
    job = MixedJob.random(num_requests, seed=num_requests)
    first, *others = (job.plan(num_threads=num_threads) for num_threads in (1, 2, 3, 0))
    for other in others:
        assert other.order.tolist() == first.order.tolist()
        assert figures(other) == figures(first)
        for field in dataclasses.fields(TreeView):
            columns = [getattr(plan.tree_view("planned"), field.name) for plan in (first, other)]
            np.testing.assert_array_equal(*columns)


def figures(plan: bs.Plan) -> dict[str, Any]:
    return {**dataclasses.asdict(plan.report), "preprocess_s": None}


@settings(deadline=None, max_examples=50)
@given(prompts=prompt_lists(), num_windows=st.integers(1, 4))
def test_a_tree_that_grew_by_windows_is_planned_as_one_that_was_built(prompts: list[Any], num_windows: int) -> None:
    lengths = [len(prompt) * 7 % 50 for prompt in prompts]
    windows = [
        prompts[len(prompts) * i // num_windows : len(prompts) * (i + 1) // num_windows] for i in range(num_windows)
    ]
    tree = bs.PrefixTree.build(*arrays_of(windows[0]))
    for window in windows[1:]:
        tree.extend(*arrays_of(window))
    model, device = TARGETS[1]
    grown = bs.plan(tree, output_lengths=lengths, model=model, device=device)
    built = plan_of(prompts, lengths)
    assert grown.order.tolist() == built.order.tolist()
    assert figures(grown) == figures(built)


def test_equal_prompts_share_all_but_one_copy() -> None:
    plan = plan_of([[3, 1, 4, 1]] * 50, list(range(50)))
    assert_keeps_its_promises(plan, 0.01)
    assert plan.report.unique_prompt_tokens == 4
    assert plan.report.sharing_ratio_planned == 1 - 4 / 200


def test_one_request_and_empty_prompts_are_jobs() -> None:
    for prompts in ([[7, 8]], [[]], [[], [], [1]]):
        assert_keeps_its_promises(plan_of(prompts), 0.01)
