"""Answers that go round in circles, found as they are generated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["RUNAWAY_TOKENS", "RepetitionWatch", "repeated_len"]

RUNAWAY_TOKENS = 256  # the limit of requests that set none, where the engine stops runaways
_MAX_CYCLE = 64

_Tokens = NDArray[np.int32]


class RepetitionWatch:
    """An answer is a runaway once its last `limit` tokens repeat a cycle of at most 64 tokens and half of the limit, at
    its first token past min_tokens for which that is so.

    What an answer repeats grows by at most a token a token. So one that is k tokens short of its limit is not looked at
    before it has k more, and every runaway is found at the very token that makes it one.
    """

    def __init__(self) -> None:
        self._limits: dict[int, int] = {}  # of the requests that are watched
        self._left = np.zeros(0, dtype=np.int64)  # by request id: tokens until it is looked at; of others 0 or less

    @property
    def is_watching(self) -> bool:
        return bool(self._limits)

    def begin(self, request_id: int, limit: int, min_tokens: int) -> None:
        """A limit of 0 is none."""
        if limit == 0:
            return
        if request_id >= len(self._left):
            self._left = np.concatenate([self._left, np.zeros(request_id + 1, dtype=np.int64)])
        self._limits[request_id] = limit
        self._left[request_id] = max(limit, min_tokens + 1)

    def accept(self, request_ids: NDArray[np.int32], output_tokens: Callable[[int], _Tokens]) -> list[int]:
        """Each of these requests has one more token; `output_tokens` has all of a request. Returns the runaways."""
        request_ids = request_ids[request_ids < len(self._left)]
        self._left[request_ids] -= 1
        runaways = []
        for request_id in request_ids[self._left[request_ids] == 0].tolist():
            limit = self._limits[request_id]
            left = limit - repeated_len(output_tokens(request_id)[-limit:], min(_MAX_CYCLE, limit // 2))
            self._left[request_id] = left
            if left == 0:
                runaways.append(request_id)
        return runaways

    def finish(self, request_id: int) -> None:
        """Ended, however: nothing if it was not watched."""
        if self._limits.pop(request_id, None) is not None:
            self._left[request_id] = 0


def repeated_len(tokens: _Tokens, max_cycle: int) -> int:
    """The most tokens at the end that repeat a cycle of c <= max_cycle: each but the first c is the one c before it."""
    backwards = tokens[::-1]
    longest = 0
    for cycle in range(1, min(max_cycle, len(tokens)) + 1):
        differs = backwards[cycle:] != backwards[:-cycle]
        same = int(np.argmax(differs)) if differs.any() else len(differs)
        longest = max(longest, cycle + same)
    return longest
