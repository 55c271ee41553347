"""The rows of an OpenAI Batch file as a job to plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blendserve.context_room import context_room
from blendserve.errors import RequestError
from blendserve.io.batch_input import BatchRequest, RowError, read_requests, require_rows
from blendserve.plan_job.growing_array import GrowingArray
from blendserve.plan_job.output_lengths import LengthSource, known_output_len, max_output_len, source_without_length
from blendserve.plan_job.prompts import JobPrompts
from blendserve.text.row_tokens import RowTokens, encode_rows
from blendserve.text.tokenizer import Tokenizer
from blendserve.vocabulary import check_vocabulary

__all__ = ["OnProgress", "ReadProgress", "read_batch"]

_ROWS_PER_PROGRESS = 256


@dataclass(frozen=True, slots=True)
class ReadProgress:
    """How far the file has been read; what was read is tokenized, but for a few batches."""

    bytes_done: int
    total_bytes: int
    num_rows: int
    num_tokens: int


OnProgress = Callable[[ReadProgress], None]


def read_batch(
    path: Path,
    shown_path: str,
    tokenizer: Tokenizer | None,
    *,
    mean_output: float | None,
    on_progress: OnProgress,
    context_len: int | None = None,
    vocab_size: int | None = None,
) -> JobPrompts:
    """Reads, renders and tokenizes; holds the token ids and a few bytes a row, nothing else of it.

    Rows that leave no room for an answer in a context of `context_len`, or have token ids beyond `vocab_size`, are bad
    ones, as they are to the engine; None is not checked.
    Raises `UserError` for a file without rows, which the message calls `shown_path`.
    """
    collected = _Collected(context_len, vocab_size, source_without_length(mean_output))
    with path.open("rb") as source:
        total_bytes = path.stat().st_size
        rows = require_rows(read_requests(source), shown_path)
        for index, item in enumerate(encode_rows(rows, tokenizer)):
            collected.add(index, item)
            if index % _ROWS_PER_PROGRESS == 0:
                on_progress(ReadProgress(source.tell(), total_bytes, index + 1, len(collected.tokens)))
    return collected.prompts()


class _Collected:
    """The rows so far, as arrays."""

    def __init__(self, context_len: int | None, vocab_size: int | None, source_without_length: LengthSource) -> None:
        self._context_len = context_len
        self._vocab_size = vocab_size
        self._source_without_length = source_without_length
        self.tokens = GrowingArray(np.int32)
        self._offsets = GrowingArray(np.int64)
        self._offsets.append(0)
        self._output_lengths = GrowingArray(np.float64)
        self._max_output_lengths = GrowingArray(np.int64)
        self._request_rows = GrowingArray(np.int32)
        self._row_lines = GrowingArray(np.int64)
        self._bad_rows: list[RowError] = []
        self._length_sources: Counter[LengthSource] = Counter()

    def add(self, index: int, item: RowTokens | RowError) -> None:
        if not isinstance(item, RowError):
            item = self._fitting(*item)
        if isinstance(item, RowError):
            self._bad_rows.append(item)
            self._row_lines.append(item.line)
            return
        row, token_ids = item
        self._row_lines.append(row.line)
        for _ in range(row.params.n):
            self._add_request(index, row, token_ids)

    def _fitting(self, row: BatchRequest, token_ids: np.ndarray) -> RowTokens | RowError:
        try:
            if self._vocab_size is not None and isinstance(
                row.prompt, np.ndarray
            ):  # text may be another model's tokens
                check_vocabulary("prompt", token_ids, self._vocab_size)
            if self._context_len is not None:
                context_room(len(token_ids), self._context_len, row.params.max_tokens)
        except RequestError as error:
            return row.failed(error)
        return row, token_ids

    def _add_request(self, index: int, row: BatchRequest, token_ids: np.ndarray) -> None:
        output_len, source = known_output_len(row)
        self.tokens.extend(token_ids)
        self._offsets.append(len(self.tokens))
        self._output_lengths.append(output_len)
        self._max_output_lengths.append(max_output_len(row))
        self._request_rows.append(index)
        self._length_sources[source or self._source_without_length] += 1

    def prompts(self) -> JobPrompts:
        return JobPrompts(
            tokens=self.tokens.array,
            offsets=self._offsets.array,
            output_lengths=self._output_lengths.array,
            max_output_lengths=self._max_output_lengths.array,
            request_rows=self._request_rows.array,
            num_rows=len(self._row_lines),
            row_lines=self._row_lines.array,
            bad_rows=tuple(self._bad_rows),
            length_sources=dict(self._length_sources),
        )
