"""What can't be planned is refused with a message that names it."""

from __future__ import annotations

import re
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import PrefixTree
from blendserve._core import CostModel, PlanCore, choose_samples
from planning.jobs import TOY, TOY_DEVICE, plan_of
from planning.naive_trie import arrays_of

TOKENS = np.array([1, 2, 3], np.int32)
OFFSETS = np.array([0, 2, 3])
PROMPTS = [[1, 2], [3]]


def unaligned(values: Any) -> Any:
    buffer = np.zeros(values.nbytes + 1, np.uint8)
    array = buffer[1:].view(values.dtype)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("tokens", "offsets", "message"),
    [
        (TOKENS.astype(np.int64), OFFSETS, "tokens has dtype int64; it must be int32"),
        (TOKENS.astype(np.uint32), OFFSETS, "tokens has dtype uint32; it must be int32"),
        (TOKENS.astype(">i4"), OFFSETS, "tokens has dtype >i4; it must be int32"),
        (TOKENS.astype(float), OFFSETS, "tokens has dtype float64; it must be int32"),
        ([1, 2, 3], OFFSETS, "tokens has dtype int64; it must be int32"),
        ("text", OFFSETS, "tokens has dtype <U4; it must be int32"),
        (None, OFFSETS, "tokens has dtype object; it must be int32"),
        (TOKENS.reshape(1, 3), OFFSETS, "tokens must be one-dimensional and contiguous"),
        (np.int32(1), OFFSETS, "tokens must be one-dimensional and contiguous"),
        (np.array([1, 0, 2, 0, 3, 0], np.int32)[::2], OFFSETS, "tokens must be one-dimensional and contiguous"),
        (TOKENS[::-1], OFFSETS, "tokens must be one-dimensional and contiguous"),
        (np.broadcast_to(np.int32(1), 3), OFFSETS, "tokens must be one-dimensional and contiguous"),
        (unaligned(TOKENS), OFFSETS, "tokens is not aligned to its elements; copy it"),
        (TOKENS, unaligned(OFFSETS), "offsets is not aligned to its elements; copy it"),
        (TOKENS, OFFSETS.astype(np.uint64), "offsets has dtype uint64; it must be int64"),
        (TOKENS, OFFSETS.astype(float), "offsets has dtype float64; it must be int64"),
        (TOKENS, OFFSETS.reshape(3, 1), "offsets must be one-dimensional and contiguous"),
        (TOKENS, OFFSETS[::-1], "offsets must be one-dimensional and contiguous"),
        (TOKENS, OFFSETS[::-1].copy(), "offsets[1] is 2, less than the one before (3); offsets must not fall"),
        (TOKENS, np.array([0, 3, 2]), "offsets[2] is 2, less than the one before (3); offsets must not fall"),
        (TOKENS, np.array([-1, 2]), "offsets[0] is -1; it must be 0 or more"),
        (TOKENS, np.array([0, 4]), "the last offset is 4, but there are only 3 tokens"),
        (TOKENS, np.array([2**62, 2**63 - 1]), f"the last offset is {2**63 - 1}, but there are only 3 tokens"),
        (TOKENS, np.array([], np.int64), "offsets is empty; n prompts need n + 1 offsets, the first one 0"),
        (TOKENS, None, "offsets is missing; give int64 offsets [n + 1], or an Arrow list array as tokens"),
    ],
)
def test_wrong_prompts_are_named(tokens: Any, offsets: Any, message: str) -> None:
    tree = PrefixTree.build(*arrays_of(PROMPTS))
    for use in (PrefixTree.build, tree.extend, lambda *prompts: bs.plan(*prompts, model=TOY, device=TOY_DEVICE)):
        with pytest.raises(ValueError, match=re.escape(message)):
            use(tokens, offsets)
    assert tree.num_requests == 2
    tree.verify()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"output_lengths": [1.0, np.nan]},
            "output_lengths[1] is nan; a length is 0 to 2147483647, or -1 if it is not",
        ),
        ({"output_lengths": [-2, 1]}, "output_lengths[0] is -2"),
        ({"output_lengths": [-0.5, 1]}, "output_lengths[0] is -0.5"),
        ({"output_lengths": [np.inf, 1]}, "output_lengths[0] is inf"),
        ({"output_lengths": [1, 2**31]}, "output_lengths[1] is 2147483648"),
        ({"output_lengths": [1]}, "output_lengths has shape (1,); give one value for each of the 2 requests"),
        (
            {"output_lengths": [[1], [2]]},
            "output_lengths has shape (2, 1); give one value for each of the 2 requests",
        ),
        ({"output_lengths": 3}, "output_lengths has shape (); give one value for each of the 2 requests"),
        ({"output_lengths": ["1", "2"]}, "output_lengths has dtype <U1; it must be of integers or floats"),
        ({"output_lengths": [None, 1]}, "output_lengths has dtype object; it must be of integers or floats"),
        ({"output_lengths": [True, False]}, "output_lengths has dtype bool; it must be of integers or floats"),
        ({"output_lengths": [1j, 1]}, "output_lengths has dtype complex128; it must be of integers or floats"),
        ({"evidence_weights": [1, np.nan]}, "evidence_weights[1] is nan; a weight is 0, or 1e-9 to 1e9"),
        ({"evidence_weights": [1, -1]}, "evidence_weights[1] is -1.000000; a weight is 0, or 1e-9 to 1e9"),
        ({"evidence_weights": [1]}, "evidence_weights has shape (1,)"),
        ({"max_output_lengths": [1, 0]}, "max_output_lengths[1] is 0; it must be an integer from 1 to 2147483647"),
        (
            {"max_output_lengths": [np.nan, 1]},
            "max_output_lengths[0] is nan; it must be an integer from 1 to 2147483647",
        ),
        ({"max_output_lengths": [1, 2**31]}, "max_output_lengths[1] is 2.14748e+09; it must be an integer from 1 to"),
        ({"max_output_lengths": []}, "max_output_lengths has shape (0,)"),
        ({"max_output_lengths": [1, 1.5]}, "max_output_lengths[1] is 1.5; it must be an integer from 1 to 2147483647"),
        ({"max_new_tokens": [0, -1]}, "max_new_tokens[1] is -1; it must be an integer from 0 to 2147483647"),
        ({"prior_output_len": 0}, "prior_output_len is 0; it must be a positive number"),
        ({"prior_output_len": float("nan")}, "prior_output_len is nan; it must be a positive number"),
        ({"prior_output_len": float("inf")}, "prior_output_len is inf; it must be a positive number"),
        ({"prior_output_len": 2.0**31}, "the prior has mean 2147483648.000000"),
        ({"split_budget": -0.1}, "split_budget is -0.1"),
        ({"split_budget": 1.5}, "split_budget is 1.5"),
        ({"split_budget": float("nan")}, "split_budget is nan"),
        ({"step_tokens": 0}, "step_tokens is 0; it must be at least 1"),
        ({"step_tokens": -5}, "step_tokens is -5; it must be at least 1"),
        ({"num_threads": -1}, "num_threads is -1; it must be 0 (all CPUs) or more"),
        ({"num_threads": 10**6}, "num_threads is 1000000; it must be at most 1024"),
    ],
)
def test_a_wrong_argument_of_a_plan_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_of(PROMPTS, **options)


def test_no_requests_and_a_tree_with_offsets_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="there are no requests to plan; give at least one prompt"):
        plan_of([])
    tree = PrefixTree.build(*arrays_of(PROMPTS))
    with pytest.raises(ValueError, match="offsets must be None when tokens is a PrefixTree, which has its own"):
        bs.plan(tree, OFFSETS, model=TOY, device=TOY_DEVICE)


@pytest.mark.parametrize(("argument", "kind"), [("model", "ModelSpec"), ("device", "DeviceSpec")])
def test_a_name_in_place_of_a_model_or_device_is_told_what_to_do(argument: str, kind: str) -> None:
    options: dict[str, Any] = {"model": TOY, "device": TOY_DEVICE, argument: "x"}
    with pytest.raises(ValueError, match=rf"{argument} is 'x'; it must be a {kind}, such as {kind}\.named\('x'\)"):
        bs.plan(*arrays_of(PROMPTS), **options)


@pytest.mark.parametrize("argument", ["step_tokens", "split_budget", "prior_output_len"])
def test_an_argument_of_another_kind_is_a_type_error(argument: str) -> None:
    options: dict[str, Any] = {"model": TOY, "device": TOY_DEVICE, argument: "1"}
    with pytest.raises(TypeError):
        bs.plan(*arrays_of(PROMPTS), **options)


def test_a_tree_that_grew_after_the_plan_is_noticed() -> None:
    tree = PrefixTree.build(*arrays_of(PROMPTS))
    plan = bs.plan(tree, model=TOY, device=TOY_DEVICE)
    tree.extend(*arrays_of([[9]]))
    with pytest.raises(
        ValueError, match="the tree has 3 requests and the plan 2; pass the tree that the plan was made"
    ):
        plan.tree_view("built")
    with pytest.raises(ValueError, match="the plan has 2 requests, and its tree was extended to 3 since"):
        bs.StepScheduler(plan, num_blocks=50)


def test_a_view_and_a_division_that_do_not_exist_are_refused() -> None:
    plan = plan_of(PROMPTS)
    with pytest.raises(ValueError, match='layout is \'sorted\'; it must be "built" or "planned"'):
        plan.tree_view("sorted")
    for num_shards in (0, -1, 3):
        message = f"num_shards is {num_shards}; it must be from 1 to the number of requests \\(2\\)"
        with pytest.raises(ValueError, match=message):
            plan.shards(num_shards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate is 0.000000; it must be from 1e-6 to 1"),
        ({"rate": float("nan")}, "rate is nan; it must be from 1e-6 to 1"),
        ({"rate": 1.01}, "rate is 1.010000; it must be from 1e-6 to 1"),
        ({"method": "best"}, 'method is "best"; it must be uniform or memory_variance'),
        ({"max_output_lengths": np.array([1, 0], np.int32)}, "max_output_lengths[1] is 0; it must be 1 or more"),
        ({"max_output_lengths": np.array([1], np.int32)}, "max_output_lengths has 1 values for 2 requests"),
        ({"max_output_lengths": np.array([], np.int32)}, "max_output_lengths has 0 values for 2 requests"),
        ({"max_output_lengths": np.array([1, 2])}, "max_output_lengths has dtype int64; it must be int32"),
        ({"prior_output_len": -1.0}, "prior_output_len is -1.000000; it must be above 0 and finite"),
    ],
)
def test_a_wrong_argument_of_a_sample_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_samples(PrefixTree.build(*arrays_of(PROMPTS)), **options)


def test_the_core_checks_what_the_package_passes_on() -> None:
    tree, model = PrefixTree.build(*arrays_of(PROMPTS)), CostModel(TOY, TOY_DEVICE)
    known = np.array([1.0, 2.0])

    def make(lengths: Any = known, weights: Any = None, caps: Any = None, prior: tuple[float, float] = (9, 81)) -> None:
        PlanCore.make(
            tree,
            lengths,
            weights,
            caps,
            model,
            prior_mean=prior[0],
            prior_second_moment=prior[1],
            split_budget=0.0,
            step_tokens=1,
            build_s=0.0,
        )

    make()
    for arguments, message in [
        ({"lengths": known[:1]}, "output_lengths has 1 values for 2 requests"),
        ({"lengths": known.astype(np.float32)}, "output_lengths has dtype float32; it must be float64"),
        ({"weights": np.array([])}, "evidence_weights has 0 values for 2 requests"),
        ({"caps": np.array([], np.int32)}, "max_output_lengths has 0 values for 2 requests"),
        ({"prior": (np.nan, 1)}, "the prior has mean nan"),
        ({"prior": (9, 80)}, "the prior has mean 9.000000 and second moment 80.000000"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            make(**arguments)  # type: ignore[arg-type]
