"""How long an answer is expected to be, and who says so.

A row's own length comes first: its hint, then a length that is forced. What no row tells is left to the planner, whose
prior is --mean-output, or else `DEFAULT_OUTPUT_LEN`; it never takes more than a row's limit.
"""

from __future__ import annotations

from typing import Literal

from blendserve.io.batch_input import BatchRequest

__all__ = [
    "DEFAULT_OUTPUT_LEN",
    "UNKNOWN",
    "UNLIMITED",
    "LengthSource",
    "known_output_len",
    "max_output_len",
    "source_without_length",
]

LengthSource = Literal["hint", "forced", "mean_output", "default"]

DEFAULT_OUTPUT_LEN = 256.0

UNKNOWN = -1.0

UNLIMITED = 2**31 - 1  # max_tokens of a row that sets none


def max_output_len(row: BatchRequest) -> int:
    """The row's limit. To the planner every request has an answer, so a row that asks for its prompt alone has 1."""
    return UNLIMITED if row.params.max_tokens is None else max(row.params.max_tokens, 1)


def known_output_len(row: BatchRequest) -> tuple[float, LengthSource | None]:
    """What the row tells, at most its limit; UNKNOWN and None if it tells nothing."""
    params = row.params
    limit = max_output_len(row)
    if params.max_tokens == 0:
        return float(limit), "forced"
    if row.expected_output_tokens is not None:
        return float(min(row.expected_output_tokens, limit)), "hint"
    if params.max_tokens is not None and params.forces_length(limit):
        return float(limit), "forced"
    return UNKNOWN, None


def source_without_length(mean_output: float | None) -> LengthSource:
    return "default" if mean_output is None else "mean_output"
