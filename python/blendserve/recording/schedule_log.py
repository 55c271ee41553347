"""Schedule logs: what measured times changed in a run, by which another one has the same schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendserve._core import TimeCorrection, __version__
from blendserve.errors import UserError

__all__ = ["CorrectionChange", "ScheduleLog", "read_schedule_log"]

_VERSION = "blendserve"  # the header's key for it
_CHANGE = ("after_steps", "compute", "memory")
_REMEDY = (
    "a schedule is replayed with the settings that it was made with (--kv-memory among them, which decides the number "
    "of blocks and by default depends on the free memory)"
)


@dataclass(frozen=True, slots=True)
class CorrectionChange:
    """`correction` holds from when `after_steps` steps have run."""

    after_steps: int
    correction: TimeCorrection


class ScheduleLog:
    """A file of JSON lines: the settings that decide a schedule, then every change of the correction, as it happens."""

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        """Raises `UserError` if the file cannot be written."""
        self._path = Path(path)
        self._write("w", {_VERSION: __version__, **settings})

    def add(self, change: CorrectionChange) -> None:
        correction = change.correction
        values = (change.after_steps, correction.compute, correction.memory)
        self._write("a", dict(zip(_CHANGE, values, strict=True)))

    def _write(self, mode: str, fields: Mapping[str, Any]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")
        except OSError as error:
            raise UserError(
                f"schedule log {self._path} cannot be written: {error.strerror}; give another path"
            ) from error


def read_schedule_log(path: str | Path, settings: Mapping[str, Any]) -> list[CorrectionChange]:
    """The changes of a run with these settings, in order.

    Raises:
        UserError: the file cannot be read, is no schedule log, or is one of a run with other settings.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"schedule log {path} cannot be read: {reason}; `run --schedule-log` writes one") from None
    if not lines:
        raise UserError(f"schedule log {path} is empty; `run --schedule-log` writes one")
    _check_settings(path, _fields(path, 1, lines[0]), json.loads(json.dumps(settings)))
    return [_change(path, number, line) for number, line in enumerate(lines[1:], start=2)]


def _fields(path: str | Path, number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"schedule log {path}: line {number} is no JSON object; `run --schedule-log` writes one a line")
    return fields


def _check_settings(path: str | Path, logged: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if logged.get(name) != value:
            raise UserError(
                f"schedule log {path} is of a run with another {name}: {logged.get(name)!r}, not {value!r}; {_REMEDY}"
            )


def _change(path: str | Path, number: int, line: str) -> CorrectionChange:
    fields = _fields(path, number, line)
    after_steps = fields.get("after_steps")
    if not isinstance(after_steps, int) or after_steps < 1:
        raise UserError(
            f"schedule log {path}: line {number} has after_steps {after_steps!r}, which must be an integer from 1 on; "
            "take the file as `run --schedule-log` wrote it"
        )
    try:
        return CorrectionChange(after_steps, TimeCorrection(float(fields["compute"]), float(fields["memory"])))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"schedule log {path}: line {number} is no change of a correction: {error}; take the file as "
            "`run --schedule-log` wrote it"
        ) from None
