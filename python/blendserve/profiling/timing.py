"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["median_s"]

_BUDGET_S = 0.4
_MIN_CALLS = 3


def median_s(call: Callable[[], object]) -> float:
    """Of calls one after the other, the first of which is not timed."""
    call()
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_S
    while len(times) < _MIN_CALLS or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
