"""The handle of prompts that were submitted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from blendserve.engine import SharedEngine
from blendserve.outputs import FinishedRequest, RequestOutput

__all__ = ["Submission"]


class Submission:
    """What `LLM.submit` returns: the results of its prompts, each with its place among them as `index`.

    Iterating yields them as they finish, each time from the first; `result` returns all of them. Work is done, for all
    submissions in their turn, while some thread waits in these two, or in `generate`, `stream` or `chat`. Any thread
    may use it. One whose results are not wanted any more is to be cancelled.
    """

    def __init__(self, engine: SharedEngine, indices: range) -> None:
        self._engine = engine
        self._indices = indices
        self._lock = threading.Lock()
        self._outputs: list[RequestOutput] = []  # as they finished
        self._missing = set(indices)  # made once, for every step asks for what has finished of it

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[RequestOutput]:
        place = 0
        while place < len(self._outputs) or self._wait_for_more(place):
            yield self._outputs[place]
            place += 1

    def result(self) -> list[RequestOutput]:
        """Wait for all results, in the order of the prompts; after `cancel`, those that had finished."""
        return sorted(self, key=lambda output: output.index)

    def done(self) -> bool:
        """Whether `result` returns at once. Does no work."""
        return self._engine.are_finished(self._indices)

    def cancel(self) -> None:
        """Give up what is not finished."""
        self._keep(self._engine.cancel(self._indices))

    def _wait_for_more(self, place: int) -> bool:
        """Until there is an output at `place`; False if none comes any more."""
        with self._lock:
            if place == len(self._outputs):
                self._keep(self._engine.take_finished(self._missing))
            return place < len(self._outputs)

    def _keep(self, finished: Iterable[FinishedRequest]) -> None:
        for output in finished:
            self._missing.discard(output.index)
            self._outputs.append(output.at(output.index - self._indices.start))
