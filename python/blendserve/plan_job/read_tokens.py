"""A file of token ids as a job to plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import RequestError
from blendserve.io.batch_input import RowError
from blendserve.io.token_files import TokenFile, read_token_file
from blendserve.plan_job.output_lengths import UNKNOWN, UNLIMITED, LengthSource, source_without_length
from blendserve.plan_job.prompts import JobPrompts
from blendserve.vocabulary import check_vocabulary

__all__ = ["read_tokens"]


def read_tokens(path: str, *, mean_output: float | None, vocab_size: int | None = None) -> JobPrompts:
    """Every row is one request, but for bad rows: those with token ids beyond `vocab_size`; None is not checked.

    Raises `UserError` as `read_token_file` does.
    """
    file = read_token_file(path)
    bad_rows = _bad_rows(file, vocab_size)
    is_good = np.ones(file.num_rows, dtype=bool)
    is_good[[error.line - 1 for error in bad_rows]] = False
    limits = np.full(file.num_rows, UNLIMITED, dtype=np.int64) if file.max_tokens is None else file.max_tokens
    limits = np.where(limits < 0, UNLIMITED, limits)[is_good]
    lengths = np.full(file.num_rows, UNKNOWN) if file.output_lengths is None else file.output_lengths
    lengths = lengths[is_good]
    tokens, offsets = (file.tokens, file.offsets) if not bad_rows else _rows_where(file, is_good)
    return JobPrompts(
        tokens=tokens,
        offsets=offsets,
        output_lengths=np.minimum(lengths, limits),
        max_output_lengths=limits,
        request_rows=np.flatnonzero(is_good).astype(np.int32),
        num_rows=file.num_rows,
        row_lines=None,
        bad_rows=bad_rows,
        length_sources=_count_sources(int(np.count_nonzero(lengths >= 0)), len(lengths), mean_output),
    )


def _bad_rows(file: TokenFile, vocab_size: int | None) -> tuple[RowError, ...]:
    """Rows are counted from 1, as lines are."""
    if vocab_size is None or len(file.tokens) == 0 or file.tokens.max() < vocab_size:
        return ()
    rows = np.searchsorted(file.offsets, np.flatnonzero(file.tokens >= vocab_size), side="right")
    return tuple(_row_error(file, row, vocab_size) for row in np.unique(rows).tolist())


def _row_error(file: TokenFile, row: int, vocab_size: int) -> RowError:
    try:
        check_vocabulary("prompt", file.tokens[file.offsets[row - 1] : file.offsets[row]], vocab_size)
    except RequestError as error:
        return RowError(row, "", None, error.code, f"row {row}: {error}")
    raise AssertionError(f"row {row} has no bad token id")


def _rows_where(file: TokenFile, is_good: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Tokens and offsets of these rows."""
    lengths = np.diff(file.offsets)
    return file.tokens[np.repeat(is_good, lengths)], np.concatenate([[0], np.cumsum(lengths[is_good])])


def _count_sources(num_known: int, num_rows: int, mean_output: float | None) -> dict[LengthSource, int]:
    counts: dict[LengthSource, int] = {"hint": num_known, source_without_length(mean_output): num_rows - num_known}
    return {source: count for source, count in counts.items() if count}
