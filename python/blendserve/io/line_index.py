"""The lines of a file at random, straight from the mapped file."""

from __future__ import annotations

import codecs
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["LineIndex"]

_CHUNK_BYTES = 2**24


class LineIndex:
    """Line k, counted from 1 as `read_lines` does, with its line end; holds eight bytes a line."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._ends = _line_ends(content)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[LineIndex]:
        """The file must not be empty, nor change meanwhile."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield cls(content)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:
        """A byte order mark before the first line is left out; a line end that the last line lacks is added."""
        begin = 0 if number == 1 else int(self._ends[number - 2])
        line = self._content[begin : int(self._ends[number - 1])]
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        return line if line.endswith(b"\n") else line + b"\n"


def _line_ends(content: mmap.mmap) -> NDArray[np.int64]:
    """Where each line ends, behind its line end."""
    ends = []
    for begin in range(0, len(content), _CHUNK_BYTES):
        chunk = np.frombuffer(content[begin : begin + _CHUNK_BYTES], dtype=np.uint8)
        ends.append(np.flatnonzero(chunk == ord("\n")) + (begin + 1))
    all_ends = np.concatenate(ends)
    return all_ends if content[-1:] == b"\n" else np.append(all_ends, len(content))
