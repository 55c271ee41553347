"""No schedule is faster than the bound."""

from __future__ import annotations

import blendserve as bs
from blendserve.traces import Trace
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import COST, DEVICE, MEASURED, MODEL, SCHEDULES, trace_of


@st.composite
def small_traces(draw: st.DrawFn) -> Trace:
    """Few requests of very unlike lengths; some share all that they can, some are equal, some write one token."""
    num_requests = draw(st.integers(1, 12))

    def lengths(longest: int) -> list[int]:
        some = st.one_of(st.integers(1, 20), st.integers(1, longest))
        return draw(st.lists(some, min_size=num_requests, max_size=num_requests))

    prompt_lens = lengths(3000)
    if draw(st.booleans()):
        prompt_lens = [prompt_lens[0]] * num_requests
    shared = [length - draw(st.sampled_from([0, 0, 1, length // 2, length])) for length in prompt_lens]
    output_lengths = [1] * num_requests if draw(st.booleans()) else lengths(800)
    known = draw(st.lists(st.booleans(), min_size=num_requests, max_size=num_requests))
    return trace_of(prompt_lens, output_lengths, shared_lens=shared, known=known)


@settings(max_examples=120, deadline=None)
@given(
    trace=small_traces(),
    device=st.sampled_from([DEVICE, MEASURED]),
    lengths=st.sampled_from(["sampled", "hinted", "known"]),
    dp=st.integers(1, 3),
    kv_tokens=st.sampled_from([4096, 16384, None]),
    max_batch_tokens=st.sampled_from([64, 2048]),
)
def test_no_run_beats_the_practical_optimum(
    trace: Trace, device: bs.DeviceSpec, lengths: str, dp: int, kv_tokens: int | None, max_batch_tokens: int
) -> None:
    report = bs.simulate(
        trace,
        model=MODEL,
        device=device,
        schedules=SCHEDULES,
        execution=["overlapped", "sequential"],
        lengths=lengths,  # type: ignore[arg-type]
        dp=min(dp, trace.num_requests),
        sample_rate=0.2,
        kv_memory=None if kv_tokens is None else int(kv_tokens * COST.kv_bytes_per_token),
        max_batch_tokens=max_batch_tokens,
        timeline_bins=0,
    )
    assert report.workload.skipped_requests == 0
    for run in report.runs:
        assert 0 < run.practical_optimal_fraction <= 1 + 1e-9
        assert 0 <= run.sharing_fraction_of_optimal <= 1 + 1e-9
        assert run.total_s >= report.bound.ideal_s * (1 - 1e-9)
