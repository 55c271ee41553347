"""How many requests of each source a mix takes, so that what it really takes has the density and sharing asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blendserve.synthesis.costs import Sums
from blendserve.synthesis.fractions import Line, solve_fractions, unreachable
from blendserve.synthesis.pools import LengthPool, Pool

__all__ = ["choose_counts"]

_MAX_ROUNDS = 20
_DENSITY_TOLERANCE = 0.1  # of the target
_SHARING_TOLERANCE = 0.03


def choose_counts(
    names: Sequence[str], pools: Sequence[Pool], num_requests: int, density: float | None, sharing: float | None
) -> list[int]:
    """One count a pool, `num_requests` together; a density is met by one request of the heaviest source, the one with
    the most memory time a request, that is exchanged in its pool.

    Raises `UserError` that tells what the sources reach.
    """
    heaviest = int(np.argmax([pool.sums(num_requests).memory for pool in pools]))
    counts = _solved(pools, num_requests, density, sharing, heaviest)
    if counts is not None and density is not None and 0 < counts[heaviest] < num_requests:
        counts = _fitted(pools, counts, density, heaviest)
    if counts is None or not _is_met(pools, counts, density, sharing):
        raise unreachable(names, [pool.sums(num_requests) for pool in pools], density, sharing)
    return counts


def _is_met(pools: Sequence[Pool], counts: Sequence[int], density: float | None, sharing: float | None) -> bool:
    """Roughly: a few requests cannot meet every target, and the figures of a workload tell what it has."""
    mixed = _sum([pool.sums(count) for pool, count in zip(pools, counts, strict=True)])
    has_density = density is None or abs(mixed.density / density - 1.0) <= _DENSITY_TOLERANCE
    return has_density and (sharing is None or abs(mixed.sharing - sharing) <= _SHARING_TOLERANCE)


def _sum(parts: Sequence[Sums]) -> Sums:
    return sum(parts, start=Sums(0.0, 0.0, 0.0))


def _solved(
    pools: Sequence[Pool], num_requests: int, density: float | None, sharing: float | None, heaviest: int
) -> list[int] | None:
    """Solved for the requests that are taken at the counts found before, until these stay. The heaviest source counts
    by its average: of a handful of long requests the first few may be far from it. None if there is no solution."""
    counts = _rounded(np.full(len(pools), 1.0 / len(pools)), num_requests)
    found = None
    for _ in range(_MAX_ROUNDS):
        lines = [_taken(pool, count, num_requests) for pool, count in zip(pools, counts, strict=True)]
        lines[heaviest] = _averaged(lines[heaviest])
        fractions = solve_fractions(lines, num_requests, density, sharing)
        if fractions is None:
            break
        found = _rounded(fractions, num_requests)
        if found == counts:
            break
        counts = found
    return found


def _taken(pool: Pool, count: int, capacity: int) -> Line:
    """Exact at `count`; the slope is that of the requests behind."""
    taken, all_of_it = pool.sums(count), pool.sums(capacity)
    slope = (all_of_it - taken) * (1.0 / (capacity - count)) if count < capacity else all_of_it * (1.0 / capacity)
    return Line(taken - slope * count, slope)


def _averaged(line: Line) -> Line:
    """Only what shared prefixes cost once stays of the base."""
    return Line(Sums(0.0, line.base.unique - line.base.compute, 0.0), line.slope)


def _rounded(fractions: NDArray[np.float64], num_requests: int) -> list[int]:
    """At least one request of every source that has a share; the largest source takes what rounding leaves."""
    counts = np.where(fractions > 0, np.maximum(np.rint(fractions * num_requests), 1), 0).astype(np.int64)
    counts[np.argmax(counts)] += num_requests - counts.sum()
    return [int(count) for count in counts]


def _fitted(pools: Sequence[Pool], counts: list[int], density: float, heaviest: int) -> list[int]:
    """The heaviest source gets so many requests, at the cost of the largest other one, that the last of them brings the
    density down to `density`; then one that brings it down to just that takes the place of the last."""
    other = max((index for index in range(len(pools)) if index != heaviest), key=lambda index: counts[index])
    both = counts[heaviest] + counts[other]
    unchanged = [index for index in range(len(pools)) if index not in (heaviest, other)]
    rest = _sum([pools[index].sums(counts[index]) for index in unchanged])
    low, high = 0, both  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        mixed = rest + pools[other].sums(both - middle) + pools[heaviest].sums(middle)
        low, high = (low, middle) if mixed.density <= density else (middle, high)
    pool = pools[heaviest]
    if isinstance(pool, LengthPool):
        pool.exchange_last(high, rest + pools[other].sums(both - high), density)
    counts[heaviest], counts[other] = high, both - high
    return counts
