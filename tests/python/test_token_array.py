"""Lists of token ids as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blendserve._core import token_array
from hypothesis import given
from hypothesis import strategies as st

MOST = 2**31 - 1


@given(st.lists(st.integers(0, MOST)))
def test_token_ids_become_int32(values: list[int]) -> None:
    array = token_array(values)
    assert array is not None
    assert array.dtype == np.int32
    assert array.tolist() == values


@pytest.mark.parametrize("bad", [-1, MOST + 1, 2**32 + 5, 2**63, -(2**63), 2**64, 10**30, True, 1.0, None, "1", [1]])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_anything_else_is_none(bad: Any, place: int) -> None:
    values: list[Any] = [1, 2]
    values.insert(place, bad)
    assert token_array(values) is None
