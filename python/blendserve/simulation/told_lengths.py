"""What a schedule is told of the output lengths before the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from blendserve._core import PrefixTree, choose_samples
from blendserve.traces import Trace

__all__ = ["LENGTHS", "Lengths", "ToldLengths"]

Lengths = Literal["sampled", "hinted", "known"]
LENGTHS: tuple[Lengths, ...] = get_args(Lengths)

_UNKNOWN = -1.0


@dataclass(frozen=True, slots=True)
class ToldLengths:
    """By row of the trace.

    lengths: float64 [n], tokens, -1 where unknown.
    weights: float64 [n], how many requests each length stands for as evidence; None: all alike.
    is_first: bool [n], the samples, which run first.
    """

    lengths: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    is_first: NDArray[np.bool_]

    @classmethod
    def of(cls, trace: Trace, tree: PrefixTree, lengths: Lengths, *, sample_rate: float, seed: int) -> ToldLengths:
        true_lengths = trace.output_lengths.astype(np.float64)
        num_requests = trace.num_requests
        if lengths == "known":
            return cls(true_lengths, None, np.zeros(num_requests, dtype=np.bool_))
        is_hinted = trace.is_known if lengths == "hinted" else np.zeros(num_requests, dtype=np.bool_)
        rows, row_weights = choose_samples(tree, rate=sample_rate, seed=seed)
        weights = np.zeros(num_requests)
        weights[rows] = row_weights
        weights[is_hinted] = 0.0
        is_sample = np.zeros(num_requests, dtype=np.bool_)
        is_sample[rows] = True
        is_sample &= ~is_hinted
        return cls(np.where(is_sample | is_hinted, true_lengths, _UNKNOWN), weights, is_sample)

    def take(self, rows: NDArray[np.integer]) -> ToldLengths:
        weights = None if self.weights is None else self.weights[rows]
        return ToldLengths(self.lengths[rows], weights, self.is_first[rows])
