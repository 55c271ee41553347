"""A trace, its parts and what it is made of."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve.errors import UserError
from blendserve.traces import concatenate
from hypothesis import given
from hypothesis import strategies as st
from small_traces import prompts_of, trace_of

PROMPTS = st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=8)


def test_a_trace_counts_its_requests_and_tokens() -> None:
    trace = trace_of([1, 2], [], [3], outputs=[5, 6, 2**30])
    assert (trace.num_requests, trace.num_prompt_tokens, trace.num_output_tokens) == (3, 3, 11 + 2**30)
    assert trace.prompt_lens.tolist() == [2, 0, 1]


def test_rows_are_taken_in_their_order_and_may_repeat() -> None:
    trace = trace_of([1, 2], [], [3], outputs=[5, 6, 7]).take(np.array([2, 0, 2]))
    assert prompts_of(trace) == [[3], [1, 2], [3]]
    assert trace.output_lengths.tolist() == [7, 5, 7]


@given(PROMPTS, st.data())
def test_taken_rows_are_those_of_a_list(prompts: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1))
    assert prompts_of(trace_of(*prompts).take(np.array(rows))) == [prompts[row] for row in rows]


def test_a_seed_decides_the_random_order() -> None:
    trace = trace_of(*([i] for i in range(50)), outputs=list(range(1, 51)))
    shuffled = trace.shuffled(1)
    assert prompts_of(shuffled) == prompts_of(trace.shuffled(1)) != prompts_of(trace.shuffled(2))
    assert sorted(prompts_of(shuffled)) == prompts_of(trace)
    assert (shuffled.output_lengths - 1).tolist() == [prompt[0] for prompt in prompts_of(shuffled)]


def test_traces_are_joined_and_sources_of_one_name_become_one() -> None:
    parts = [trace_of([1], [2], name="a"), trace_of([3], name="b"), trace_of([], name="a", outputs=[9])]
    trace = concatenate(parts)
    assert prompts_of(trace) == [[1], [2], [3], []]
    assert trace.sources == ("a", "b")
    assert trace.source.tolist() == [0, 0, 1, 0]
    assert trace.output_lengths.tolist() == [1, 1, 1, 9]


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no trace to concatenate"):
        concatenate([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.zeros(3)}, r"tokens is float64 of shape \(3,\); it must be int32 \[3\]"),
        ({"source": np.zeros(1, np.int16)}, r"source is int16 of shape \(1,\); it must be int16 \[2\]"),
        ({"offsets": np.array([0, 1, 2])}, "offsets must begin at 0 and end at 3"),
        ({"offsets": np.array([0, 4, 3])}, "offsets must never fall"),
        ({"output_lengths": np.array([1, 0], np.int32)}, "output_lengths has a 0; every request writes 1 token"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(trace_of([1, 2], [3]), **changes)


def test_the_package_exports_traces_and_imports_them_at_first_use() -> None:
    assert bs.Trace is type(trace_of([1]))
    code = (
        "import sys, blendserve as bs\n"
        "print('blendserve.traces' in sys.modules, bs.read_trace.__name__, 'pyarrow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "read_trace", "False"]
