"""A bounded memory of what parts of texts were encoded to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PartCache"]


class PartCache:
    """Holds the token ids of at most `max_chars` characters of text; what was not asked for lately goes first.

    Two generations instead of an order of use: a part that is asked for moves to the young one; when that holds half of
    what is allowed, the old one is forgotten and the young one takes its place.
    """

    def __init__(self, max_chars: int) -> None:
        self._max_young_chars = max_chars // 2
        self._num_young_chars = 0
        self._young: dict[str, NDArray[np.int32]] = {}
        self._old: dict[str, NDArray[np.int32]] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, part: str) -> NDArray[np.int32] | None:
        ids = self._young.get(part)
        if ids is None and (ids := self._old.get(part)) is not None:
            self.put(part, ids)
        return ids

    def put(self, part: str, ids: NDArray[np.int32]) -> None:
        """A part that alone is more than half of what is allowed is not kept. `part` must not be in the young one."""
        if len(part) > self._max_young_chars:
            return
        if self._num_young_chars + len(part) > self._max_young_chars:
            self._old, self._young, self._num_young_chars = self._young, {}, 0
        self._young[part] = ids
        self._num_young_chars += len(part)
