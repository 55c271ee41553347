"""An iterator that runs ahead in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Full, Queue
from typing import TypeVar

__all__ = ["prefetch"]

T = TypeVar("T")

_END = object()
_LOOK_UP_S = 0.1  # how often the thread checks whether anybody still waits for its items


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The same items; up to `depth` of them are made in advance, while the caller works on an earlier one.

    An exception of `items` is raised here, in its turn. Closing this generator ends the thread.
    """
    queue: Queue[object] = Queue(depth)
    abandoned = threading.Event()

    def put(item: object) -> bool:
        while not abandoned.is_set():
            try:
                queue.put(item, timeout=_LOOK_UP_S)
            except Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            if all(put((item,)) for item in items):
                put(_END)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item[0]  # type: ignore[index]  # what `run` puts
    finally:
        abandoned.set()
        thread.join()
