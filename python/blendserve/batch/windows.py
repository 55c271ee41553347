"""The rows of an input a window at a time, the next one read while its user works on the last."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from blendserve.batch.tokenize import TokenizedRow
from blendserve.io.batch_input import RowError

__all__ = ["OneAhead", "RowWindow", "row_windows"]

T = TypeVar("T")


@dataclass(slots=True)
class RowWindow:
    """Rows to answer, and those that can't be; `is_last` if the input ends with it."""

    rows: list[TokenizedRow] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    is_last: bool = False

    def __len__(self) -> int:
        return len(self.rows) + len(self.errors)


def row_windows(items: Iterable[TokenizedRow | RowError], size: int, stopped: threading.Event) -> Iterator[RowWindow]:
    """At least one window, of `size` items each but for the last; none of what comes once `stopped` is set."""
    window = RowWindow()
    for item in items:
        if stopped.is_set():
            return
        if len(window) == size:
            yield window
            window = RowWindow()
        if isinstance(item, RowError):
            window.errors.append(item)
        else:
            window.rows.append(item)
    window.is_last = True
    yield window


class OneAhead(Generic[T]):
    """The same items, each made in a thread while the user works on the one before.

    Ends the thread on exit, when the item that it is making is done: `stopped` is set to have it break off.
    """

    def __init__(self, items: Iterator[T], stopped: threading.Event) -> None:
        self._items = items
        self._stopped = stopped
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="windows")
        self._next: Future[T] = self._thread.submit(next, items)

    @property
    def is_ready(self) -> bool:
        """Whether the next item, or the end, comes without a wait."""
        return self._next.done()

    def wait(self) -> None:
        """Until `is_ready`."""
        wait([self._next])

    def __iter__(self) -> OneAhead[T]:
        return self

    def __next__(self) -> T:
        item = self._next.result()
        self._next = self._thread.submit(next, self._items)
        return item

    def __enter__(self) -> OneAhead[T]:
        return self

    def __exit__(
        self, cause: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.shutdown()
