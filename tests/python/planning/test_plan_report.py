"""The figures of a plan's report against closed forms over a naive trie."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from blendserve import DeviceSpec, ModelSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.closed_forms import JobCosts
from planning.jobs import A100, LLAMA, TARGETS, TOY, TOY_CASCADE, TOY_DEVICE, plan_of
from planning.naive_trie import NaiveTrie, prompt_lists

# Tokens of KV cache by DESIGN's rule: (0.9 * 80e9 - 2e9 - 2 * 8.03e9) / 131,072 in whole blocks of 16.
CAPACITY = {"llama-3.1-8b": 411_472, "toy": 3200}


def jobs(longest: int = 40) -> st.SearchStrategy[list[tuple[list[int], int]]]:
    def with_lengths(prompts: list[list[int]]) -> st.SearchStrategy[Any]:
        lengths = st.lists(st.integers(0, longest), min_size=len(prompts), max_size=len(prompts))
        return st.tuples(st.just(prompts), lengths)

    return prompt_lists().flatmap(with_lengths)


@pytest.mark.parametrize(("model", "device"), TARGETS, ids=["llama", "toy", "cascade"])
@settings(deadline=None)
@given(job=jobs(), split_budget=st.sampled_from([0.0, 0.01, 1.0]))
def test_every_figure_is_the_closed_form_whatever_the_split(
    model: ModelSpec, device: DeviceSpec, job: tuple[list[list[int]], list[int]], split_budget: float
) -> None:
    prompts, lengths = job
    report = plan_of(prompts, lengths, model=model, device=device, split_budget=split_budget).report
    costs = JobCosts.of(prompts, lengths, model, device, CAPACITY[model.name])
    assert report.density == pytest.approx(costs.density, rel=1e-9)
    for field in dataclasses.fields(costs):
        assert getattr(report, field.name) == pytest.approx(getattr(costs, field.name), rel=1e-9), field.name
    trie = NaiveTrie(prompts)
    assert report.num_requests == len(prompts)
    assert report.prompt_tokens == sum(map(len, prompts))
    assert report.unique_prompt_tokens == trie.num_tokens
    assert report.num_nodes == len(trie.places)
    assert report.sharing_ratio_optimal == pytest.approx(trie.sharing_ratio, abs=1e-12)
    assert 1 <= report.num_scan_units <= len(prompts)
    assert set(report.preprocess_s) == {"tokenize", "build", "estimate", "sort", "split"}
    assert min(report.preprocess_s.values()) >= 0


def test_the_papers_example_densities_come_out() -> None:
    for prompt_len, output_len, density in [(512, 256, 3.73), (256, 16_384, 0.096)]:
        plan = plan_of([range(prompt_len)], [output_len], model=LLAMA, device=A100)
        assert plan.density == pytest.approx(density, rel=0.02)  # theirs without the square term
        assert plan.density == plan.report.density


def test_a_plan_says_what_it_is() -> None:
    plan = plan_of([[1, 2, 3, 4], [1, 2, 3, 5]], [3, 1], model=LLAMA, device=A100)
    assert repr(plan) == (
        f"Plan(2 requests, density {plan.density:.3g}, 37.5% of the prompt tokens shared, {LLAMA.name} on {A100.name})"
    )


def test_a_job_worked_out_by_hand() -> None:
    # Tokens 1 2 | 3 and 1 2 | 4 5; outputs of 3 and 1: three decode steps over the first prompt, none over the second.
    report = plan_of([[1, 2, 3], [1, 2, 4, 5]], [3, 1]).report
    assert report.compute_s == pytest.approx((5 + 4) + (4 + 5 + 16 - 4) / 1000)
    assert report.memory_s == pytest.approx((3 * 3 + 9 / 2 + 4 * 1 + 1 / 2) / 100)
    assert report.t_comp_s == pytest.approx((5 + 2) + (4 + 5 + 16 - 4) / 1000)
    assert report.t_mem_s == pytest.approx((3 * 2 + 3) / 100)
    assert report.ideal_s == report.t_comp_s
    assert report.practical_s == pytest.approx(report.t_comp_s + 0.5 * report.t_mem_s)
    cascade = plan_of([[1, 2, 3], [1, 2, 4, 5]], [3, 1], model=TOY_CASCADE).report
    assert cascade.memory_s == pytest.approx((2 * 3 + 1 * 3 + 9 / 2 + 2 * 1 + 1 / 2) / 100)
    assert cascade.t_mem_s == pytest.approx((2 * 2 + 1 * 2 + 3) / 100)


def test_a_single_output_token_takes_no_decode_step() -> None:
    report = plan_of([[1, 2, 3]] * 4, [1] * 4).report
    assert (report.t_mem_s, report.unique_prompt_tokens) == (0.0, 3)
    assert report.t_comp_s == report.ideal_s == report.practical_s == pytest.approx(3 + 9 / 1000)
    assert report.sharing_ratio_optimal == report.sharing_ratio_planned == 1 - 3 / 12


def test_without_memory_time_the_density_is_infinite() -> None:
    plan = plan_of([[1, 2], [3]], [0, 0])
    assert plan.density == np.inf
    assert sorted(plan.order.tolist()) == [0, 1]
    assert np.isinf(plan.tree_view("planned").leaf_density).all()


def test_the_longest_chain_of_decode_steps_bounds_a_small_job() -> None:
    weight_read_s = 2 / TOY_DEVICE.bandwidth
    report = plan_of([[1]], [2000]).report
    assert report.t_comp_s < report.practical_s
    assert report.practical_s >= 1999 * weight_read_s + report.t_mem_s


def test_tensor_parallel_devices_are_that_many_times_as_fast() -> None:
    one = plan_of([[1, 2, 3]], [5], model=LLAMA, device=A100).report
    four = plan_of([[1, 2, 3]], [5], model=LLAMA, device=DeviceSpec.named("a100-sxm-80gb", tp=4)).report
    assert four.density == pytest.approx(one.density)
    assert four.t_comp_s == pytest.approx(one.t_comp_s / 4)
    assert four.t_mem_s == pytest.approx(one.t_mem_s / 4)


def test_a_model_that_leaves_no_room_for_kv_is_refused() -> None:
    with pytest.raises(ValueError, match=r"llama-3.1-70b needs .* GB for its weights .* raise tp"):
        plan_of([[1]], [1], model=ModelSpec.named("llama-3.1-70b"), device=A100)
    tiny = DeviceSpec(
        name="tiny",
        flops_4_byte=2.0,
        flops_2_byte=2.0,
        flops_1_byte=2.0,
        bandwidth=400.0,
        memory_bytes=1e6,
        kv_memory_bytes=1.0,
    )
    with pytest.raises(ValueError, match="toy needs"):
        plan_of([[1]], [1], model=TOY, device=tiny)
