"""Where the requests of a mix are drawn from: of each source an endless row, of which a mix takes the first so many.

So another count changes which requests are at the end, and none of the others.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blendserve._core import CostModel
from blendserve.planning import plan
from blendserve.specs import DeviceSpec, ModelSpec
from blendserve.synthesis.costs import Sums, compute_s, memory_s, segment_s
from blendserve.synthesis.generators import Generator
from blendserve.traces.length_trace import NO_GROUP, LengthTrace
from blendserve.traces.made_tokens import marker_of
from blendserve.traces.trace import Trace

__all__ = ["LengthPool", "Pool", "TokenPool", "drawn", "in_passes"]


class Pool(Protocol):
    """The requests of one source, in the order in which a mix takes them."""

    def sums(self, count: int) -> Sums:
        """Of the first `count` requests."""

    def first(self, count: int) -> Trace | LengthTrace:
        """These requests."""


def drawn(generator: Generator, name: str, capacity: int, cost: CostModel, rng: np.random.Generator) -> LengthPool:
    """Up to `capacity` requests of a generator."""
    return LengthPool(generator.draw(name, capacity, rng), cost)


def in_passes(
    trace: Trace | LengthTrace, name: str, capacity: int, model: ModelSpec, device: DeviceSpec, rng: np.random.Generator
) -> Pool:
    """Up to `capacity` requests of a trace: all of it in a random order, then again as a copy that shares nothing with
    the pass before, and so on."""
    trace = dataclasses.replace(trace, sources=(name,), source=np.zeros(trace.num_requests, dtype=np.int16))
    order = rng.permutation(trace.num_requests)
    if isinstance(trace, Trace):
        return TokenPool(trace.take(order), model, device)
    rows = np.resize(order, capacity)
    passes = np.arange(capacity) // trace.num_requests
    groups = trace.prefix_group[rows]
    num_groups = int(trace.prefix_group.max(initial=NO_GROUP)) + 1
    copied = np.where(groups == NO_GROUP, NO_GROUP, groups + passes * num_groups).astype(np.int32)
    return LengthPool(dataclasses.replace(trace.take(rows), prefix_group=copied), CostModel(model, device))


class LengthPool:
    """Requests of which lengths and prefix groups are known."""

    def __init__(self, trace: LengthTrace, cost: CostModel) -> None:
        self._cost = cost
        self._put_in_order(trace)

    def _put_in_order(self, trace: LengthTrace) -> None:
        self._trace = trace
        self._compute = compute_s(self._cost, trace.prompt_lens, trace.output_lengths)
        self._memory = memory_s(self._cost, trace.prompt_lens, trace.output_lengths)
        shared = segment_s(self._cost, _shared_before(trace.prefix_group, trace.prefix_lens))
        self._cumulated = [np.cumsum(costs) for costs in (self._compute, self._compute - shared, self._memory)]

    def sums(self, count: int) -> Sums:
        if count == 0:
            return Sums(0.0, 0.0, 0.0)
        return Sums(*(float(costs[count - 1]) for costs in self._cumulated))

    def first(self, count: int) -> LengthTrace:
        return self._trace.take(np.arange(count))

    def exchange_last(self, count: int, others: Sums, density: float) -> None:
        """Put another request in place of the last of the first `count`: the one beyond them that brings the density of
        all, `others` included, closest to `density`."""
        before = self.sums(count - 1)
        behind = slice(count - 1, None)
        prefix = np.maximum(self._trace.prefix_lens[behind], 1)
        unique = self._compute[behind] - segment_s(self._cost, prefix)
        reached = (others.unique + before.unique + unique) / (others.memory + before.memory + self._memory[behind])
        best = int(np.argmin(np.abs(np.log(reached / density))))
        rows = np.arange(self._trace.num_requests)
        rows[[count - 1, count - 1 + best]] = rows[[count - 1 + best, count - 1]]
        self._put_in_order(self._trace.take(rows))


class TokenPool:
    """Requests with prompts of their own; those of a further pass begin with another token, so they share nothing with
    the ones of the pass before."""

    def __init__(self, trace: Trace, model: ModelSpec, device: DeviceSpec) -> None:
        self._trace = trace
        self._model = model
        self._device = device
        cost = CostModel(model, device)
        self._compute = np.cumsum(compute_s(cost, trace.prompt_lens, trace.output_lengths))
        self._memory = np.cumsum(memory_s(cost, trace.prompt_lens, trace.output_lengths))

    @functools.lru_cache(maxsize=64)  # noqa: B019  # a pool lives as long as one synthesis
    def sums(self, count: int) -> Sums:
        if count == 0:
            return Sums(0.0, 0.0, 0.0)
        passes, rest = divmod(count, self._trace.num_requests)
        if passes == 0:
            return Sums(float(self._compute[count - 1]), self._unique(count), float(self._memory[count - 1]))
        whole = Sums(float(self._compute[-1]), self._unique(self._trace.num_requests), float(self._memory[-1]))
        return whole * passes + self.sums(rest)

    def first(self, count: int) -> Trace:
        rows = np.resize(np.arange(self._trace.num_requests), count)
        trace = self._trace.take(rows)
        _begin_differently(trace, np.arange(count) // self._trace.num_requests)
        return trace

    def _unique(self, count: int) -> float:
        trace = self._trace
        end = trace.offsets[count]
        report = plan(
            trace.tokens[:end],
            trace.offsets[: count + 1],
            trace.output_lengths[:count],
            model=self._model,
            device=self._device,
        ).report
        return report.compute_s


def _shared_before(groups: NDArray[np.int32], prefix_lens: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many tokens of each request an earlier one has begun with, too: of its group's prefix, or the marker."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    apart = np.cumsum(is_first) << 32  # keeps the running maximum of one group out of the next
    longest = np.maximum.accumulate(apart + np.where(ordered == NO_GROUP, 0, prefix_lens[order])) - apart
    before = np.where(is_first, 0, np.concatenate([[0], longest[:-1]]))
    shared = np.empty(len(groups), dtype=np.int64)
    shared[order] = np.minimum(before, prefix_lens[order])
    shared[1:] = np.maximum(shared[1:], 1)
    return shared


def _begin_differently(trace: Trace, passes: NDArray[np.int64]) -> None:
    """Another first token for every pass behind the first, the same for prompts that began alike."""
    rows = np.flatnonzero((passes > 0) & (trace.prompt_lens > 0))
    begins = trace.offsets[:-1][rows]
    firsts = np.stack([passes[rows], trace.tokens[begins].astype(np.int64)])
    _, number = np.unique(firsts, axis=1, return_inverse=True)
    copies = marker_of(f"{trace.sources[0]}, copied")
    trace.tokens[begins] = (copies + number.reshape(-1)).astype(np.int32)
