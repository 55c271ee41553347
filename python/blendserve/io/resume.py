"""What an earlier run left in the output file, and which of it still counts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import orjson

from blendserve.errors import UserError
from blendserve.io.fields import shown

__all__ = ["EarlierAnswers", "keep_completed", "outdated_path", "row_key"]

_KEY_BYTES = 12
_ROW_START = b'{"id":"batch_req_'
_ROW_FIELDS = frozenset({"id", "custom_id", "response", "error"})
_REMEDY = "give another output path, or --no-resume to replace the file"


def row_key(custom_id: str, row_id: str) -> bytes:
    """12 bytes that stand for one input row: a changed row has another key."""
    return blake2b(f"{row_id} {custom_id}".encode(), digest_size=_KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class EarlierAnswers:
    """Of an earlier run. keys: see `row_key`, of those that stay. num_outdated: set aside, for their row, the model or
    a setting that decides answers is another now.
    """

    keys: set[bytes]
    num_outdated: int


def outdated_path(path: Path) -> Path:
    """Where answers go that are set aside from the results in `path`."""
    return path.with_name(f"{path.name}.outdated")


def keep_completed(path: Path, job: Mapping[str, str] | None) -> EarlierAnswers:
    """Drops every row of a results file that must be redone.

    A half written row, an error row and a repeated row are dropped. With `job` (see `row_ids`), the answer to a row
    that has changed since goes to the end of `outdated_path`. The file is replaced as a whole, and only if a row leaves
    it.
    Raises `UserError`, with the file untouched, if a line is not a result row or answers a custom_id outside the job.
    """
    completed: set[bytes] = set()
    dropped: set[int] = set()
    outdated: set[int] = set()
    with path.open("rb") as source:
        for number, line in enumerate(source, 1):
            place = f"output {path}, line {number}"
            row = _parse_row(place, line)
            if row is None or not _is_success(row):
                dropped.add(number)
            elif _is_outdated(place, row, job):
                outdated.add(number)
            elif (key := row_key(row["custom_id"], row["id"])) in completed:
                dropped.add(number)
            else:
                completed.add(key)
    if outdated:
        _append_lines(path, outdated, outdated_path(path))
    if dropped or outdated:
        _drop_lines(path.resolve(), dropped | outdated)
    return EarlierAnswers(completed, len(outdated))


def _is_outdated(place: str, row: Mapping[str, Any], job: Mapping[str, str] | None) -> bool:
    if job is None:
        return False
    expected = job.get(row["custom_id"])
    if expected is None:
        raise UserError(f"{place}: custom_id {shown(row['custom_id'])} is not in the input; {_REMEDY}")
    return bool(row["id"] != expected)


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


def _append_lines(path: Path, numbers: set[int], to: Path) -> None:
    with path.open("rb") as source, to.open("ab") as target:
        target.writelines(line for number, line in enumerate(source, 1) if number in numbers)
        target.flush()
        os.fsync(target.fileno())


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
