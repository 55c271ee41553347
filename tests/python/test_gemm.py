"""The CPU GEMM: the same bits in any batch, near the exact product, and what its binding refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from blendserve import _core
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

DTYPES = ("float32", "bfloat16", "int8")
Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)
    _core.set_isa("auto")


def isas() -> list[str]:
    _core.set_isa("auto")
    names = ["scalar", "avx2", "avx512"]
    return names[: names.index(_core.isa()) + 1]


def random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def multiply(a: Array, matrix: _core.PackedMatrix) -> Array:
    out = np.full((len(a), matrix.num_outputs), np.nan, np.float32)
    _core.gemm(a, matrix, out)
    return out


@given(
    num_rows=st.integers(1, 90),
    num_outputs=st.integers(1, 100),
    num_inputs=st.integers(1, 600),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_row_has_the_same_bits_in_any_batch_with_any_threads_and_instruction_set(
    num_rows: int, num_outputs: int, num_inputs: int, dtype: str, seed: int, data: st.DataObject
) -> None:
    a, weights = random(seed, num_rows, num_inputs), random(seed + 1, num_outputs, num_inputs)
    matrix = _core.PackedMatrix(weights, dtype)
    whole = multiply(a, matrix)
    begin = data.draw(st.integers(0, num_rows - 1))
    end = data.draw(st.integers(begin + 1, num_rows))
    _core.set_num_threads(data.draw(st.integers(1, 3)))
    _core.set_isa(data.draw(st.sampled_from(isas())))
    np.testing.assert_array_equal(multiply(a[begin:end], matrix), whole[begin:end])
    np.testing.assert_array_equal(_core.gemm_argmax(a, matrix), whole.argmax(axis=1))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 3e-3), ("int8", 2e-2)])
def test_outputs_differ_from_the_exact_product_by_the_rounding_of_the_stored_weights(dtype: str, error: float) -> None:
    a, weights = random(1, 40, 1536), random(2, 70, 1536)
    exact = a.astype(np.float64) @ weights.astype(np.float64).T
    difference = np.linalg.norm(multiply(a, _core.PackedMatrix(weights, dtype)) - exact)
    assert difference < error * np.linalg.norm(exact)


def test_bias_and_the_old_value_are_added_last() -> None:
    a, weights, bias, out = random(1, 5, 64), random(2, 40, 64), random(3, 40), random(4, 5, 40)
    matrix = _core.PackedMatrix(weights)
    expected = out + (multiply(a, matrix) + bias)
    _core.gemm(a, matrix, out, bias, accumulate=True)
    np.testing.assert_array_equal(out, expected)


def test_weights_come_in_bfloat16_too_and_rows_may_lie_apart() -> None:
    wide = torch.from_numpy(random(1, 40, 80)).bfloat16()
    a, out = random(2, 5, 70), np.zeros((5, 50), np.float32)
    _core.gemm(a[:, :60], _core.PackedMatrix(wide[:, :60], "bfloat16"), out[:, :40])
    expected = multiply(a[:, :60].copy(), _core.PackedMatrix(wide[:, :60].float().contiguous()))
    np.testing.assert_array_equal(out[:, :40], expected)
    assert not out[:, 40:].any()


@pytest.mark.parametrize(("dtype", "size_bytes"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_a_matrix_says_what_it_is(dtype: str, size_bytes: int) -> None:
    matrix = _core.PackedMatrix(random(1, 64, 10), dtype)
    assert (matrix.num_outputs, matrix.num_inputs, matrix.dtype) == (64, 10, dtype)
    assert matrix.size_bytes == 64 * 10 * size_bytes + (64 * 4 if dtype == "int8" else 0)


def test_a_batch_without_rows_gives_none() -> None:
    matrix = _core.PackedMatrix(random(1, 40, 8))
    assert multiply(random(2, 0, 8), matrix).shape == (0, 40)
    assert _core.gemm_argmax(random(2, 0, 8), matrix).shape == (0,)


def test_weights_that_cannot_be_stored_are_refused() -> None:
    weights = random(1, 40, 8)
    with pytest.raises(ValueError, match='dtype is "int4"; it must be "float32", "bfloat16" or "int8"'):
        _core.PackedMatrix(weights, "int4")
    with pytest.raises(ValueError, match="the matrix has 0 outputs and 8 inputs; both must be 1 or more"):
        _core.PackedMatrix(weights[:0])
    weights[2, 1] = np.nan
    with pytest.raises(ValueError, match="the weight of output 2 and input 1 is nan; int8 holds finite weights only"):
        _core.PackedMatrix(weights, "int8")


@pytest.mark.parametrize(
    ("a", "out", "bias", "message"),
    [
        (random(1, 3, 7), random(0, 3, 40), None, r"a has shape \[3, 7\]; it must be .*\[any, 8\]"),
        (random(1, 3, 8), random(0, 2, 40), None, r"out has shape \[2, 40\]; it must be .*\[3, 40\]"),
        (random(1, 3, 8), random(0, 3, 40), random(2, 39), r"bias has shape \[39\]; it must be .*\[40\]"),
        (random(1, 3, 8).astype(np.float64), random(0, 3, 40), None, "a has dtype float64; it must be float32"),
        (random(1, 8, 3).T, random(0, 3, 40), None, "a is not contiguous"),
    ],
)
def test_what_does_not_fit_is_refused_and_out_is_untouched(a: Array, out: Array, bias: Array, message: str) -> None:
    before = out.copy()
    with pytest.raises(ValueError, match=message):
        _core.gemm(a, _core.PackedMatrix(random(3, 40, 8)), out, bias)
    np.testing.assert_array_equal(out, before)
