"""Result rows to a file or stdout, each written whole."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from blendserve.errors import UserError
from blendserve.io.batch_input import BatchRequest
from blendserve.io.paths import STANDARD_STREAM
from blendserve.io.resume import EarlierAnswers, keep_completed, row_key

__all__ = ["ResultWriter"]


class ResultWriter:
    """Opens the output on entry and writes rows in the order they come; "-" is stdout.

    With `resume` the answers of an earlier run stay and rows are appended, else an existing file is replaced. `job`,
    from `row_ids`, guards against the results of another input, see `keep_completed`. Every row reaches the operating
    system before `write` returns, so a crash leaves at most one half row. Failing to write raises `UserError`, as does
    a file that another process writes.
    """

    def __init__(self, path: str, *, resume: bool, job: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._resume = resume
        self._job = job
        self._earlier = EarlierAnswers(set(), 0)
        self._sink: BinaryIO | None = None

    @property
    def num_completed(self) -> int:
        """Rows of an earlier run that stay."""
        return len(self._earlier.keys)

    @property
    def num_outdated(self) -> int:
        """Answers of an earlier run that are set aside: their row, or what else decides an answer, is another now."""
        return self._earlier.num_outdated

    def is_completed(self, request: BatchRequest) -> bool:
        """True if an earlier run answered this very row."""
        return bool(self._earlier.keys) and row_key(request.custom_id, request.row_id) in self._earlier.keys

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
        if path.exists() and not path.is_file():  # a device or a pipe
            return path.open("wb")
        sink = _open_locked(path)
        try:
            if not self._resume:
                sink.truncate(0)
                return sink
            self._earlier = keep_completed(path, self._job)
            self._job = None  # it may be as large as the input
            if _is_at(path, sink):
                return sink
            kept = _open_locked(path)  # before the file that was replaced is given up
        except BaseException:
            sink.close()
            raise
        sink.close()
        return kept

    def _cannot_write(self, error: OSError) -> UserError:
        if self._path == STANDARD_STREAM:
            return UserError(f"standard output cannot be written: {error.strerror}; give a file, which can be resumed")
        remedy = "make room or give another path; run again to resume"
        return UserError(f"output {self._path} cannot be written: {error.strerror}; {remedy}")


def _open_locked(path: Path) -> BinaryIO:
    """To append to; locked until it is closed. Raises `UserError` if another process has the lock."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = _is_at(path, file)
    except BlockingIOError:
        is_ours = False
    except OSError:
        is_ours = True  # a file system without locks
    if not is_ours:
        file.close()
        raise UserError(f"output {path} is being written by another run; wait for it to end, or give another path")
    return file


def _is_at(path: Path, file: BinaryIO) -> bool:
    """False if the file was replaced since it was opened."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
