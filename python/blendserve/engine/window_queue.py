"""Windows that have not started yet."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from blendserve.engine.window import Window

__all__ = ["QueuedWindow", "WindowQueue"]


@dataclass(order=True, slots=True)
class QueuedWindow:
    """`indices` are those of its requests; `cancelled`, of these, are not wanted any more."""

    rank: tuple[float, float, int]
    indices: range = field(compare=False)
    window: Window = field(compare=False)
    cancelled: set[int] = field(compare=False, default_factory=set)


class WindowQueue:
    """The next one is of the highest priority, of these of the earliest deadline, of these the first to come.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[QueuedWindow] = []
        self._num_put = 0
        self._next_index = 0

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, window: Window, *, priority: float = 0, deadline: float | None = None) -> range:
        """Returns the indices of the window's requests; those of all windows count on."""
        with self._lock:
            indices = range(self._next_index, self._next_index + window.num_requests)
            self._next_index = indices.stop
            if indices:
                rank = (-priority, math.inf if deadline is None else deadline, self._num_put)
                self._num_put += 1
                heapq.heappush(self._heap, QueuedWindow(rank, indices, window))
            return indices

    def take(self, is_due: Callable[[Window], bool]) -> QueuedWindow | None:
        """The next window, if it is due."""
        with self._lock:
            return heapq.heappop(self._heap) if self._heap and is_due(self._heap[0].window) else None

    def cancel(self, indices: set[int]) -> None:
        """Windows of which nothing is wanted any more are dropped."""
        with self._lock:
            for queued in self._heap:
                queued.cancelled |= indices.intersection(queued.indices)
            self._heap = [queued for queued in self._heap if len(queued.cancelled) < len(queued.indices)]
            heapq.heapify(self._heap)
