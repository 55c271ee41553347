"""What prompts may be handed over as: nothing is copied, and nothing goes away too early."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pyarrow as pa
import pytest
from blendserve import PrefixTree
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.jobs import A100, LLAMA
from planning.naive_trie import NaiveTrie, arrays_of, prompt_lists

PROMPTS = [[5, 6, 7], [5, 6], [], [5, 6, 8, 9], [1]]


def assert_is_the_tree_of(tree: PrefixTree, prompts: list[list[int]]) -> None:
    tree.verify()
    assert tree.order.tolist() == sorted(range(len(prompts)), key=lambda row: (prompts[row], row))
    assert tree.prompt_lens.tolist() == [len(prompt) for prompt in prompts]
    assert tree.num_unique_tokens == NaiveTrie(prompts).num_tokens


def test_read_only_arrays_will_do() -> None:
    tokens, offsets = arrays_of(PROMPTS)
    tokens.flags.writeable = offsets.flags.writeable = False
    assert_is_the_tree_of(PrefixTree.build(tokens, offsets), PROMPTS)


def test_offsets_may_be_of_32_bits_as_arrows_are() -> None:
    tokens, offsets = arrays_of(PROMPTS)
    assert_is_the_tree_of(PrefixTree.build(tokens, offsets.astype(np.int32)), PROMPTS)


def test_offsets_may_begin_and_end_within_the_tokens() -> None:
    tokens, offsets = arrays_of([[9, 9, 9], *PROMPTS, [4, 4]])
    assert_is_the_tree_of(PrefixTree.build(tokens, offsets[1:-1]), PROMPTS)


def test_memory_maps_will_do(tmp_path: Path) -> None:
    for name, array in zip(("tokens", "offsets"), arrays_of(PROMPTS), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("tokens", "offsets")]
    tree = PrefixTree.build(*mapped)
    del mapped
    gc.collect()
    assert_is_the_tree_of(tree, PROMPTS)


@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list])
@settings(deadline=None)
@given(prompts=prompt_lists(), data=st.data())
def test_arrow_lists_will_do_and_slices_of_them(
    list_type: Callable[..., Any], prompts: list[list[int]], data: st.DataObject
) -> None:
    array = pa.array(prompts, list_type(pa.int32()))
    assert_is_the_tree_of(PrefixTree.build(array), prompts)
    begin = data.draw(st.integers(0, len(prompts)))
    end = data.draw(st.integers(begin, len(prompts)))
    assert_is_the_tree_of(PrefixTree.build(array[begin:end]), prompts[begin:end])


def test_an_arrow_array_of_tokens_with_offsets_of_its_own_will_do() -> None:
    tokens, offsets = arrays_of(PROMPTS)
    assert_is_the_tree_of(PrefixTree.build(pa.array(tokens), pa.array(offsets)), PROMPTS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([[1], None], pa.list_(pa.int32())), "tokens has nulls; remove or fill them"),
        (pa.array([[1, None]], pa.list_(pa.int32())), "tokens has nulls; remove or fill them"),
        (pa.array([[1]], pa.list_(pa.int64())), "tokens has dtype int64; it must be int32"),
        (pa.array([["a"]], pa.list_(pa.string())), "tokens has dtype object; it must be int32"),
        (
            pa.chunked_array([pa.array([[1]], pa.list_(pa.int32()))]),
            r"call combine_chunks\(\) first",
        ),
        (pa.array([[1, 2]], pa.list_(pa.int32(), 2)), "offsets is missing"),
        (pa.array([[1], [2, 3]], pa.list_view(pa.int32())), "tokens is an Arrow list view"),
    ],
)
def test_other_arrow_arrays_are_refused(array: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrefixTree.build(array)


def test_the_prompts_live_as_long_as_the_tree() -> None:
    tokens, offsets = arrays_of(PROMPTS)
    tree = PrefixTree.build(tokens, offsets)
    alive = weakref.ref(tokens), weakref.ref(offsets)
    del tokens, offsets
    gc.collect()
    assert all(array() is not None for array in alive)
    assert_is_the_tree_of(tree, PROMPTS)
    del tree
    gc.collect()
    assert all(array() is None for array in alive)


def test_the_prompts_of_every_window_live_as_long_as_a_scheduler_of_their_plan() -> None:
    tokens, offsets = arrays_of([[5, 6, 7], [5, 6]])
    window = np.array([5, 6, 9, 9], np.int32)
    tree = PrefixTree.build(tokens, offsets)
    tree.extend(window, np.array([0, 4]))
    plan = bs.plan(tree, output_lengths=[2, 2, 2], model=LLAMA, device=A100)
    scheduler = bs.StepScheduler(plan, num_blocks=8)
    alive = weakref.ref(tokens), weakref.ref(window)
    del tokens, offsets, window, tree, plan
    gc.collect()
    step = scheduler.schedule()
    assert step is not None
    assert sorted(step.token_ids.tolist()) == sorted([5, 6, 7, 5, 6, 5, 6, 9, 9])
    scheduler.abort_step(step)
    assert all(array() is not None for array in alive)
    del scheduler, step
    gc.collect()
    assert all(array() is None for array in alive)


def test_what_a_plan_hands_out_is_a_copy_that_outlives_it() -> None:
    plan = bs.plan(*arrays_of(PROMPTS), model=LLAMA, device=A100)
    order, view = plan.order, plan.tree_view("planned")
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 3
    lens = plan.expected_output_lengths
    lens[:] = 0
    assert plan.expected_output_lengths.tolist() == [256.0] * 5
    del plan
    gc.collect()
    assert sorted(order.tolist()) == sorted(view.rows.tolist()) == [0, 1, 2, 3, 4]
