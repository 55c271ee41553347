"""Times and memory of a call."""

from __future__ import annotations

import ctypes
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc/self")


def median_times_s(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of calls that take turns, so that a noisy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            result = call()
            times[name].append(time.perf_counter() - started)
            del result
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def cpu_times_s(call: Callable[[], object]) -> tuple[float, float]:
    """User and system seconds of one call, of all its threads."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    del result
    return after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def peak_extra_bytes(call: Callable[[], object]) -> int:
    """How far the call raises the process's resident memory, its result included, by the kernel's high-water mark.

    What is resident before, the inputs above all, does not count; memory that was freed is given back first, so that
    the call cannot use it unseen. The kernel counts in batches of some pages a thread: good to a few hundred KiB.
    """
    ctypes.CDLL(None).malloc_trim(0)
    (PROC / "clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = _status_bytes("VmRSS")
    result = call()
    peak = _status_bytes("VmHWM")
    del result
    return max(0, peak - before)


def _status_bytes(field: str) -> int:
    lines = (PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
