"""Tiny builders of input rows and outputs for the tests of this folder."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, Literal

import numpy as np
from blendserve.io.batch_input import BatchRequest, RowError, read_requests
from blendserve.outputs import CompletionOutput, FinishedRequest

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
COMPLETIONS: Literal["/v1/completions"] = "/v1/completions"


def read(content: bytes) -> list[BatchRequest | RowError]:
    return list(read_requests(BytesIO(content)))


def read_request(content: bytes) -> BatchRequest:
    (row,) = read(content)
    assert isinstance(row, BatchRequest), row
    return row


def read_error(content: bytes) -> RowError:
    (row,) = read(content)
    assert isinstance(row, RowError), row
    return row


def chat_row(custom_id: str = "a", **fields: Any) -> bytes:
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    return json_line({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


def completion_row(custom_id: str = "a", **fields: Any) -> bytes:
    body = {"prompt": "Hi", **fields}
    return json_line({"custom_id": custom_id, "method": "POST", "url": COMPLETIONS, "body": body})


def json_line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def output(*choices: CompletionOutput, num_cached_tokens: int = 0) -> FinishedRequest:
    return FinishedRequest(0, np.array([1, 2, 3], np.int32), choices, num_cached_tokens)
