"""Output lengths: what is known is kept, what is not lies between the extremes of the evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.jobs import plan_of
from planning.naive_trie import prompt_lists

UNKNOWN = -1


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a plan: lengths known and unknown, and perhaps evidence weights and caps."""
    prompts = draw(prompt_lists())

    def column(values: st.SearchStrategy[Any]) -> np.ndarray[Any, Any]:
        return np.array(draw(st.lists(values, min_size=len(prompts), max_size=len(prompts))), np.float64)

    lengths = column(st.one_of(st.just(UNKNOWN), st.integers(0, 9), st.floats(0, 1e6, allow_subnormal=False)))
    weights = column(st.one_of(st.just(0), st.floats(1e-3, 1e3))) if draw(st.booleans()) else None
    caps = column(st.integers(1, 40)) if draw(st.booleans()) else None
    return {"prompts": prompts, "output_lengths": lengths, "evidence_weights": weights, "max_output_lengths": caps}


@settings(deadline=None, max_examples=200)
@given(jobs())
def test_known_lengths_are_kept_and_estimates_lie_between_the_extremes_of_the_evidence(job: dict[str, Any]) -> None:
    plan = plan_of(**job)
    lengths, weights, caps = job["output_lengths"], job["evidence_weights"], job["max_output_lengths"]
    means, second_moments = plan.expected_output_lengths, plan.core.second_moments
    known = lengths != UNKNOWN
    evidence = lengths[known & (weights > 0)] if weights is not None else lengths[known]
    low, high = (evidence.min(), evidence.max()) if len(evidence) else (256.0, 256.0)
    assert means[known].tolist() == lengths[known].tolist()
    assert second_moments[known].tolist() == (lengths[known] ** 2).tolist()
    cap = np.full(len(lengths), np.inf) if caps is None else caps
    assert (means[~known] >= np.minimum(low, cap)[~known]).all()
    assert (means[~known] <= np.minimum(high, cap)[~known]).all()
    assert (second_moments >= means**2 * (1 - 1e-12)).all()
    assert (second_moments[~known] <= np.maximum(high * np.minimum(high, cap), 0)[~known] * (1 + 1e-12)).all()


@settings(deadline=None, max_examples=50)
@given(jobs(), st.sampled_from([1e-3, 7.0]))
def test_only_the_ratios_of_evidence_weights_count(job: dict[str, Any], factor: float) -> None:
    weights = job["evidence_weights"]
    scaled = np.ones(len(job["prompts"])) if weights is None else weights
    plan = plan_of(**job)
    other = plan_of(**{**job, "evidence_weights": scaled * factor})
    np.testing.assert_allclose(other.expected_output_lengths, plan.expected_output_lengths, rtol=1e-9)


def two_classes(num_each: int = 20) -> list[list[int]]:
    return [[kind, kind, row] for row in range(num_each) for kind in (1, 2)]


def test_a_request_is_like_those_that_share_a_prefix_with_it() -> None:
    lengths = np.tile([10.0, 1000.0], 20)
    lengths[[38, 39]] = UNKNOWN
    expected = plan_of(two_classes(), lengths).expected_output_lengths
    assert expected[38] == pytest.approx(10, rel=0.5)
    assert expected[39] == pytest.approx(1000, rel=0.05)


def test_a_class_without_evidence_is_like_its_relatives() -> None:
    lengths = np.tile([10.0, UNKNOWN], 20)
    assert plan_of(two_classes(), lengths).expected_output_lengths.tolist() == [10.0] * 40


def test_a_request_of_weight_zero_keeps_its_length_and_says_nothing() -> None:
    lengths, weights = np.full(40, UNKNOWN), np.ones(40)
    lengths[0], lengths[2], weights[2] = 10, 5000, 0
    expected = plan_of(two_classes(), lengths, evidence_weights=weights).expected_output_lengths
    assert expected[2] == 5000
    assert np.delete(expected, 2).tolist() == [10.0] * 39


def test_without_evidence_the_prior_is_expected_and_caps_bind() -> None:
    prompts = [[1], [2], [3]]
    assert plan_of(prompts).expected_output_lengths.tolist() == [256.0] * 3
    plan = plan_of(prompts, prior_output_len=100, max_output_lengths=[50, 100, 400])
    assert plan.expected_output_lengths.tolist() == [50.0, 100.0, 100.0]
    assert plan.max_new_tokens.tolist() == [50, 100, 400]


def test_a_known_length_may_be_above_its_cap_and_is_where_the_request_ends() -> None:
    plan = plan_of([[1], [2], [3], [4]], [90, -1, 0, 2.5], max_output_lengths=[50, 60, 70, 80])
    assert plan.expected_output_lengths[[0, 2, 3]].tolist() == [90, 0, 2.5]
    assert plan.max_new_tokens.tolist() == [90, 60, 1, 3]
    assert plan_of([[1], [2]], [7, -1]).max_new_tokens.tolist() == [7, 0]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float16", "float32", "float64", "longdouble"])
def test_lengths_may_be_of_any_real_dtype(dtype: str) -> None:
    lengths = np.array([3, -1, 5], dtype)
    assert plan_of([[1], [2], [3]], lengths).expected_output_lengths.tolist() == [3.0, 4.0, 5.0]
    assert plan_of([[1], [2], [3]], lengths[::-1]).expected_output_lengths.tolist() == [5.0, 4.0, 3.0]
    assert plan_of([[1], [2], [3]], lengths.tolist()).expected_output_lengths.tolist() == [3.0, 4.0, 5.0]
