"""A file of token ids as a job to plan."""

from __future__ import annotations

import numpy as np

from blendserve.io.token_files import read_token_file
from blendserve.plan_job.output_lengths import UNKNOWN, UNLIMITED, LengthSource, source_without_length
from blendserve.plan_job.prompts import JobPrompts

__all__ = ["read_tokens"]


def read_tokens(path: str, *, mean_output: float | None) -> JobPrompts:
    """Every row is one request. Raises `UserError` as `read_token_file` does."""
    file = read_token_file(path)
    limits = np.full(file.num_rows, UNLIMITED, dtype=np.int64) if file.max_tokens is None else file.max_tokens
    limits = np.where(limits < 0, UNLIMITED, limits)
    lengths = np.full(file.num_rows, UNKNOWN) if file.output_lengths is None else file.output_lengths
    return JobPrompts(
        tokens=file.tokens,
        offsets=file.offsets,
        output_lengths=np.minimum(lengths, limits),
        max_output_lengths=limits,
        request_rows=np.arange(file.num_rows, dtype=np.int32),
        num_rows=file.num_rows,
        row_lines=None,
        bad_rows=(),
        length_sources=_count_sources(int(np.count_nonzero(lengths >= 0)), file.num_rows, mean_output),
    )


def _count_sources(num_known: int, num_rows: int, mean_output: float | None) -> dict[LengthSource, int]:
    counts: dict[LengthSource, int] = {"hint": num_known, source_without_length(mean_output): num_rows - num_known}
    return {source: count for source, count in counts.items() if count}
