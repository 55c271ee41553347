"""Lists of token ids, parsed or in a line of JSON, as arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from blendserve._core import cut_token_ids, token_array
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


SPACES = st.text(" \t\r\n", max_size=2).map(str.encode)


@given(st.lists(st.integers(0, MOST), min_size=1), SPACES, SPACES, SPACES)
def test_the_ids_behind_a_key_are_cut_out_of_the_line(values: list[int], one: bytes, two: bytes, three: bytes) -> None:
    listed = (one + b"," + two).join(str(value).encode() for value in values)
    line = b'{"a": [1], "ids"' + one + b":" + two + b"[" + three + listed + three + b'], "b": "]"}'
    cut = cut_token_ids(line, "ids")
    assert cut is not None
    rest, ids = cut
    assert ids.dtype == np.int32
    assert ids.tolist() == values == json.loads(line)["ids"]
    assert json.loads(rest) == {"a": [1], "ids": None, "b": "]"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"ids"',
        b'{"ids":',
        b'{"ids":[1',
        b'{"ids":1}',
        b'{"ids":"[1]"}',
        b'{"ids":null,"b":[1]}',
        b'{"ids":[]}',
        b'{"ids":[ ]}',
        b'{"ids":[1,]}',
        b'{"ids":[,1]}',
        b'{"ids":[1 2]}',
        b'{"ids":[01]}',
        b'{"ids":[-0]}',
        b'{"ids":[-1]}',
        b'{"ids":[+1]}',
        b'{"ids":[1.0]}',
        b'{"ids":[1e3]}',
        b'{"ids":[2147483648]}',
        b'{"ids":[1,true]}',
        b'{"ids":["1"]}',
        b'{"ids":[[1]]}',
        b'{"ids":[1],"ids":[2]}',
        b'{"a":"ids","b":{"ids":[1]}}',
        b'{"a":"\\"","ids":[1]}',
        b'["ids",[1]]',
    ],
)
def test_what_is_not_plain_to_see_is_left_to_the_parser(line: bytes) -> None:
    assert cut_token_ids(line, "ids") is None
