"""One engine, many threads that wait for its answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from blendserve.engine.engine import Engine
from blendserve.engine.window import Window
from blendserve.outputs import FinishedRequest

__all__ = ["SharedEngine"]


class SharedEngine:
    """Whoever waits for an answer drives the engine, one thread at a time, for all that wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._is_driven = False
        self._wanted: set[int] = set()  # not finished
        self._finished: dict[int, FinishedRequest] = {}  # not taken yet, by index
        self._cancelled: set[int] = set()  # that the engine has yet to be told of

    def add(self, window: Window, *, priority: float = 0, deadline: float | None = None) -> range:
        """As `Engine.add_window`; never waits for a step."""
        with self._changed:
            indices = self._engine.add_window(window, priority=priority, deadline=deadline)
            self._wanted.update(indices)
            return indices

    def are_finished(self, indices: Iterable[int]) -> bool:
        with self._changed:
            return self._wanted.isdisjoint(indices)

    def take_finished(self, indices: set[int]) -> list[FinishedRequest]:
        """Of `indices`, what has finished, once at least one has; nothing if none of them is wanted any more."""
        is_over = False
        while True:
            with self._changed:
                finished = self._pop_finished(indices)
                if finished or self._wanted.isdisjoint(indices):
                    return finished
                if self._is_driven:
                    self._changed.wait()
                    continue
                if is_over:
                    raise RuntimeError("answers are missing: the step that had them was interrupted; submit them again")
                self._is_driven = True
            is_over = not self._drive(self._engine.step)

    def cancel(self, indices: Iterable[int]) -> list[FinishedRequest]:
        """Give up what has not finished. Returns what has, and was not taken."""
        with self._changed:
            unfinished = self._wanted.intersection(indices)
            self._wanted -= unfinished
            self._cancelled |= unfinished
            self._changed.notify_all()
            drives = not self._is_driven  # else who does tells the engine before its next step
            self._is_driven = True
        if drives:
            self._drive(lambda: None)
        with self._changed:
            return self._pop_finished(set(indices))

    def _pop_finished(self, indices: set[int]) -> list[FinishedRequest]:
        return [self._finished.pop(index) for index in sorted(indices & self._finished.keys())]

    def _drive(self, run: Callable[[], list[FinishedRequest] | None]) -> bool:
        """Tell the engine what is cancelled, and `run` it: without the lock, for either may wait for a step. False when
        there was nothing left to run.
        """
        outputs: list[FinishedRequest] | None = None
        try:
            self._tell_engine()
            outputs = run()
            return outputs is not None
        finally:
            outputs = outputs or []
            with self._changed:
                self._is_driven = False
                self._finished.update((output.index, output) for output in outputs if output.index in self._wanted)
                self._wanted.difference_update(output.index for output in outputs)
                self._changed.notify_all()

    def _tell_engine(self) -> None:
        with self._changed:
            cancelled = set(self._cancelled)
        if cancelled:
            self._engine.cancel(cancelled)
            with self._changed:
                self._cancelled -= cancelled
