"""How much of each source a mix has, and what mixes of them can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.synthesis.costs import Sums

__all__ = ["MAX_SOURCES", "Line", "solve_fractions", "unreachable"]

MAX_SOURCES = 12  # all subsets of the sources are tried

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Line:
    """The sums of a source's requests as a function of their number: `base` + number * `slope`. The base is what a
    shared prefix costs once, and by how much the requests that are taken differ from the mean."""

    base: Sums
    slope: Sums


def solve_fractions(
    lines: Sequence[Line], num_requests: int, density: float | None, sharing: float | None
) -> NDArray[np.float64] | None:
    """The share of the requests that each source gets, so that the mix has this density and sharing by compute; of all
    such mixes, the one closest to equal shares. None if there is none."""
    equations, targets = [np.ones(len(lines))], [1.0]
    for weights in _balances(density, sharing):
        slopes = np.array([weights.of(line.slope) for line in lines])
        scale = max(weights.size_of(line.slope) for line in lines)
        equations.append(slopes / scale)
        targets.append(-sum(weights.of(line.base) for line in lines) / num_requests / scale)
    return _closest_to_equal(np.stack(equations), np.array(targets))


@dataclass(frozen=True, slots=True)
class _Balance:
    """A sum of costs that is 0 where a target is met."""

    compute: float
    unique: float
    memory: float

    def of(self, sums: Sums) -> float:
        return self.compute * sums.compute + self.unique * sums.unique + self.memory * sums.memory

    def size_of(self, sums: Sums) -> float:
        """Of the terms that `of` adds up."""
        return abs(self.compute * sums.compute) + abs(self.unique * sums.unique) + abs(self.memory * sums.memory)


def _balances(density: float | None, sharing: float | None) -> Iterator[_Balance]:
    if sharing is not None:
        yield _Balance(compute=sharing - 1.0, unique=1.0, memory=0.0)
    if density is not None:
        yield _Balance(compute=0.0, unique=1.0, memory=-density)


def _closest_to_equal(equations: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """x >= 0 with equations · x = target and the least distance to equal shares: the projection on one of the faces of
    x >= 0. None if there is no such x."""
    num_sources = equations.shape[1]
    equal = np.full(num_sources, 1.0 / num_sources)
    best, best_distance = None, np.inf
    for support in _supports(num_sources):
        part = equations[:, support]
        step = np.linalg.lstsq(part, target - part @ equal[support], rcond=None)[0]
        found = np.zeros(num_sources)
        found[support] = equal[support] + step
        is_solution = found.min() >= -_TOLERANCE and np.abs(equations @ found - target).max() <= _TOLERANCE
        distance = float(np.linalg.norm(found - equal))
        if is_solution and distance < best_distance - _TOLERANCE:
            best, best_distance = np.maximum(found, 0.0), distance
    return best


def _supports(num_sources: int) -> Iterator[list[int]]:
    for size in range(num_sources, 0, -1):
        yield from (list(support) for support in combinations(range(num_sources), size))


def unreachable(names: Sequence[str], means: Sequence[Sums], density: float | None, sharing: float | None) -> UserError:
    """`means`: the sums of workloads of one source each."""
    each = ", ".join(
        f"{name} has {mean.density:.3g} and {mean.sharing:.3g}" for name, mean in zip(names, means, strict=True)
    )
    remedy = f"(density and sharing: {each}); ask for another, for more requests, or add a source"
    ends = [mean.sharing for mean in means]
    if density is None or (sharing is not None and not min(ends) <= sharing <= max(ends)):
        return UserError(
            f"sharing {sharing:g} cannot be reached: these sources reach {min(ends):.3g} to {max(ends):.3g} {remedy}"
        )
    densities = [mean.density for mean in means] if sharing is None else list(_densities_at(means, sharing))
    beside = "" if sharing is None else f" with sharing {sharing:g}"
    return UserError(
        f"density {density:g} cannot be reached{beside}: these sources reach {min(densities):.3g} to "
        f"{max(densities):.3g} {remedy}"
    )


def _densities_at(means: Sequence[Sums], sharing: float) -> Iterator[float]:
    """Of the mixes of one or two sources that have this sharing: between them lie those of all."""
    excess = [mean.unique - (1.0 - sharing) * mean.compute for mean in means]
    for (a, first), (b, second) in combinations(zip(excess, means, strict=True), 2):
        if a * b <= 0 and a != b:
            weights = (abs(b), abs(a))
            unique = weights[0] * first.unique + weights[1] * second.unique
            yield unique / (weights[0] * first.memory + weights[1] * second.memory)
    yield from (mean.density for part, mean in zip(excess, means, strict=True) if part == 0)
