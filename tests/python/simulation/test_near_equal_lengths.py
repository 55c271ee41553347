"""Answers of about the same length: what starts together ends together, unless the schedule spreads it."""

from __future__ import annotations

import blendserve as bs
import numpy as np
from workloads import DEVICE, MODEL, trace_of


def test_near_equal_answers_keep_the_cache_full() -> None:
    rng = np.random.default_rng(1)
    prompt_lens = rng.integers(50, 400, 2_000).tolist()
    output_lengths = rng.normal(4_000, 80, 2_000).astype(int).tolist()
    trace = trace_of(prompt_lens, output_lengths)
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules=["blend"], lengths="known", timeline_bins=200)
    (run,) = report.runs
    duration_s = run.timeline["duration_s"]
    elapsed = np.cumsum(duration_s) / duration_s.sum()
    held = run.timeline["held_tokens_s"] / duration_s / report.kv_capacity_tokens
    # Between the first generation of answers, which fills the cache, and the last, which empties it.
    assert held[(elapsed > 0.3) & (elapsed < 0.75)].min() > 0.85
    assert run.preemptions == 0
