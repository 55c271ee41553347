"""Traces that publish lengths only: CSV files with a column of prompt lengths and one of output lengths."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.io.fields import MAX_INT32, shown
from blendserve.plan_job.growing_array import GrowingArray
from blendserve.traces.length_trace import LengthTrace

__all__ = ["CSV_COLUMNS", "format_of_header", "read_csv", "read_header"]


@dataclass(frozen=True, slots=True)
class LengthColumns:
    """The names, any of them, of the two columns that are read."""

    prompt: tuple[str, ...]
    output: tuple[str, ...]


CSV_COLUMNS = {
    "azure": LengthColumns(("ContextTokens",), ("GeneratedTokens",)),
    "burstgpt": LengthColumns(("Request tokens",), ("Response tokens",)),
    "lengths": LengthColumns(
        ("prompt_len", "prompt_length", "prompt_tokens", "input_len", "input_length", "input_tokens"),
        ("output_len", "output_length", "output_tokens"),
    ),
}
"""By format."""


def read_csv(path: str, format_name: str, name: str) -> LengthTrace:
    """A trace called `name`; rows with a length of 0 are dropped and counted.

    Raises `UserError` that names the line, the column and the value.
    """
    prompt_lens, output_lengths = _read_columns(path, CSV_COLUMNS[format_name], format_name)
    if len(prompt_lens) == 0:
        raise UserError(f"trace {path} has a header and no rows; give one request a row")
    is_request = (prompt_lens > 0) & (output_lengths > 0)
    if not np.any(is_request):
        raise UserError(f"none of the {len(prompt_lens)} rows of trace {path} has a prompt and an output")
    num_dropped = int(np.count_nonzero(~is_request))
    return LengthTrace.unshared(name, prompt_lens[is_request], output_lengths[is_request], num_dropped)


def read_header(path: str) -> list[str]:
    """The names of the columns; raises `UserError` for an empty file."""
    with _open(path) as file:
        return _header(path, csv.reader(file))


def format_of_header(header: Sequence[str]) -> str | None:
    """The first format whose two columns are there."""
    return next((name for name, columns in CSV_COLUMNS.items() if _missing(columns, header) is None), None)


def _read_columns(path: str, columns: LengthColumns, format_name: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    prompt_lens, output_lengths = GrowingArray(np.int32), GrowingArray(np.int32)
    with _open(path) as file:
        reader = csv.reader(file)
        header = _header(path, reader)
        missing = _missing(columns, header)
        if missing is not None:
            raise UserError(
                f"trace {path} has no column {' or '.join(missing)}, but {', '.join(header)}; "
                f"the format `{format_name}` needs it"
            )
        prompt, output = (_place(names, header) for names in (columns.prompt, columns.output))
        for row in reader:
            if row:
                try:
                    prompt_lens.append(_length(row[prompt]))
                    output_lengths.append(_length(row[output]))
                except (IndexError, ValueError):
                    raise _bad_row(path, reader.line_num, row, header, (prompt, output)) from None
    return prompt_lens.array, output_lengths.array


def _length(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_INT32:
        raise ValueError
    return value


def _bad_row(path: str, line: int, row: list[str], header: list[str], places: Sequence[int]) -> UserError:
    for place in places:
        if place >= len(row):
            return UserError(
                f"trace {path}, line {line} has {len(row)} fields where the header has {len(header)}; "
                "the file may be cut off: fetch it again or remove the line"
            )
        try:
            _length(row[place])
        except ValueError:
            return UserError(
                f"trace {path}, line {line}: {header[place]} is {shown(row[place])}; "
                f"it must be an integer between 0 and {MAX_INT32}"
            )
    raise AssertionError("the row is good")


def _header(path: str, reader: Iterator[list[str]]) -> list[str]:
    header = next(reader, None)
    if not header:
        raise UserError(f"trace {path} is empty or begins with a blank line; its first line names the columns")
    return [column.strip() for column in header]


def _missing(columns: LengthColumns, header: Sequence[str]) -> tuple[str, ...] | None:
    """The column of which no name is there."""
    return next((names for names in (columns.prompt, columns.output) if not set(names) & set(header)), None)


def _place(names: Sequence[str], header: Sequence[str]) -> int:
    return next(header.index(name) for name in names if name in header)


@contextmanager
def _open(path: str) -> Iterator[TextIO]:
    """The file as text; what is no CSV file is a `UserError`."""
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise UserError(f"trace {path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
        except csv.Error as error:
            raise UserError(f"trace {path} is no CSV file: {error}; save it again") from None
