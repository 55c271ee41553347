"""An array that grows at its end."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GrowingArray"]

T = TypeVar("T", bound=np.generic)

_FIRST_CAPACITY = 1024


class GrowingArray(Generic[T]):
    """Appends at a constant cost per item: the capacity doubles."""

    def __init__(self, dtype: type[T]) -> None:
        self._items: NDArray[T] = np.empty(_FIRST_CAPACITY, dtype=dtype)
        self._len = 0

    def __len__(self) -> int:
        return self._len

    def append(self, item: ArrayLike) -> None:
        self._reserve(1)
        self._items[self._len] = item
        self._len += 1

    def extend(self, items: NDArray[T]) -> None:
        self._reserve(len(items))
        self._items[self._len : self._len + len(items)] = items
        self._len += len(items)

    @property
    def array(self) -> NDArray[T]:
        """The items so far, without a copy; not to be kept while the array grows."""
        return self._items[: self._len]

    def _reserve(self, num_more: int) -> None:
        needed = self._len + num_more
        if needed > len(self._items):
            grown = np.empty(max(needed, 2 * len(self._items)), dtype=self._items.dtype)
            grown[: self._len] = self.array
            self._items = grown
