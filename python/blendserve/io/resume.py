"""What an earlier run left in the output file, and which of it still counts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import orjson

from blendserve.errors import UserError
from blendserve.io.fields import shown

__all__ = ["keep_completed", "row_key"]

_KEY_BYTES = 12
_ROW_START = b'{"id":"batch_req_'
_ROW_FIELDS = frozenset({"id", "custom_id", "response", "error"})
_REMEDY = "give another output path, or --no-resume to replace the file"


def row_key(custom_id: str, row_id: str) -> bytes:
    """12 bytes that stand for one input row: a changed row has another key."""
    return blake2b(f"{row_id} {custom_id}".encode(), digest_size=_KEY_BYTES).digest()


def keep_completed(path: Path, job: Mapping[str, str] | None) -> set[bytes]:
    """Drops every row of a results file that must be redone; returns the keys of those that stay.

    A half written row, an error row and a repeated row are dropped. With `job` (see `row_ids`), so
    is the answer to a row that has changed since. The file is replaced as a whole, and only if a row is dropped.
    Raises `UserError`, with the file untouched, if a line is not a result row or answers a custom_id outside the job.
    """
    completed: set[bytes] = set()
    dropped: set[int] = set()
    with path.open("rb") as source:
        for number, line in enumerate(source, 1):
            key = _completed_key(f"output {path}, line {number}", line, job)
            if key is None or key in completed:
                dropped.add(number)
            else:
                completed.add(key)
    if dropped:
        _drop_lines(path.resolve(), dropped)
    return completed


def _completed_key(place: str, line: bytes, job: Mapping[str, str] | None) -> bytes | None:
    row = _parse_row(place, line)
    if row is None or not _is_success(row):
        return None
    row_id, custom_id = row["id"], row["custom_id"]
    if job is not None:
        expected = job.get(custom_id)
        if expected is None:
            raise UserError(f"{place}: custom_id {shown(custom_id)} is not in the input; {_REMEDY}")
        if row_id != expected:
            return None
    return row_key(custom_id, row_id)


def _parse_row(place: str, line: bytes) -> dict[str, Any] | None:
    """None for a row that was cut off while it was written."""
    whole = line.endswith(b"\n")
    if whole:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if isinstance(row, dict) and row.keys() >= _ROW_FIELDS:
            return row
    if line.startswith(_ROW_START) or (not whole and _ROW_START.startswith(line)):
        return None
    raise UserError(f"{place}: this is not a result row, so the file is left as it is; {_REMEDY}")


def _is_success(row: dict[str, Any]) -> bool:
    response = row["response"]
    answered = isinstance(response, dict) and response.get("status_code") == 200 and row["error"] is None
    return answered and isinstance(row["id"], str) and isinstance(row["custom_id"], str)


def _drop_lines(path: Path, dropped: set[int]) -> None:
    with (
        path.open("rb") as source,
        NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as target,
    ):
        try:
            target.writelines(line for number, line in enumerate(source, 1) if number not in dropped)
            target.flush()
            os.fsync(target.fileno())
            shutil.copymode(path, target.name)
            Path(target.name).replace(path)
        except BaseException:
            Path(target.name).unlink()
            raise
