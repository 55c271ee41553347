"""`PrefixTree` against a naive trie."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from blendserve import PrefixTree
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.naive_trie import NaiveTrie, arrays_of, common_prefix, prompt_lists

Prompts = list[list[int]]

FIELDS = ("order", "lcp", "node_parent", "node_begin", "node_end", "node_depth", "prompt_lens")


def build(prompts: Prompts, num_threads: int = 1) -> PrefixTree:
    return PrefixTree.build(*arrays_of(prompts), num_threads=num_threads)


def assert_same(tree: PrefixTree, other: PrefixTree) -> None:
    for field in FIELDS:
        assert getattr(tree, field).tolist() == getattr(other, field).tolist(), field
    assert tree.num_nodes == other.num_nodes
    assert tree.num_unique_tokens == other.num_unique_tokens


@settings(deadline=None)
@given(prompt_lists(min_size=0))
def test_counts_are_those_of_a_naive_trie(prompts: Prompts) -> None:
    tree, trie = build(prompts), NaiveTrie(prompts)
    tree.verify()
    assert tree.num_requests == len(prompts)
    assert tree.num_prompt_tokens == sum(map(len, prompts))
    assert tree.num_unique_tokens == trie.num_tokens
    assert tree.num_nodes == len(trie.places)
    assert tree.sharing_ratio == pytest.approx(trie.sharing_ratio, abs=1e-12)
    assert tree.prompt_lens.tolist() == [len(prompt) for prompt in prompts]


@settings(deadline=None)
@given(prompt_lists())
def test_leaves_are_in_the_order_of_their_tokens_and_equal_ones_by_row(prompts: Prompts) -> None:
    tree = build(prompts)
    rows = sorted(range(len(prompts)), key=lambda row: (prompts[row], row))
    assert tree.order.tolist() == rows
    shared = [len(common_prefix(prompts[a], prompts[b])) for a, b in pairwise(rows)]
    assert tree.lcp.tolist() == [0, *shared]


@settings(deadline=None)
@given(prompt_lists())
def test_nodes_are_the_segments_that_requests_share(prompts: Prompts) -> None:
    tree, trie = build(prompts), NaiveTrie(prompts)
    nodes = list(zip(tree.node_begin.tolist(), tree.node_end.tolist(), tree.node_depth.tolist(), strict=True))
    prefixes = [tuple(prompts[tree.order[begin]][:depth]) for begin, _, depth in nodes]
    assert len(set(prefixes)) == len(prefixes)
    assert set(prefixes) == trie.shared_places
    for (begin, end, _), prefix in zip(nodes, prefixes, strict=True):
        below = sorted(trie.requests[prefix]) if prefix else list(range(len(prompts)))
        assert sorted(tree.order[begin:end].tolist()) == below
    assert nodes[-1] == (0, len(prompts), 0)
    for node, parent in enumerate(tree.node_parent.tolist()[:-1]):
        assert parent > node
        longest = max((prefix for prefix in trie.shared_places if is_above(prefix, prefixes[node])), key=len)
        assert prefixes[parent] == longest


def is_above(prefix: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(prefix) < len(other) and other[: len(prefix)] == prefix


@settings(deadline=None)
@given(st.lists(prompt_lists(min_size=0, max_size=6), min_size=1, max_size=4), st.data())
def test_windows_that_come_later_make_the_tree_of_all(windows: list[Prompts], data: st.DataObject) -> None:
    tree = build(windows[0])
    for window in windows[1:]:
        tree.extend(*arrays_of(window), num_threads=data.draw(st.integers(1, 3)))
        tree.verify()
    assert_same(tree, build([prompt for window in windows for prompt in window]))


def test_a_window_that_is_refused_changes_nothing() -> None:
    tree = build([[1, 2], [1, 3]])
    with pytest.raises(ValueError, match="the last offset is 3, but there are only 1 tokens"):
        tree.extend(np.array([1], np.int32), np.array([0, 3]))
    tree.verify()
    assert_same(tree, build([[1, 2], [1, 3]]))


@pytest.mark.parametrize("num_prompts", [50, 20_000])
def test_the_tree_is_the_same_for_every_number_of_threads(num_prompts: int) -> None:
    rng = np.random.default_rng(num_prompts)
    prompts = rng.integers(0, 3, (num_prompts, 12))
    lens = rng.integers(0, 13, num_prompts)
    tree = build([prompt[:length].tolist() for prompt, length in zip(prompts, lens, strict=True)])
    tree.verify()
    tokens = np.concatenate([prompt[:length] for prompt, length in zip(prompts, lens, strict=True)]).astype(np.int32)
    offsets = np.cumsum([0, *lens], dtype=np.int64)
    for num_threads in (0, 2, 3):
        assert_same(tree, PrefixTree.build(tokens, offsets, num_threads=num_threads))


def test_no_prompts_one_prompt_and_equal_prompts_are_trees() -> None:
    nothing = PrefixTree.build(np.array([], np.int32), np.array([0]))
    assert (nothing.num_requests, nothing.num_nodes, nothing.sharing_ratio) == (0, 1, 0.0)
    assert (nothing.order.tolist(), nothing.node_end.tolist()) == ([], [0])
    one = build([[7, 8, 9]])
    assert (one.num_nodes, one.num_unique_tokens, one.sharing_ratio) == (2, 3, 0.0)
    equal = build([[7, 8, 9]] * 5)
    assert (equal.num_nodes, equal.num_unique_tokens, equal.order.tolist()) == (2, 3, [0, 1, 2, 3, 4])
    assert equal.sharing_ratio == 1 - 3 / 15
    empty = build([[], []])
    assert (empty.num_nodes, empty.num_prompt_tokens, empty.sharing_ratio) == (1, 0, 0.0)
    for tree in (nothing, one, equal, empty):
        tree.verify()


def test_the_text_has_a_line_a_segment_and_no_more_than_wanted() -> None:
    tree = build([[7, 8, 1], [7, 8, 2], [9]])
    text = tree.to_string()
    assert len(text.splitlines()) == 5  # the root, 7 8, and a leaf each
    assert "7 8" in text
    assert len(tree.to_string(max_lines=2).splitlines()) == 3
    assert "3 more" in tree.to_string(max_lines=2)
