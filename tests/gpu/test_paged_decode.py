from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from blendserve.attention.cuda_library import CudaLibrary, load_cuda_library
from blendserve.errors import UserError
from paged_problem import (
    DEVICE,
    KV_COPY_ASYNC,
    KV_COPY_AUTO,
    KV_COPY_BULK,
    DecodeCall,
    PagedProblem,
    expected_output,
    make_plan,
    make_problem,
    worst_row_error,
)

pytestmark = pytest.mark.gpu

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
NUM_CTAS = (1, 16, 44, 132)


@pytest.fixture(scope="module")
def library() -> CudaLibrary:
    return load_cuda_library()


def ragged_lens(num_rows: int, longest: int, seed: int) -> list[int]:
    """From 1 to `longest`, both ends included, short ones as likely as long ones."""
    draw = random.Random(seed)
    lens = [min(longest, max(1, round(longest ** draw.random()))) for _ in range(num_rows)]
    return [1, longest, *lens][:num_rows] if num_rows > 1 else [longest]


def check_all_budgets(
    library: CudaLibrary, problem: PagedProblem, kv_copies: tuple[int, ...] = (KV_COPY_AUTO,)
) -> None:
    expected = expected_output(problem)
    for num_ctas in NUM_CTAS:
        for kv_copy in kv_copies:
            out = DecodeCall(library, problem, num_ctas=num_ctas, kv_copy=kv_copy)()
            error = worst_row_error(out, expected)
            assert error < TOLERANCE[problem.q.dtype], f"error {error} with {num_ctas} CTAs, kv_copy {kv_copy}"


@pytest.mark.parametrize("group", [1, 2, 4, 5, 8, 16])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kv_dtype", [None, torch.float8_e4m3fn])
def test_every_page_size_budget_and_copy_path_gives_attention(
    library: CudaLibrary, kv_dtype: torch.dtype | None, dtype: torch.dtype, head_dim: int, group: int
) -> None:
    for block_size in (8, 16, 32, 64):
        problem = make_problem(
            [1, 7, 16, 17, 130, 640, 1003],
            group=group,
            head_dim=head_dim,
            block_size=block_size,
            dtype=dtype,
            kv_dtype=kv_dtype,
            seed=block_size,
        )
        check_all_budgets(library, problem, (KV_COPY_ASYNC, KV_COPY_AUTO))


@pytest.mark.parametrize("num_rows", [1, 3, 32, 256])
def test_ragged_batches_of_contexts_up_to_8192(library: CudaLibrary, num_rows: int) -> None:
    check_all_budgets(library, make_problem(ragged_lens(num_rows, 8192, seed=num_rows), group=4, seed=num_rows))


@pytest.mark.parametrize("block_size", [1, 5, 24, 48, 128])
@pytest.mark.parametrize("kv_dtype", [None, torch.float8_e4m3fn])
def test_a_page_may_have_any_size(library: CudaLibrary, kv_dtype: torch.dtype | None, block_size: int) -> None:
    check_all_budgets(library, make_problem([1, 100, 333], group=4, block_size=block_size, kv_dtype=kv_dtype))


def test_large_scores_do_not_overflow(library: CudaLibrary) -> None:
    check_all_budgets(library, make_problem([50, 4000], group=8, q_scale=40.0))


def test_rows_of_queries_may_lie_apart(library: CudaLibrary) -> None:
    problem = make_problem([40, 90, 300], group=4)
    wide = torch.full((3, 5000), float("nan"), dtype=problem.q.dtype, device=DEVICE)
    q = wide[:, : problem.q[0].numel()].view(3, *problem.q.shape[1:])
    q.copy_(problem.q)
    call = DecodeCall(library, problem, num_ctas=16)
    call.params.q, call.params.q_stride = q.data_ptr(), q.stride(0)
    assert worst_row_error(call(), expected_output(problem)) < TOLERANCE[torch.bfloat16]


def test_two_runs_give_the_same_bits(library: CudaLibrary) -> None:
    call = DecodeCall(library, make_problem(ragged_lens(64, 4096, seed=5), group=4), num_ctas=44)
    first = call().clone()
    for _ in range(20):
        call.out.fill_(float("nan"))
        assert torch.equal(call(), first)


def test_a_captured_graph_serves_the_next_steps_batch(library: CudaLibrary) -> None:
    problem = make_problem([700, 60, 1500], group=4)
    call = DecodeCall(library, problem, num_ctas=16)
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    fewer = PagedProblem(
        problem.q, problem.kv, np.array([333, 60], np.int32), problem.block_indptr[:3], problem.block_table
    )
    plan, _ = make_plan(library, fewer, 16, call.params.max_partials)
    call.plan[: len(plan)] = plan
    call.out.fill_(float("nan"))
    graph.replay()
    assert worst_row_error(call.out[:2], expected_output(fewer)[:2]) < TOLERANCE[torch.bfloat16]
    assert call.out[2].isnan().all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("head_dim", 96, "paged_decode: head_dim is 96"),
        ("num_heads", 9, "paged_decode: num_heads is 9 and num_kv_heads 2"),
        ("dtype", 7, "dtype is 7"),
        ("kv_dtype", 1, "kv_dtype is 1; it must be dtype \\(0\\) or e4m3 \\(2\\)"),
        ("k_scale", 2.0, "k_scale is 2.0"),
        ("num_ctas", 0, "num_ctas is 0"),
        ("workspace_bytes", 16, "workspace_bytes is 16"),
        ("max_partials", 7, "max_partials is 7"),
        ("block_size", 0, "block_size 0"),
        ("num_blocks", 1 << 40, "fewer than 2\\^31 rows"),
    ],
)
def test_a_bad_call_is_refused_with_the_value(library: CudaLibrary, field: str, value: float, message: str) -> None:
    call = DecodeCall(library, make_problem([20], group=4), num_ctas=4)
    setattr(call.params, field, value)
    with pytest.raises(UserError, match=message):
        call()


def test_bulk_copies_need_a_page_size_that_is_a_multiple_of_16(library: CudaLibrary) -> None:
    call = DecodeCall(library, make_problem([20], group=4, block_size=24), num_ctas=4, kv_copy=KV_COPY_BULK)
    with pytest.raises(UserError, match="it is 24"):
        call()
