"""The rate of matrix products by the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["ROWS", "RateCurve", "rate_curve"]

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

RateCurve = list[tuple[float, float]]


def rate_curve(seconds: Sequence[float], num_weights: float) -> RateCurve:
    """(rows, FLOP/s), by the seconds of each of `ROWS`. That more rows took less time is noise."""
    times = np.maximum.accumulate(seconds).tolist()
    return [(float(rows), 2 * rows * num_weights / time_s) for rows, time_s in zip(ROWS, times, strict=True)]
