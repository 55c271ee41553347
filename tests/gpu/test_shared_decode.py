"""Decode over prefixes that rows share, against float64; plain decode on the same rows is `test_paged_decode`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from blendserve.attention.cuda_library import CudaLibrary, load_cuda_library
from paged_problem import (
    KV_COPY_ASYNC,
    KV_COPY_AUTO,
    DecodeCall,
    PagedProblem,
    expected_output,
    make_plan,
    make_problem,
    share_prefixes,
    worst_row_error,
)

pytestmark = pytest.mark.gpu

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
NUM_CTAS = (1, 24, 44, 132)
MAX_PARTIALS = 20_000


@pytest.fixture(scope="module")
def library() -> CudaLibrary:
    return load_cuda_library()


def check_all_budgets(library: CudaLibrary, problem: PagedProblem, *kv_copies: int) -> None:
    expected = expected_output(problem)
    for num_ctas in NUM_CTAS:
        for kv_copy in kv_copies:
            call = DecodeCall(library, problem, num_ctas=num_ctas, kv_copy=kv_copy, max_partials=MAX_PARTIALS)
            assert call.summary.num_shared_items > 0, "nothing is shared: this would test plain decode"
            error = worst_row_error(call(), expected)
            assert error < TOLERANCE[problem.q.dtype], f"error {error} with {num_ctas} CTAs, kv_copy {kv_copy}"


@pytest.mark.parametrize("group", [1, 2, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kv_dtype", [None, torch.float8_e4m3fn])
def test_every_page_size_budget_and_copy_path_gives_attention(
    library: CudaLibrary, kv_dtype: torch.dtype | None, dtype: torch.dtype, head_dim: int, group: int
) -> None:
    for block_size in (8, 16, 48):
        problem = make_problem(
            [4801, 5000, 5003, 5100, 6000, 4900, 17, 900],
            group=group,
            head_dim=head_dim,
            block_size=block_size,
            dtype=dtype,
            kv_dtype=kv_dtype,
        )
        check_all_budgets(library, share_prefixes(problem, [(0, 6, 4800)]), KV_COPY_ASYNC, KV_COPY_AUTO)


@pytest.mark.parametrize("num_rows", [2, 3, 9, 33, 64, 130])
def test_any_number_of_rows_may_share(library: CudaLibrary, num_rows: int) -> None:
    shared = 9 * 1024 if num_rows < 16 else 1024
    problem = make_problem([shared + 1 + 7 * row for row in range(num_rows)], group=4, seed=num_rows)
    check_all_budgets(library, share_prefixes(problem, [(0, num_rows, shared)]), KV_COPY_AUTO)


@pytest.mark.parametrize("kv_dtype", [None, torch.float8_e4m3fn])
def test_prefixes_of_several_levels(library: CudaLibrary, kv_dtype: torch.dtype | None) -> None:
    lens = [2600] * 20 + [3000] * 12 + [777] * 5
    problem = share_prefixes(
        make_problem(lens, group=4, kv_dtype=kv_dtype), [(0, 32, 1600), (0, 20, 2080), (20, 32, 2960), (24, 32, 2992)]
    )
    check_all_budgets(library, problem, KV_COPY_ASYNC, KV_COPY_AUTO)


def test_a_workspace_without_room_for_sharing_gives_plain_decode(library: CudaLibrary) -> None:
    problem = share_prefixes(make_problem([2000] * 32, group=4), [(0, 32, 1920)])
    call = DecodeCall(library, problem, num_ctas=44)
    assert call.summary.num_shared_items == 0
    assert worst_row_error(call(), expected_output(problem)) < TOLERANCE[torch.bfloat16]


def test_large_scores_do_not_overflow(library: CudaLibrary) -> None:
    problem = make_problem([4000] * 16, group=8, q_scale=40.0)
    check_all_budgets(library, share_prefixes(problem, [(0, 16, 3584)]), KV_COPY_AUTO)


def test_two_runs_give_the_same_bits(library: CudaLibrary) -> None:
    problem = share_prefixes(make_problem([3000] * 40, group=4), [(0, 40, 2048)])
    call = DecodeCall(library, problem, num_ctas=44, max_partials=MAX_PARTIALS)
    first = call().clone()
    for _ in range(20):
        call.out.fill_(float("nan"))
        assert torch.equal(call(), first)


def test_a_captured_graph_serves_steps_with_and_without_sharing(library: CudaLibrary) -> None:
    problem = make_problem([2000] * 32, group=4)
    sharing = share_prefixes(problem, [(0, 32, 1920)])
    call = DecodeCall(library, sharing, num_ctas=44, max_partials=MAX_PARTIALS)
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for step in (problem, replace(sharing, block_table=sharing.block_table.clone())):
        plan, _ = make_plan(library, step, 44, MAX_PARTIALS)
        call.plan.copy_(plan)
        sharing.block_table.copy_(step.block_table)
        call.out.fill_(float("nan"))
        graph.replay()
        assert worst_row_error(call.out, expected_output(step)) < TOLERANCE[torch.bfloat16]
