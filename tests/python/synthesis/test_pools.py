"""The requests that a mix draws from, and the sums by which it counts them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from blendserve import DeviceSpec, ModelSpec, PrefixTree, plan
from blendserve._core import CostModel
from blendserve.synthesis.costs import Sums, compute_s, memory_s, segment_s
from blendserve.synthesis.pools import LengthPool, TokenPool, in_passes
from blendserve.traces import LengthTrace, Trace
from blendserve.traces.length_trace import NO_GROUP
from hypothesis import given
from hypothesis import strategies as st

MODEL, DEVICE = ModelSpec.named("llama-3.1-8b"), DeviceSpec.named("a100-sxm-80gb")
COST = CostModel(MODEL, DEVICE)
ROWS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 50), st.integers(-1, 3), st.integers(0, 60)), min_size=1)


def lengths_of(rows: list[tuple[int, int, int, int]]) -> LengthTrace:
    """Of prompt length, output length, group and prefix length."""
    prompt, output, group, prefix = np.array(rows, dtype=np.int32).T
    trace = LengthTrace.unshared("a", prompt, output)
    prefix_lens = np.where(group == NO_GROUP, 0, np.minimum(prefix, prompt)).astype(np.int32)
    return dataclasses.replace(trace, prefix_group=group, prefix_lens=prefix_lens)


def planned(trace: Trace) -> Sums:
    """What the planner finds."""
    report = plan(trace.tokens, trace.offsets, trace.output_lengths, model=MODEL, device=DEVICE).report
    return Sums(
        float(compute_s(COST, trace.prompt_lens, trace.output_lengths).sum()), report.compute_s, report.memory_s
    )


def assert_close(sums: Sums, expected: Sums) -> None:
    assert dataclasses.astuple(sums) == pytest.approx(dataclasses.astuple(expected), rel=1e-9)


def test_costs_are_those_of_the_cost_model() -> None:
    assert compute_s(COST, [700], [40])[0] == pytest.approx(COST.compute_s(700, 40), rel=1e-12)
    assert memory_s(COST, [700], [40])[0] == pytest.approx(COST.memory_s(700, 40), rel=1e-12)
    assert segment_s(COST, [700])[0] == pytest.approx(COST.segment_compute_s(0, 700), rel=1e-12)


@given(ROWS)
def test_sums_of_lengths_are_what_the_planner_finds(rows: list[tuple[int, int, int, int]]) -> None:
    pool = LengthPool(lengths_of(rows), COST)
    for count in (1, len(rows)):
        assert_close(pool.sums(count), planned(pool.first(count).with_tokens()))


@given(ROWS)
def test_sums_of_prompts_are_what_the_planner_finds_in_every_pass(rows: list[tuple[int, int, int, int]]) -> None:
    pool = TokenPool(lengths_of(rows).with_tokens(), MODEL, DEVICE)
    for count in (1, len(rows), 2 * len(rows) + 1):
        assert_close(pool.sums(count), planned(pool.first(count)))


def test_a_file_is_used_in_passes_that_share_nothing_with_each_other() -> None:
    trace = lengths_of([(10, 1, 0, 8), (10, 2, 0, 8), (20, 3, 1, 5)])
    compact = in_passes(trace, "b", 7, MODEL, DEVICE, np.random.default_rng(0)).first(7)
    assert isinstance(compact, LengthTrace)
    whole = in_passes(trace.with_tokens(), "b", 7, MODEL, DEVICE, np.random.default_rng(0)).first(7)
    assert isinstance(whole, Trace)
    for made, marker in ((compact.with_tokens(), 1), (whole, 0)):
        assert made.sources == ("b",)
        assert sorted(made.output_lengths[:3]) == sorted(made.output_lengths[3:6]) == [1, 2, 3]
        assert made.output_lengths[6] == made.output_lengths[0]
        one_pass, two_passes = (made.take(np.arange(count)) for count in (3, 6))
        unique = [PrefixTree.build(part.tokens, part.offsets).num_unique_tokens for part in (one_pass, two_passes)]
        assert unique == [10 + 2 + 20 - 1, 2 * unique[0] - marker]


def test_the_last_request_is_exchanged_for_the_one_that_fits() -> None:
    pool = LengthPool(lengths_of([(10, 100, -1, 0), (10, 900, -1, 0), (10, 300, -1, 0), (10, 200, -1, 0)]), COST)
    others = Sums(0.5, 0.5, 0.0)
    wanted = (
        pool.sums(1) + others + Sums(0.0, float(compute_s(COST, [10], [300])[0]), float(memory_s(COST, [10], [300])[0]))
    )
    pool.exchange_last(2, others, wanted.density)
    assert pool.first(4).output_lengths.tolist() == [100, 300, 900, 200]
    assert pool.sums(2).memory == pytest.approx(float(memory_s(COST, [10, 10], [100, 300]).sum()))
