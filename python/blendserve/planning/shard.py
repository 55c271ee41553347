"""A part of a job, for one data-parallel replica."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """rows: int32 [k], the requests, by leaf of the planned tree: the dense ones first.

    compute_s, memory_s: their unique cost on the planned device. prompt_tokens: theirs. lost_tokens: prefix tokens that
    other shards compute too.
    """

    rows: NDArray[np.int32]
    compute_s: float
    memory_s: float
    prompt_tokens: int
    lost_tokens: int

    @property
    def density(self) -> float:
        return self.compute_s / self.memory_s if self.memory_s > 0 else float("inf")
