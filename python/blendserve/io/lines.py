"""A byte stream as numbered, bounded lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import BinaryIO

__all__ = ["MAX_LINE_BYTES", "Line", "read_lines"]

MAX_LINE_BYTES = 32 * 1024 * 1024
"""A longer line is not read into memory and becomes an error row."""

_SKIP_BYTES = 1024 * 1024
_ROW_ID_BYTES = 12


@dataclass(slots=True)
class Line:
    """One line that is not blank.

    number: 1-based place in the stream, blank lines counted.
    row_id: "batch_req_" and a hash of job key and content, so that a changed line gets another id.
    content: without surrounding white space; None if the line is longer than MAX_LINE_BYTES.
    """

    number: int
    row_id: str
    content: bytes | None


def read_lines(source: BinaryIO, job_key: str = "") -> Iterator[Line]:
    """Yields every line that is not only white space; a UTF-8 byte order mark before the first one is dropped."""
    seed = blake2b(job_key.encode("utf-8", "surrogateescape"), digest_size=_ROW_ID_BYTES)
    for number in count(1):
        line = source.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            row_id = _skip_rest(source, line, seed.copy())
            if row_id is not None:
                yield Line(number, row_id, None)
            continue
        content = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if content:
            digest = seed.copy()
            digest.update(content)
            yield Line(number, _row_id(digest), content)


def _skip_rest(source: BinaryIO, start: bytes, digest: blake2b) -> str | None:
    """Reads on to the end of a line that is too long; returns its row id, None if it is blank."""
    digest.update(start)
    blank = start.isspace()
    while chunk := source.readline(_SKIP_BYTES):
        digest.update(chunk)
        blank = blank and chunk.isspace()
        if chunk.endswith(b"\n"):
            break
    return None if blank else _row_id(digest)


def _row_id(digest: blake2b) -> str:
    return f"batch_req_{digest.hexdigest()}"
