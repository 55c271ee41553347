"""What a schedule is told of the output lengths."""

from __future__ import annotations

import blendserve as bs
import numpy as np
from blendserve._core import PrefixTree
from blendserve.simulation.told_lengths import Lengths, ToldLengths
from blendserve.traces import Trace
from workloads import DEVICE, MODEL, trace_of

NUM_REQUESTS = 400


def half_known_trace() -> Trace:
    """Prompts with one common beginning; every second length is known."""
    ones = [1] * NUM_REQUESTS
    lengths = list(range(1, NUM_REQUESTS + 1))
    return trace_of([50] * NUM_REQUESTS, lengths, shared_lens=ones, known=[row % 2 == 1 for row in range(NUM_REQUESTS)])


def told(lengths: Lengths) -> ToldLengths:
    trace = half_known_trace()
    tree = PrefixTree.build(trace.tokens, trace.offsets)
    return ToldLengths.of(trace, tree, lengths, sample_rate=0.05, seed=0)


def test_sampled_tells_the_samples_and_runs_them_first() -> None:
    sampled = told("sampled")
    true_lengths = half_known_trace().output_lengths
    assert 10 <= sampled.is_first.sum() <= 40
    np.testing.assert_array_equal(sampled.lengths, np.where(sampled.is_first, true_lengths, -1))
    assert sampled.weights is not None
    assert (sampled.weights[sampled.is_first] > 0).all()


def test_hinted_tells_the_known_ones_too_which_say_nothing_of_others() -> None:
    trace, hinted = half_known_trace(), told("hinted")
    assert not (hinted.is_first & trace.is_known).any()
    np.testing.assert_array_equal(hinted.lengths, np.where(hinted.is_first | trace.is_known, trace.output_lengths, -1))
    assert hinted.weights is not None
    assert (hinted.weights[trace.is_known] == 0).all()
    assert (hinted.weights[hinted.is_first] > 0).all()


def test_known_tells_all_and_needs_no_samples() -> None:
    known = told("known")
    np.testing.assert_array_equal(known.lengths, half_known_trace().output_lengths)
    assert known.weights is None
    assert not known.is_first.any()


def test_all_three_can_be_run() -> None:
    for lengths in ("sampled", "hinted", "known"):
        report = bs.simulate(half_known_trace(), model=MODEL, device=DEVICE, schedules="blend", lengths=lengths, dp=2)
        assert report.runs[0].lengths == lengths
        assert report.workload.num_requests == NUM_REQUESTS
        assert (report.workload.num_samples == 0) == (lengths == "known")


def test_samples_of_the_whole_job_are_as_good_as_known_lengths() -> None:
    trace = half_known_trace()
    total_s = [
        bs.simulate(
            trace, model=MODEL, device=DEVICE, schedules=["blend"], lengths=lengths, sample_rate=1.0, kv_memory="1GiB"
        )
        .runs[0]
        .total_s
        for lengths in ("sampled", "known")
    ]
    assert total_s[0] == total_s[1]
