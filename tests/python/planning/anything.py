"""Arrays and values that nobody should pass, and some that are right."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

INTEGERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63), 2**64, 10**30]),
)
FLOATS = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, -1.0, 0.5, 1.0, 3.0, 1e300, 5e-324]))
NOT_NUMBERS = st.sampled_from([None, "", "text", b"\0\1", [], {}, (), object(), [[1], [2, 3]], [1, "a"], 1j, type, ...])

DTYPES = st.one_of(
    st.sampled_from(["int32", "int64", "float64"]),
    st.sampled_from(["int8", "uint32", "uint64", "float16", "float32", "bool", "complex64", "S2", "U2", "object"]),
    st.sampled_from([">i4", ">i8", ">f8", "datetime64[s]", "i4,i4"]),
)
STRANGE_LAYOUTS = ["every other", "reversed", "flat", "2-d", "unaligned", "broadcast", "fixed"]


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[Any] = INTEGERS, max_size: int = 8) -> Any:
    """Of any dtype, shape, stride and alignment."""
    entries = draw(st.lists(values, max_size=max_size))
    dtype = np.dtype(draw(DTYPES))
    with np.errstate(all="ignore"):
        try:
            array = np.array(entries).astype(dtype)
        except (ValueError, TypeError, OverflowError):
            array = np.zeros(len(entries), dtype)
    match draw(st.sampled_from(["plain"] * 6 + STRANGE_LAYOUTS)):
        case "every other":
            return array.repeat(2)[::2]
        case "reversed":
            return array[::-1]
        case "flat":
            return array.reshape(()) if array.size == 1 else array[None]
        case "2-d":
            return array.reshape(-1, 1)
        case "unaligned" if not dtype.hasobject:
            buffer = np.zeros(array.nbytes + 1, np.uint8)
            buffer[1:] = np.frombuffer(array.tobytes(), np.uint8)
            return buffer[1:].view(dtype)
        case "broadcast":
            return np.broadcast_to(array[:1], (len(array),) if len(array) else (0,))
        case "fixed":
            array.flags.writeable = False
    return array


NUMBERS = st.one_of(INTEGERS, FLOATS)
ANYTHING = st.one_of(arrays(), arrays(FLOATS), NUMBERS, NOT_NUMBERS, st.lists(NUMBERS, max_size=4), st.text(max_size=9))
