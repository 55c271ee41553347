"""Mooncake traces: JSON lines whose hash_ids name the 512-token blocks of a prompt, equal ids for equal prefixes.

A block's tokens are all the same, one number for each id of the trace: so two prompts share exactly the blocks that
their ids say, and nothing by chance. The numbers begin at the marker of the trace's name: two traces share nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import RequestError, UserError
from blendserve.io.fields import MAX_INT32, JsonObject, refused, shown
from blendserve.io.lines import MAX_LINE_BYTES, Line, read_lines
from blendserve.plan_job.growing_array import GrowingArray
from blendserve.traces.made_tokens import marker_of
from blendserve.traces.ragged import offsets_of
from blendserve.traces.trace import Trace

__all__ = ["BLOCK_TOKENS", "read_mooncake"]

BLOCK_TOKENS = 512

_MAX_ID = 2**63 - 1


def read_mooncake(path: str, name: str) -> Trace:
    """A trace called `name`; rows with a length of 0 are dropped and counted.

    Raises `UserError` that names the line, the field and the value.
    """
    prompt_lens, output_lengths = GrowingArray(np.int32), GrowingArray(np.int32)
    ids = GrowingArray(np.int64)
    num_dropped = 0
    with Path(path).open("rb") as file:
        for line in read_lines(file):
            prompt_len, output_len, blocks = _read_row(path, line)
            if prompt_len == 0 or output_len == 0:
                num_dropped += 1
                continue
            prompt_lens.append(prompt_len)
            output_lengths.append(output_len)
            ids.extend(blocks)
    num_requests = len(prompt_lens)
    if num_requests == 0:
        raise UserError(f"trace {path} has no requests ({num_dropped} without a prompt or an output); give one a line")
    return Trace(
        tokens=_tokens(ids.array, prompt_lens.array, name),
        offsets=offsets_of(prompt_lens.array),
        output_lengths=output_lengths.array,
        is_known=np.zeros(num_requests, dtype=np.bool_),
        sources=(name,),
        source=np.zeros(num_requests, dtype=np.int16),
        num_dropped=num_dropped,
    )


def _tokens(ids: NDArray[np.int64], prompt_lens: NDArray[np.int32], name: str) -> NDArray[np.int32]:
    """The last block of a prompt has what is left of it."""
    _, number = np.unique(ids, return_inverse=True)
    block_lens = np.full(len(ids), BLOCK_TOKENS)
    last = np.cumsum(-(-prompt_lens.astype(np.int64) // BLOCK_TOKENS)) - 1
    block_lens[last] = (prompt_lens - 1) % BLOCK_TOKENS + 1
    return np.repeat((number + marker_of(name)).astype(np.int32), block_lens)


def _read_row(path: str, line: Line) -> tuple[int, int, NDArray[np.int64]]:
    """Prompt length, output length and the ids of the prompt's blocks."""
    try:
        row = JsonObject("", _parse(line))
        prompt_len, output_len = (_length(row, field) for field in ("input_length", "output_length"))
        return prompt_len, output_len, _blocks(row, prompt_len)
    except RequestError as error:
        raise UserError(f"trace {path}, line {line.number}: {error}") from None


def _parse(line: Line) -> dict[str, Any]:
    if line.content is None:
        raise RequestError(f"the line is longer than {MAX_LINE_BYTES} bytes (32 MiB); remove it")
    try:
        row = json.loads(line.content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"not valid JSON ({error}); the file may be cut off: fetch it again") from None
    if not isinstance(row, dict):
        raise refused("the row", row, "an object with input_length, output_length and hash_ids")
    return row


def _length(row: JsonObject, field: str) -> int:
    row.required(field, f"an integer between 0 and {MAX_INT32}")
    value = row.integer(field, 0, MAX_INT32)
    assert value is not None
    return value


def _blocks(row: JsonObject, prompt_len: int) -> NDArray[np.int64]:
    num_blocks = -(-prompt_len // BLOCK_TOKENS)
    rule = f"a list of {num_blocks} ids, one for every {BLOCK_TOKENS} of its {prompt_len} tokens"
    ids = row.required("hash_ids", rule)
    if not isinstance(ids, list) or len(ids) != num_blocks:
        raise refused("hash_ids", ids, rule)
    bad = next((i for i, value in enumerate(ids) if type(value) is not int or not 0 <= value <= _MAX_ID), None)
    if bad is not None:
        raise RequestError(f"hash_ids[{bad}] is {shown(ids[bad])}; it must be an integer between 0 and {_MAX_ID}")
    return np.array(ids, dtype=np.int64)
