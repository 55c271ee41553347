"""Tokens for traces that tell only lengths and shared prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from blendserve import PrefixTree
from blendserve.errors import UserError
from blendserve.traces import LengthTrace, concatenate
from blendserve.traces.length_trace import NO_GROUP, concatenate_lengths
from blendserve.traces.made_tokens import VOCAB_SIZE, marker_of
from hypothesis import given
from hypothesis import strategies as st
from small_traces import common_len, lengths_of, prompts_of


def test_all_requests_of_a_source_share_its_marker_and_nothing_else() -> None:
    trace = lengths_of(5, 1, 9, 30).with_tokens()
    assert trace.prompt_lens.tolist() == [5, 1, 9, 30]
    assert {prompt[0] for prompt in prompts_of(trace)} == {marker_of("small")}
    assert [prompt[1] for prompt in prompts_of(trace) if len(prompt) > 1] == [0, 2, 3]
    tree = PrefixTree.build(trace.tokens, trace.offsets)
    assert tree.num_unique_tokens == 45 - 3


def test_sources_have_different_markers_outside_the_vocabulary() -> None:
    first, second = lengths_of(4, name="a").with_tokens(), lengths_of(4, name="b").with_tokens()
    assert VOCAB_SIZE <= first.tokens[0] != second.tokens[0] >= VOCAB_SIZE
    assert max(*first.tokens[1:], *second.tokens[1:]) < VOCAB_SIZE


def test_tokens_are_the_same_whenever_they_are_made_and_wherever() -> None:
    assert lengths_of(4, 3).with_tokens().tokens.tolist() == [
        *(marker_of("small"), 0, 66995, 35361),
        *(marker_of("small"), 1, 9861),
    ]
    assert lengths_of(4, token_seed=1).with_tokens().tokens[2] != 66995


def test_a_trace_beside_another_has_the_tokens_it_has_alone() -> None:
    first, second = lengths_of(7, 8, name="a"), lengths_of(9, name="b")
    joined = concatenate([first.with_tokens(), second.with_tokens()])
    assert joined.take(np.array([2])).tokens.tolist() == second.with_tokens().tokens.tolist()


def test_a_group_begins_with_its_prefix_as_far_as_each_request_says() -> None:
    trace = lengths_of(10, 10, 8, 10, 10, groups=[3, 3, 3, 7, NO_GROUP], prefix_lens=[6, 6, 4, 6, 0])
    a, b, c, other, alone = prompts_of(trace.with_tokens())
    assert [common_len(a, b), common_len(a, c), common_len(a, other), common_len(a, alone)] == [6, 4, 1, 1]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 3), st.integers(0, 40)), min_size=1, max_size=20))
def test_any_two_requests_share_what_their_groups_say(rows: list[tuple[int, int, int]]) -> None:
    prefix_lens = [min(prefix, prompt) if group >= 0 else 0 for prompt, group, prefix in rows]
    trace = lengths_of(
        *(prompt for prompt, _, _ in rows), groups=[group for _, group, _ in rows], prefix_lens=prefix_lens
    )
    prompts = prompts_of(trace.with_tokens())
    for i in range(len(rows)):
        for j in range(i):
            same_group = rows[i][1] == rows[j][1] >= 0
            expected = max(1, min(prefix_lens[i], prefix_lens[j])) if same_group else 1
            assert common_len(prompts[i], prompts[j]) == expected


def test_taken_rows_and_joined_traces_keep_groups_apart() -> None:
    trace = lengths_of(5, 5, groups=[0, NO_GROUP], prefix_lens=[3, 0])
    joined = concatenate_lengths([trace, trace.take(np.array([0, 0, 1]))])
    assert joined.prefix_group.tolist() == [0, -1, 1, 1, -1]
    assert joined.output_lengths.tolist() == [1, 2, 1, 1, 2]
    assert joined.is_known.tolist() == [False, True, False, False, True]


def test_lengths_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="every length must be 1 or more"):
        lengths_of(3, 0)
    with pytest.raises(UserError, match="request 1 has a prefix of 4 tokens in a prompt of 3"):
        lengths_of(3, 3, groups=[0, 0], prefix_lens=[3, 4])


def test_a_trace_of_lengths_alone_knows_nothing_beforehand() -> None:
    trace = LengthTrace.unshared("a", np.array([3], np.int32), np.array([4], np.int32), num_dropped=2).with_tokens()
    assert (trace.is_known.tolist(), trace.sources, trace.num_dropped) == ([False], ("a",), 2)
