"""Which window is next, and what becomes of cancelled ones."""

from __future__ import annotations

from typing import Any

from blendserve.engine.window import Window
from blendserve.engine.window_queue import WindowQueue


def window(num_requests: int) -> Window:
    anything: Any = None
    return Window(num_requests, (), (), anything, {}, None, 0.0)


def taken(queue: WindowQueue) -> list[range]:
    order = []
    while (queued := queue.take(lambda _: True)) is not None:
        order.append(queued.indices)
    return order


def test_priority_comes_before_deadline_and_that_before_arrival() -> None:
    queue = WindowQueue()
    orders: list[dict[str, Any]] = [{"priority": 0}, {"deadline": 9.0}, {"deadline": 8.0}, {"priority": 1}, {}]
    indices = [queue.put(window(2), **order) for order in orders]
    assert indices == [range(2), range(2, 4), range(4, 6), range(6, 8), range(8, 10)]
    assert taken(queue) == [indices[i] for i in (3, 2, 1, 0, 4)]


def test_only_the_next_one_is_asked_for() -> None:
    queue = WindowQueue()
    large, small = window(5), window(1)
    queue.put(large)
    queue.put(small)
    assert queue.take(lambda candidate: candidate is small) is None
    assert len(queue) == 2


def test_a_window_without_requests_is_no_window() -> None:
    queue = WindowQueue()
    assert queue.put(window(0)) == range(0)
    assert len(queue) == 0
    assert queue.put(window(1)) == range(1)


def test_a_window_is_dropped_when_all_of_it_is_cancelled() -> None:
    queue = WindowQueue()
    first, second = queue.put(window(3)), queue.put(window(2))
    queue.cancel({0, 2, 3})
    queue.cancel({1})
    assert len(queue) == 1
    (queued,) = [queue.take(lambda _: True)]
    assert queued is not None
    assert (queued.indices, queued.cancelled) == (second, {3})
    assert first == range(3)
