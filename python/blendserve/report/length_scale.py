"""Where a prompt position lies in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LengthScale"]

MIN_TICK_GAP = 0.08


@dataclass(frozen=True, slots=True)
class LengthScale:
    """Tokens from the root -> 0..1 down the picture, by a power that leaves room for short prompts beside long ones."""

    max_len: int
    exponent: float

    @classmethod
    def of(cls, leaf_len: NDArray[np.int32]) -> LengthScale:
        """The mildest power that puts the median prompt at least a fifth of the way down."""
        max_len = max(1, int(leaf_len.max()))
        median = float(np.median(leaf_len)) / max_len
        return cls(max_len, next((power for power in (1.0, 1 / 2, 1 / 3) if median**power >= 1 / 5), 1 / 3))

    def __call__(self, num_tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.asarray((num_tokens / self.max_len) ** self.exponent, np.float64)

    def ticks(self) -> list[int]:
        """0, the longest prompt, and round numbers between them that are far enough apart to be read."""
        kept = [0]
        for tick in (step * 10**power for power in range(10) for step in (1, 2, 5)):
            if min(self._gap(kept[-1], tick), self._gap(tick, self.max_len)) >= MIN_TICK_GAP:
                kept.append(tick)
        return [*kept, self.max_len]

    def _gap(self, earlier: int, later: int) -> float:
        return float(self(np.array(later)) - self(np.array(earlier)))
