"""The rate of matrix products by the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["ROWS", "RateCurve", "rate_curve"]

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

RateCurve = list[tuple[float, float]]


def rate_curve(seconds_of: Callable[[int], float], num_weights: float) -> RateCurve:
    """(rows, FLOP/s), by the seconds of so many rows. That more rows took less time is noise."""
    seconds = np.maximum.accumulate([seconds_of(rows) for rows in ROWS])
    return [(float(rows), 2 * rows * num_weights / float(time_s)) for rows, time_s in zip(ROWS, seconds, strict=True)]
