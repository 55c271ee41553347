"""How long calls take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["median_times_s"]

_MIN_ROUNDS = 3


def median_times_s(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Of calls that take turns, so that all see the same load from outside; the first round is not timed."""
    rounds: list[list[float]] = []
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while len(rounds) < _MIN_ROUNDS or time.perf_counter() < end:
        rounds.append([_time_s(call) for call in calls])
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _time_s(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
