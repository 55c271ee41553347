"""Timing with events on the device, and what to write beside a result."""

from __future__ import annotations

import itertools
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import torch

_HEAD_START_CYCLES = 400_000  # keeps the device busy while the host queues what is to be timed
_FIRST_CYCLES = 20_000  # by which the second of two calls starts later, so that the first gets its multiprocessors
_CALLS_IN_GRAPH = 20


def median_us(call: Callable[[], object], *, seconds: float = 0.3) -> float:
    """Median microseconds of one call over `seconds` of sustained load, after a warm-up."""
    for _ in range(3):
        call()
    first = _event_us([call] * 3)
    count = max(5, min(2000, int(seconds * 1e6 / max(1.0, statistics.median(first)))))
    return statistics.median(_event_us([call] * count))


def _event_us(calls: list[Callable[[], object]]) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(len(calls) + 1)]
    torch.cuda._sleep(_HEAD_START_CYCLES)
    events[0].record()
    for call, event in zip(calls, events[1:], strict=True):
        call()
        event.record()
    torch.cuda.synchronize()
    return [1e3 * begin.elapsed_time(end) for begin, end in itertools.pairwise(events)]


def median_graph_us(call: Callable[[], object], *, seconds: float = 0.3) -> float:
    """As `median_us`, for calls too short for the host to keep up: many of them are one captured graph."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CALLS_IN_GRAPH):
            call()
    return median_us(graph.replay, seconds=seconds) / _CALLS_IN_GRAPH


def together_us(
    first: Callable[[], object],
    second: Callable[[], object],
    streams: tuple[torch.cuda.Stream, torch.cuda.Stream],
    *,
    repeats: int = 15,
) -> tuple[float, float]:
    """Median microseconds from a common start until each has ended; `first` starts a few microseconds earlier."""
    times = []
    for _ in range(repeats):
        begin, *ends = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        torch.cuda.synchronize()
        with torch.cuda.stream(streams[0]):
            torch.cuda._sleep(_HEAD_START_CYCLES)
            begin.record()
        streams[1].wait_event(begin)
        for call, stream, end in zip((first, second), streams, ends, strict=True):
            with torch.cuda.stream(stream):
                if stream is streams[1]:
                    torch.cuda._sleep(_FIRST_CYCLES)
                call()
                end.record()
        torch.cuda.synchronize()
        times.append([1e3 * begin.elapsed_time(end) for end in ends])
    first_us, second_us = (statistics.median(column[2:]) for column in zip(*times, strict=True))
    return first_us, second_us


def environment() -> dict[str, Any]:
    """Device, driver, versions and commit."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "num_sms": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "driver": _query("driver_version"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def clocks() -> dict[str, str]:
    """What the card runs at now, for the record."""
    fields = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
    return dict(zip(fields, _query(",".join(fields)).split(", "), strict=True))


def _query(fields: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
