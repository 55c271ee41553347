"""Result rows to a file or stdout, each written whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from blendserve.errors import UserError
from blendserve.io.batch_input import BatchRequest
from blendserve.io.paths import STANDARD_STREAM
from blendserve.io.resume import keep_completed, row_key

__all__ = ["ResultWriter"]


class ResultWriter:
    """Opens the output on entry and writes rows in the order they come; "-" is stdout.

    With `resume` the answers of an earlier run stay and rows are appended, else an existing file is replaced. `job`,
    from `row_ids`, guards against the results of another input, see `keep_completed`. Every row reaches the operating
    system before `write` returns, so a crash leaves at most one half row. Failing to write raises `UserError`.
    """

    def __init__(self, path: str, *, resume: bool, job: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._resume = resume
        self._job = job
        self._completed: set[bytes] = set()
        self._sink: BinaryIO | None = None

    @property
    def num_completed(self) -> int:
        """Rows of an earlier run that stay."""
        return len(self._completed)

    def is_completed(self, request: BatchRequest) -> bool:
        """True if an earlier run answered this very row."""
        return bool(self._completed) and row_key(request.custom_id, request.row_id) in self._completed

    def write(self, row: bytes) -> None:
        """`row` is one line or several, each with its line end."""
        assert self._sink is not None, "write() outside the with block"
        try:
            self._sink.write(row)
            self._sink.flush()
        except OSError as error:
            raise self._cannot_write(error) from error

    def __enter__(self) -> ResultWriter:
        try:
            self._sink = self._open()
        except OSError as error:
            raise self._cannot_write(error) from error
        return self

    def __exit__(
        self, cause: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._sink is not None
        if self._path == STANDARD_STREAM:
            return
        try:
            with self._sink as sink:
                if cause is None and Path(self._path).is_file():
                    os.fsync(sink.fileno())
        except OSError as error:
            if cause is None:
                raise self._cannot_write(error) from error

    def _open(self) -> BinaryIO:
        if self._path == STANDARD_STREAM:
            return sys.stdout.buffer
        path = Path(self._path)
        if self._resume and path.is_file():
            self._completed = keep_completed(path, self._job)
            self._job = None  # it may be as large as the input
            return path.open("ab")
        return path.open("wb")

    def _cannot_write(self, error: OSError) -> UserError:
        if self._path == STANDARD_STREAM:
            return UserError(f"standard output cannot be written: {error.strerror}; give a file, which can be resumed")
        remedy = "make room or give another path; run again to resume"
        return UserError(f"output {self._path} cannot be written: {error.strerror}; {remedy}")
