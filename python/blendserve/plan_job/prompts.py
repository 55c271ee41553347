"""What the planner is given of a job."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve.io.batch_input import RowError
from blendserve.plan_job.output_lengths import LengthSource

__all__ = ["JobPrompts"]


@dataclass(frozen=True, slots=True)
class JobPrompts:
    """n requests, each one choice of one of the input's rows; a row's choices are neighbours.

    tokens: int32 [T]; request i has `tokens[offsets[i] : offsets[i + 1]]`, offsets int64 [n + 1].
    output_lengths: float64 [n], UNKNOWN where the row tells none. max_output_lengths: int64 [n], perhaps UNLIMITED.
    request_rows: int32 [n], the row of each request, counted from 0 over the lines that are not blank.
    row_lines: int64 [num_rows], the 1-based line of each row; None for a file without lines.
    bad_rows: the rows that no request stands for.
    length_sources: how many requests have their length from each source.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    output_lengths: NDArray[np.float64]
    max_output_lengths: NDArray[np.int64]
    request_rows: NDArray[np.int32]
    num_rows: int
    row_lines: NDArray[np.int64] | None
    bad_rows: tuple[RowError, ...]
    length_sources: dict[LengthSource, int]

    @property
    def lengths_source(self) -> str:
        """The one source of all lengths, or "mixed"."""
        return next(iter(self.length_sources)) if len(self.length_sources) == 1 else "mixed"
