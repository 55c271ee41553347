"""What a simulation reports besides times."""

from __future__ import annotations

from itertools import pairwise

import blendserve as bs
import numpy as np
import pytest
from blendserve._core import PrefixTree
from blendserve.simulation.workload_sums import TraceSums, reachable_tokens
from workloads import COST, DEVICE, MODEL, SCHEDULES, trace_of

CACHE_BYTES = int(4096 * COST.kv_bytes_per_token)
KEYS_OF_A_RUN = {
    "schedule", "execution", "lengths", "dp", "total_s", "throughput_tok_s", "practical_optimal_fraction",
    "sharing_ratio", "sharing_fraction_of_optimal", "steps", "preemptions", "recomputed_tokens", "step_schedule_us",
    "preprocess_s",
}  # fmt: skip


def random_prompts(seed: int, num_requests: int, max_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Of two tokens, so that they share a lot."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, max_len, num_requests)
    return random.integers(0, 2, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths], dtype=np.int64)


def test_the_json_has_what_was_promised() -> None:
    trace = trace_of([300, 200, 100], [5, 60, 7])
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules=["dfs", "blend"], dp=2, seed=7)
    figures = report.as_json()
    assert {"num_requests", "prompt_tokens", "output_tokens", "sharing_ratio_optimal", "density"} <= set(
        figures["workload"]
    )
    assert set(figures["bound"]) == {"t_comp_s", "t_mem_s", "ideal_s", "practical_s"}
    assert all(set(run) >= KEYS_OF_A_RUN for run in figures["runs"])
    assert all(set(run["step_schedule_us"]) == {"mean", "p99"} for run in figures["runs"])
    assert [(run["schedule"], run["dp"], len(run["replica_s"])) for run in figures["runs"]] == [
        ("dfs", 2, 2),
        ("blend", 2, 2),
    ]
    assert (figures["model"], figures["hardware"], figures["seed"]) == ("llama-3.1-8b", "a100-sxm-80gb", 7)


def test_throughput_counts_prompts_and_outputs_and_sharing_what_was_cached() -> None:
    trace = trace_of([64, 64, 40], [5, 6, 7], shared_lens=[32, 32, 0])
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules="dfs")
    (run,) = report.runs
    assert (report.workload.prompt_tokens, report.workload.output_tokens) == (168, 18)
    assert report.workload.sharing_ratio_optimal == pytest.approx(32 / 168)
    assert report.workload.sharing_ratio_reachable == pytest.approx(32 / 168)
    assert run.throughput_tok_s == pytest.approx((168 + 18) / run.total_s)
    assert run.practical_optimal_fraction == pytest.approx(report.bound.practical_s / run.total_s)
    assert run.sharing_ratio == pytest.approx(32 / 168)
    assert run.sharing_fraction_of_optimal == pytest.approx(1)
    assert run.replica_s == (run.total_s,)


def test_nothing_to_share_is_shared_in_full() -> None:
    report = bs.simulate(trace_of([64, 64], [5, 6]), model=MODEL, device=DEVICE, schedules="random")
    assert (report.workload.sharing_ratio_reachable, report.runs[0].sharing_fraction_of_optimal) == (0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_reachable_sharing_is_what_a_cache_that_forgets_nothing_finds(seed: int) -> None:
    tokens, offsets = random_prompts(seed, num_requests=30, max_len=12)
    prompts = [tuple(tokens[begin:end]) for begin, end in pairwise(offsets)]
    cached: set[tuple[int, ...]] = set()
    found = 0
    for prompt in sorted(prompts, key=len):
        blocks = [prompt[:end] for end in range(2, len(prompt) + 1, 2)]
        found += 2 * sum(block in cached and len(block) < len(prompt) for block in blocks)
        cached.update(blocks)
    assert reachable_tokens(PrefixTree.build(tokens, offsets), block_size=2) == found


@pytest.mark.parametrize("seed", range(5))
def test_bound_and_density_are_those_of_a_plan_that_knows_all_lengths(seed: int) -> None:
    tokens, offsets = random_prompts(seed, num_requests=200, max_len=40)
    lengths = np.random.default_rng(seed).integers(1, 5000, 200).astype(np.int32)
    tree = PrefixTree.build(tokens, offsets)
    report = bs.plan(tree, None, lengths, model=MODEL, device=DEVICE, split_budget=0.0).report
    sums = TraceSums.of(tree, lengths)
    bound = sums.bound(COST)
    for name in ("t_comp_s", "t_mem_s", "ideal_s", "practical_s"):
        assert getattr(bound, name) == pytest.approx(getattr(report, name), rel=1e-12)
    assert sums.density(COST) == pytest.approx(report.density, rel=1e-12)


def test_several_replicas_take_as_long_as_the_slowest_and_their_bound_is_shared() -> None:
    trace = trace_of([500] * 40, [100] * 40)
    alone, four = (bs.simulate(trace, model=MODEL, device=DEVICE, schedules="dfs", dp=dp) for dp in (1, 4))
    (run,) = four.runs
    assert run.total_s == max(run.replica_s) < alone.runs[0].total_s
    assert four.bound.t_comp_s == pytest.approx(alone.bound.t_comp_s / 4)
    assert four.bound.t_mem_s == pytest.approx(alone.bound.t_mem_s / 4)
    assert run.memory_s == pytest.approx(alone.runs[0].memory_s)


def test_of_two_replicas_the_one_with_the_longest_output_need_not_read_its_share() -> None:
    """Short prompt and long output on one, the reverse on the other: half of the reads on top of the steps is too
    much to ask of either."""
    sums = TraceSums.of(
        PrefixTree.build(np.arange(10_001, dtype=np.int32), np.array([0, 1, 10_001])), np.array([1000, 500])
    )
    long_s = 999 * COST.weight_read_s() + COST.t_kv * (1 * 999 + 1000 * 999 / 2)
    assert sums.bound(COST, 2).practical_s == pytest.approx(long_s)


def test_requests_that_never_fit_are_left_out_and_counted() -> None:
    trace = trace_of([100, 4000, 100], [10, 200, 10])
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules="fcfs", kv_memory=CACHE_BYTES)
    assert report.kv_capacity_tokens == 4096
    assert (report.workload.num_requests, report.workload.skipped_requests) == (2, 1)
    assert (report.workload.prompt_tokens, report.workload.output_tokens) == (200, 20)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_request_that_fills_the_cache_runs(schedule: str) -> None:
    trace = trace_of([100, 4000, 100], [10, 96, 10])
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules=schedule, kv_memory=CACHE_BYTES)
    assert (report.workload.num_requests, report.workload.skipped_requests) == (3, 0)
    assert report.runs[0].total_s > 0


def test_requests_beyond_the_context_run_and_are_counted() -> None:
    trace = trace_of([131_000, 100], [73, 10])
    report = bs.simulate(trace, model=MODEL, device=DEVICE, schedules="fcfs")
    assert (report.workload.num_requests, report.workload.over_context_requests) == (2, 1)


def test_a_run_is_the_same_every_time() -> None:
    random = np.random.default_rng(0)
    trace = trace_of(random.integers(1, 900, 100), random.integers(1, 300, 100))
    first, second = (
        bs.simulate(trace, model=MODEL, device=DEVICE, schedules=SCHEDULES, sample_rate=0.1, seed=3) for _ in range(2)
    )
    assert [run.total_s for run in first.runs] == [run.total_s for run in second.runs]


def test_only_schedules_that_follow_a_plan_are_charged_for_planning() -> None:
    report = bs.simulate(trace_of([100] * 9, [9] * 9), model=MODEL, device=DEVICE, schedules=["dfs", "paper", "blend"])
    dfs, paper, blend = (run.preprocess_s for run in report.runs)
    assert dfs == 0
    assert paper == blend > 0
