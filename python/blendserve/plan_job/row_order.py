"""The planned order of requests as an order of the input's rows, written for other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendserve.io.line_index import LineIndex
from blendserve.plan_job.prompts import JobPrompts

__all__ = ["emit_rows", "rows_in_order", "write_order"]


def rows_in_order(order: NDArray[np.int32], prompts: JobPrompts) -> NDArray[np.int64]:
    """Every planned row once, where the first of its choices stands. Bad rows are not among them."""
    rows = prompts.request_rows[order]
    _, first_places = np.unique(rows, return_index=True)
    return rows[np.sort(first_places)].astype(np.int64)


def write_order(path: str, rows: NDArray[np.int64]) -> None:
    """One row number a line, or for a name that ends in .npy an int64 array."""
    if path.endswith(".npy"):
        with Path(path).open("wb") as file:
            np.save(file, rows)
    else:
        with Path(path).open("w", encoding="ascii") as file:
            file.writelines(f"{row}\n" for row in rows.tolist())


def emit_rows(path: str, source: Path, rows: NDArray[np.int64], prompts: JobPrompts) -> None:
    """The lines of `source`, byte for byte, in the order of `rows`; the bad rows follow, so that none is lost.

    Left out are blank lines and a byte order mark; a last line without its line end gets one.
    """
    assert prompts.row_lines is not None, "a file of token ids has no lines"
    bad_lines = [error.line for error in prompts.bad_rows]
    with LineIndex.open(source) as lines, Path(path).open("wb") as target:
        for number in (*prompts.row_lines[rows], *bad_lines):
            target.write(lines[number])
