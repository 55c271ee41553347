"""Which requests run first, and how a job is divided among replicas."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from blendserve import PrefixTree
from blendserve._core import choose_samples
from blendserve.planning import Shard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from planning.closed_forms import JobCosts
from planning.jobs import A100, LLAMA, TOY, TOY_CASCADE, TOY_DEVICE, MixedJob, plan_of
from planning.naive_trie import NaiveTrie, arrays_of, prompt_lists

METHODS = st.sampled_from(["uniform", "memory_variance"])


@settings(deadline=None)
@given(prompts=prompt_lists(), rate=st.floats(1e-3, 1), seed=st.integers(0, 2**64 - 1), method=METHODS, data=st.data())
def test_samples_are_rows_with_weights_and_every_tree_has_one(
    prompts: list[list[int]], rate: float, seed: int, method: str, data: st.DataObject
) -> None:
    tree = PrefixTree.build(*arrays_of(prompts))
    limits = st.lists(st.integers(1, 1000), min_size=len(prompts), max_size=len(prompts))
    caps = data.draw(st.none() | limits.map(lambda values: np.array(values, np.int32)))
    rows, weights = choose_samples(tree, rate=rate, seed=seed, method=method, max_output_lengths=caps)
    assert (rows.dtype, weights.dtype) == (np.int32, np.float64)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(rows.tolist()) <= set(range(len(prompts)))
    assert len(weights) == len(rows)
    assert (weights >= 1).all()
    assert len(rows) >= 1
    first_tokens = Counter(prompt[0] for prompt in prompts if prompt)
    shared = {token for token, count in first_tokens.items() if count > 1}
    assert shared <= {prompts[row][0] for row in rows if prompts[row]}
    again = choose_samples(tree, rate=rate, seed=seed, method=method, max_output_lengths=caps)
    assert [array.tolist() for array in again] == [rows.tolist(), weights.tolist()]


@pytest.mark.parametrize("method", ["uniform", "memory_variance"])
def test_weights_say_how_many_requests_each_sample_stands_for(method: str) -> None:
    tree = PrefixTree.build(*arrays_of([[row % 4, row] for row in range(4000)]))
    totals, counts = [], []
    for seed in range(30):
        rows, weights = choose_samples(tree, rate=0.05, seed=seed, method=method)
        totals.append(weights.sum())
        counts.append(len(rows))
    assert np.mean(totals) == pytest.approx(4000, rel=0.05)
    assert np.mean(counts) == pytest.approx(200, rel=0.05)
    assert len({tuple(choose_samples(tree, seed=seed)[0].tolist()) for seed in range(5)}) == 5


def test_a_rate_of_one_takes_all_and_no_requests_give_no_samples() -> None:
    tree = PrefixTree.build(*arrays_of([[1], [1], [2, 3]]))
    rows, weights = choose_samples(tree, rate=1.0)
    assert (rows.tolist(), weights.tolist()) == ([0, 1, 2], [1.0, 1.0, 1.0])
    rows, weights = choose_samples(PrefixTree.build(*arrays_of([])))
    assert (len(rows), len(weights)) == (0, 0)


def runs_of(shard: Shard, leaves: NDArray[np.int32]) -> list[list[int]]:
    """The shard's rows as the runs of neighbouring leaves that it consists of."""
    place = np.argsort(leaves)
    runs = [[int(shard.rows[0])]]
    for before, row in pairwise(shard.rows.tolist()):
        if place[row] != place[before] + 1:
            runs.append([])
        runs[-1].append(row)
    return runs


@settings(deadline=None)
@given(prompts=prompt_lists(min_size=2), data=st.data())
def test_shards_divide_the_requests_and_cost_what_their_runs_cost_alone(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(0, 300), min_size=len(prompts), max_size=len(prompts)))
    model = data.draw(st.sampled_from([TOY, TOY_CASCADE]))
    plan = plan_of(prompts, lengths, model=model, split_budget=0.0)
    shards = plan.shards(data.draw(st.integers(1, len(prompts))))
    assert sorted(row for shard in shards for row in shard.rows.tolist()) == list(range(len(prompts)))
    leaves = plan.tree_view("planned").rows
    for shard in shards:
        assert len(shard.rows) >= 1
        runs = runs_of(shard, leaves)
        assert len(runs) <= 2
        assert shard.prompt_tokens == sum(len(prompts[row]) for row in shard.rows)
        costs = [
            JobCosts.of([prompts[row] for row in run], [lengths[row] for row in run], model, TOY_DEVICE, 3200)
            for run in runs
        ]
        assert shard.compute_s == pytest.approx(sum(cost.compute_s for cost in costs))
        assert shard.memory_s == pytest.approx(sum(cost.memory_s for cost in costs))
    runs = [run for shard in shards for run in runs_of(shard, leaves)]
    num_computed = sum(NaiveTrie([prompts[row] for row in run]).num_tokens for run in runs)
    assert sum(shard.lost_tokens for shard in shards) == num_computed - NaiveTrie(prompts).num_tokens


@pytest.mark.parametrize("num_shards", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_shards_of_a_mixed_job_are_equal_in_load_and_density(num_shards: int, seed: int) -> None:
    job = MixedJob.random(4000, seed)
    plan = job.plan()
    shards = plan.shards(num_shards)
    alone = [plan_of([prompt], [length]).report for prompt, length in zip(job.prompts[:500], job.lengths, strict=False)]
    for resource in ("compute_s", "memory_s"):
        mean = getattr(plan.report, resource) / num_shards
        slack = max(0.02 * mean, max(getattr(report, resource) for report in alone) / 2)
        assert slack < 0.05 * mean
        assert max(abs(getattr(shard, resource) - mean) for shard in shards) <= slack
    for shard in shards:
        assert shard.density == pytest.approx(plan.density, rel=0.04)
        assert shard.density == shard.compute_s / shard.memory_s


@pytest.mark.parametrize("num_heads", [1, 5, 40])
def test_shards_below_one_template_are_equal_though_every_cut_repeats_a_long_prefix(num_heads: int) -> None:
    rng = np.random.default_rng(3)
    heads = [[1] * 300 + rng.integers(10, 1000, rng.integers(1000, 6000)).tolist() for _ in range(num_heads)]
    prompts = [[*heads[rng.integers(num_heads)], *rng.integers(10, 1000, 20).tolist()] for _ in range(4000)]
    lengths = np.where(rng.random(4000) < 0.5, rng.integers(1, 20, 4000), rng.integers(200, 1200, 4000))
    for num_shards in (4, 8, 16):
        shards = plan_of(prompts, lengths, model=LLAMA, device=A100).shards(num_shards)
        for resource in ("compute_s", "memory_s"):
            taken = np.array([getattr(shard, resource) for shard in shards])
            assert np.abs(taken / taken.mean() - 1).max() < 0.05


def test_a_shard_without_memory_time_has_infinite_density() -> None:
    assert [shard.density for shard in plan_of([[1], [2]], [0, 0]).shards(2)] == [np.inf, np.inf]
