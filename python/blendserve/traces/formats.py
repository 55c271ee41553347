"""The formats of traces, and how to tell them apart."""

from __future__ import annotations

import json
from pathlib import Path

from blendserve.errors import UserError
from blendserve.io.lines import read_lines
from blendserve.traces.csv_lengths import CSV_COLUMNS, format_of_header, read_header
from blendserve.traces.workload_file import WORKLOAD_SUFFIXES

__all__ = ["FORMATS", "format_of_file", "split_format"]

FORMATS = (*CSV_COLUMNS, "mooncake", "openai", "workload")

_BINARY_BEGINNINGS = (b"ARROW1", b"PAR1")
_JSON_FIELDS = {"mooncake": {"hash_ids", "input_length"}, "openai": {"custom_id", "body"}}  # any one is enough


def split_format(spec: str) -> tuple[str | None, str]:
    """`FORMAT:FILE` as format and path; the format is None where it is left out.

    Raises `UserError` for a format that does not exist, unless there is a file whose whole name this is.
    """
    prefix, colon, path = spec.partition(":")
    if colon and prefix in FORMATS:
        return prefix, path
    if colon and prefix.isalnum() and not Path(spec).exists():
        raise UserError(f"trace {spec}: no format is named {prefix}; use one of {', '.join(FORMATS)}, or only the file")
    return None, spec


def format_of_file(path: str) -> str:
    """By what the file holds: see docs/traces.md. Raises `UserError` if that is none of the formats."""
    with Path(path).open("rb") as file:
        beginning = file.read(8)
    if beginning.startswith(_BINARY_BEGINNINGS) or Path(path).suffix.lower() in WORKLOAD_SUFFIXES:
        return "workload"
    found = _format_of_json_lines(path) or format_of_header(read_header(path))
    if found is None:
        raise UserError(
            f"trace {path} is of none of the formats {', '.join(FORMATS)}; "
            f"name one, as in azure:{path}, to see what the file lacks"
        )
    return found


def _format_of_json_lines(path: str) -> str | None:
    """By the fields of the first line that is a JSON object; None if no line is."""
    with Path(path).open("rb") as file:
        for line in read_lines(file):
            if line.content is None or not line.content.startswith(b"{"):
                return None
            try:
                fields = set(json.loads(line.content))
            except ValueError:
                continue
            return next((name for name, known in _JSON_FIELDS.items() if fields & known), None)
    return None
