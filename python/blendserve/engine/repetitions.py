"""Answers that go round in circles, found as they are generated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["RUNAWAY_TOKENS", "RepetitionWatch", "repeated_len"]

RUNAWAY_TOKENS = 256  # the limit of requests that set none, where the engine stops runaways
_MAX_CYCLE = 64
_NO_TOKEN = -1

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

    def begin(self, request_id: int, limit: int, min_tokens: int) -> None:
        """A limit of 0 is none."""
        if limit == 0:
            return
        if request_id >= len(self._left):
            self._left = np.concatenate([self._left, np.zeros(request_id + 1, dtype=np.int64)])
        self._limits[request_id] = limit
        self._left[request_id] = max(limit, min_tokens + 1)

    def accept(
        self, request_ids: NDArray[np.int32], ended: NDArray[np.int32], output_tokens: Callable[[int], _Tokens]
    ) -> list[int]:
        """Each of these requests has one more token, and some `ended` with it; `output_tokens` has all of a request.
        Returns the runaways among the others.
        """
        if not self._limits:
            return []
        request_ids = request_ids[(request_ids < len(self._left)) & ~np.isin(request_ids, ended)]
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
    num_tokens, max_cycle = len(tokens), min(max_cycle, len(tokens))
    if num_tokens == 0:
        return 0
    backwards = tokens[::-1]
    ended = np.concatenate([backwards, np.full(max_cycle, _NO_TOKEN, np.int32)])
    earlier = sliding_window_view(ended, num_tokens)[1:]  # [c - 1, i]: the token c before backwards[i]
    num_same = np.argmax(earlier != backwards, axis=1)
    return int((num_same + np.arange(1, max_cycle + 1)).max())
