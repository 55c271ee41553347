"""Simulated time, by hand."""

from __future__ import annotations

import math

import blendserve as bs
import numpy as np
import pytest
from workloads import COST, DEVICE, MODEL, SCHEDULES, trace_of

P, D, STEP_TOKENS = 5000, 40, 2048


def prefill_s(context_len: int, num_tokens: int) -> float:
    tokens = math.ceil(num_tokens / 128) * 128
    compute_s = tokens * COST.t_tok + COST.t_attn * (2 * context_len * num_tokens + num_tokens**2)
    return max(compute_s, COST.weight_read_s())


def decode_s(length: int, execution: str) -> float:
    compute_s = max(128 * COST.t_tok, COST.weight_read_s())
    memory_s = COST.t_kv * length
    if execution == "sequential":
        return compute_s + memory_s
    overlapped_s = max(compute_s, memory_s) + 0.5 * min(compute_s, memory_s)
    return max(overlapped_s, COST.weight_read_s() + memory_s)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("execution", ["overlapped", "sequential"])
def test_one_request_takes_its_chunks_and_then_a_step_a_token(execution: str, schedule: str) -> None:
    report = bs.simulate(
        trace_of([P], [D]), model=MODEL, device=DEVICE, schedules=schedule, execution=execution, lengths="known"
    )
    (run,) = report.runs
    chunks = sum(prefill_s(begin, min(STEP_TOKENS, P - begin)) for begin in range(0, P, STEP_TOKENS))
    decodes = sum(decode_s(P + step, execution) for step in range(1, D))
    assert run.steps == 3 + D - 1
    assert run.total_s == pytest.approx(chunks + decodes, rel=1e-9)


@pytest.mark.parametrize("execution", ["overlapped", "sequential"])
def test_a_step_that_prefills_and_decodes_takes_both_into_one(execution: str) -> None:
    report = bs.simulate(
        trace_of([100, 2000], [3, 1]), model=MODEL, device=DEVICE, schedules="fcfs", execution=execution
    )
    first_s = max(2048 * COST.t_tok + COST.t_attn * (100**2 + 1948**2), COST.weight_read_s())
    compute_s = max(128 * COST.t_tok + COST.t_attn * (2 * 1948 * 52 + 52**2), COST.weight_read_s())
    memory_s = COST.t_kv * 101
    if execution == "sequential":
        second_s = compute_s + memory_s
    else:
        second_s = max(compute_s + 0.5 * memory_s, COST.weight_read_s() + memory_s)
    assert report.runs[0].total_s == pytest.approx(first_s + second_s + decode_s(102, execution), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_memory_time_is_that_of_the_closed_form(schedule: str) -> None:
    random = np.random.default_rng(0)
    p, d = random.integers(1, 900, 200), random.integers(1, 300, 200)
    report = bs.simulate(trace_of(p, d), model=MODEL, device=DEVICE, schedules=schedule)
    (run,) = report.runs
    assert run.preemptions == 0
    assert run.memory_s == pytest.approx(COST.t_kv * float((p * (d - 1) + d * (d - 1) // 2).sum()), rel=1e-9)
    assert run.memory_s == pytest.approx(report.bound.t_mem_s, rel=1e-9)


def test_the_timeline_adds_up_to_the_run() -> None:
    trace = trace_of([300] * 50, [20] * 50, shared_lens=[200] * 50)
    (run,) = bs.simulate(trace, model=MODEL, device=DEVICE, schedules="blend", timeline_bins=8).runs
    timeline = run.timeline
    assert 1 < len(timeline["duration_s"]) <= 8
    assert timeline["duration_s"].sum() == pytest.approx(run.total_s)
    assert timeline["compute_s"].sum() == pytest.approx(run.compute_s)
    assert timeline["memory_s"].sum() == pytest.approx(run.memory_s)
    assert timeline["steps"].sum() == run.steps
    assert timeline["prompt_tokens"].sum() == 15_000
    assert timeline["cached_tokens"].sum() == run.sharing_ratio * 15_000
    assert timeline["output_tokens"].sum() == 1_000


def test_counting_the_scheduler_makes_every_step_longer() -> None:
    trace = trace_of([300] * 50, [20] * 50)
    without, counted = (
        bs.simulate(trace, model=MODEL, device=DEVICE, schedules="dfs", counts_scheduling=counts).runs[0].total_s
        for counts in (False, True)
    )
    assert without < counted < without + 1
