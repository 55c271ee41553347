from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from blendserve.text.prefetch import prefetch


def test_the_items_come_in_order() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert list(prefetch(iter(()), 1)) == []
    assert list(prefetch([None, None], 1)) == [None, None]


def test_they_are_made_in_another_thread_ahead_of_use() -> None:
    made = threading.Event()
    makers = []

    def items() -> Iterator[int]:
        for item in range(3):
            makers.append(threading.current_thread())
            yield item
        made.set()

    ahead = prefetch(items(), 4)
    assert next(ahead) == 0
    assert made.wait(10)
    assert list(ahead) == [1, 2]
    assert threading.current_thread() not in makers


def test_an_exception_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = prefetch(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_closing_it_ends_the_thread() -> None:
    made = []

    def items() -> Iterator[int]:
        for item in range(10**9):
            made.append(item)
            yield item

    before = threading.active_count()
    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert threading.active_count() == before
    assert len(made) <= 5
