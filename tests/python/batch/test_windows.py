"""Rows in windows, the next one made while its user works."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from batch_rows import completion_row
from blendserve import SamplingParams
from blendserve.batch.tokenize import TokenizedRow
from blendserve.batch.windows import OneAhead, row_windows
from blendserve.engine import EngineRequest
from blendserve.io.batch_input import BatchRequest, RowError, read_requests

WAIT_S = 30


def row(index: int) -> TokenizedRow:
    (request,) = read_requests(io.BytesIO(completion_row(f"r{index}")))
    assert isinstance(request, BatchRequest)
    return request, EngineRequest(np.array([5], np.int32), SamplingParams(), f"r{index}")


def error(index: int) -> RowError:
    return RowError(index, f"batch_req_{index}", None, "invalid_json", "bad")


def described(items: list[TokenizedRow | RowError], size: int) -> list[tuple[list[str], int, bool]]:
    windows = row_windows(items, size, threading.Event())
    return [([name.custom_id for name, _ in w.rows], len(w.errors), w.is_last) for w in windows]


def test_a_window_has_as_many_items_as_it_may_and_the_last_one_says_so() -> None:
    items = [row(0), error(1), row(2), error(3), row(4)]
    assert described(items, 2) == [(["r0"], 1, False), (["r2"], 1, False), (["r4"], 0, True)]
    assert described(items, 5) == described(items, 100) == [(["r0", "r2", "r4"], 2, True)]
    assert described(items[:4], 2) == [(["r0"], 1, False), (["r2"], 1, True)]
    assert described([], 3) == [([], 0, True)]


def test_windows_end_where_they_are_stopped() -> None:
    stopped = threading.Event()

    def items() -> Iterator[RowError]:
        for index in range(10):
            if index == 5:
                stopped.set()
            yield error(index)

    assert [len(window) for window in row_windows(items(), 2, stopped)] == [2, 2]


def test_one_item_is_made_while_another_is_used_and_no_more() -> None:
    made: list[int] = []
    may_make = threading.Semaphore(2)

    def items() -> Iterator[int]:
        for index in range(4):
            assert may_make.acquire(timeout=WAIT_S)
            made.append(index)
            yield index

    with OneAhead(items(), threading.Event()) as ahead:
        assert next(ahead) == 0
        ahead.wait()
        assert (made, ahead.is_ready) == ([0, 1], True)
        may_make.release(2)
        assert next(ahead) == 1
        ahead.wait()
        assert made == [0, 1, 2]
        assert list(ahead) == [2, 3]


def test_an_error_of_the_items_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with OneAhead(items(), threading.Event()) as ahead:
        assert next(ahead) == 1
        with pytest.raises(OSError, match="gone"):
            next(ahead)


def test_leaving_early_stops_what_is_being_made() -> None:
    stopped = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert stopped.wait(WAIT_S)

    with OneAhead(items(), stopped) as ahead:
        assert next(ahead) == 1
    assert stopped.is_set()
