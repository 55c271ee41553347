"""The rows of an input file, each a request or the reason why it is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from blendserve._core import cut_token_ids
from blendserve.errors import RequestError, UserError
from blendserve.io.body_fields import CHAT_URL, COMPLETIONS_URL, Url
from blendserve.io.body_settings import read_settings
from blendserve.io.fields import JsonObject, refused, shown, unknown_field
from blendserve.io.lines import MAX_LINE_BYTES, Line, read_lines
from blendserve.io.messages import read_messages
from blendserve.io.prompt import read_prompt
from blendserve.sampling_params import SamplingParams

__all__ = ["BatchRequest", "RowError", "read_requests", "require_rows", "row_ids"]

_ROW_FIELDS = ("custom_id", "method", "url", "body")
_CUSTOM_ID_DIGEST_BYTES = 12


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that gets no answer.

    line: 1-based line of the input.
    row_id: id of the result row, a hash of the line.
    custom_id: None where the line has no usable one.
    code: invalid_json, invalid_utf8, line_too_long, duplicate_custom_id, unsupported or invalid_request; the engine
        may add its own.
    message: names line, field, value and remedy.
    """

    line: int
    row_id: str
    custom_id: str | None
    code: str
    message: str


@dataclass(slots=True)  # frozen it would take four times as long to make
class BatchRequest:
    """One valid row. A chat request has `messages`, a plain completion has `prompt`, the other one is None.

    line, row_id: as in `RowError`.
    model: the name to echo, None if the row gives none.
    prompt: text or token ids, int32 [p], not empty.
    messages: each with role (system, user or assistant), content (a string) and, where given, name.
    chat_template_kwargs: variables for the chat template.
    echo: whether a completion begins with its prompt.
    expected_output_tokens: a hint for the plan, never a limit.
    """

    line: int
    row_id: str
    custom_id: str
    url: Url
    model: str | None
    prompt: str | NDArray[np.int32] | None
    messages: tuple[Mapping[str, Any], ...] | None
    chat_template_kwargs: Mapping[str, Any]
    echo: bool
    params: SamplingParams
    expected_output_tokens: int | None

    def failed(self, error: RequestError) -> RowError:
        """The row when a later stage refuses the request."""
        return RowError(self.line, self.row_id, self.custom_id, error.code, f"line {self.line}: {error}")


def read_requests(source: BinaryIO, job_key: str = "") -> Iterator[BatchRequest | RowError]:
    """Yields one item for every line that is not blank; bad lines never raise.

    `job_key` names what else decides the answers (model, seed): with another one every row has another id.

    Holds one line at a time and 12 bytes of hash per custom_id, by which a repeated custom_id is refused.
    """
    seen: set[bytes] = set()
    for line in read_lines(source, job_key):
        yield _read_row(line, seen)


def require_rows(rows: Iterator[BatchRequest | RowError], path: str) -> Iterator[BatchRequest | RowError]:
    """The same rows; raises `UserError` at once if there are none."""
    first = next(rows, None)
    if first is None:
        raise UserError(
            f"input {path} has no requests: it is empty or all its lines are blank; give one JSON object a line"
        )
    return chain((first,), rows)


def row_ids(rows: Iterable[BatchRequest | RowError]) -> dict[str, str]:
    """The row id of every custom_id of the input, bad rows included: the job that a results file must belong to."""
    ids: dict[str, str] = {}
    for row in rows:
        if row.custom_id is not None:
            ids.setdefault(row.custom_id, row.row_id)
    return ids


def _read_row(line: Line, seen: set[bytes]) -> BatchRequest | RowError:
    custom_id = None
    try:
        row = JsonObject("", _parse(line))
        custom_id = _read_custom_id(row)
        _refuse_repeated(custom_id, seen)
        return _read_request(line, custom_id, row)
    except RequestError as error:
        return RowError(line.number, line.row_id, custom_id, error.code, f"line {line.number}: {error}")


def _parse(line: Line) -> dict[str, Any]:
    if line.content is None:
        raise RequestError(
            f"the line is longer than {MAX_LINE_BYTES} bytes (32 MiB); shorten the prompt", code="line_too_long"
        )
    cut = cut_token_ids(line.content, "prompt")
    row = None if cut is None else _parse_around(*cut)
    return _parse_whole(line.content) if row is None else row


def _parse_around(content: bytes, prompt: NDArray[np.int32]) -> dict[str, Any] | None:
    """The row of a line from which `prompt` was cut; None if that is not the prompt of a completion."""
    try:
        row = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or row.get("url") != COMPLETIONS_URL:
        return None
    body = row.get("body")
    if not isinstance(body, dict) or "prompt" not in body:
        return None
    body["prompt"] = prompt
    return row


def _parse_whole(content: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _invalid(content, error) from None
    if not isinstance(row, dict):
        raise refused("the row", row, "an object with custom_id, method, url and body")
    return row


def _invalid(content: bytes, error: orjson.JSONDecodeError) -> RequestError:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as bad:
        reason = f"byte {bad.start + 1} (0x{content[bad.start]:02x}) is not valid UTF-8; save the file as UTF-8"
        return RequestError(reason, code="invalid_utf8")
    not_json = re.search(rb"\b(NaN|Infinity)\b", content)
    remedy = f"{not_json[1].decode()} is not JSON: write a number" if not_json else "write one JSON object a line"
    return RequestError(f"not valid JSON at character {error.colno}: {error.msg}; {remedy}", code="invalid_json")


def _read_custom_id(row: JsonObject) -> str:
    rule = "a non-empty string, another one on every line"
    custom_id = row.required("custom_id", rule)
    if not isinstance(custom_id, str) or not custom_id:
        raise refused("custom_id", custom_id, rule)
    return custom_id


def _refuse_repeated(custom_id: str, seen: set[bytes]) -> None:
    digest = blake2b(custom_id.encode(), digest_size=_CUSTOM_ID_DIGEST_BYTES).digest()
    if digest in seen:
        message = f"custom_id {shown(custom_id)} stands on an earlier line already; give every line its own"
        raise RequestError(message, code="duplicate_custom_id", param="custom_id")
    seen.add(digest)


def _read_request(line: Line, custom_id: str, row: JsonObject) -> BatchRequest:
    for name, value in row.fields.items():
        if value is not None and name not in _ROW_FIELDS:
            raise unknown_field("", name, _ROW_FIELDS)
    if row.get("method") not in (None, "POST"):
        raise refused("method", row.get("method"), '"POST"')
    url = _read_url(row)
    body = JsonObject.check("body", row.required("body", "an object"))
    settings = read_settings(body, url)
    chat = url == CHAT_URL
    return BatchRequest(
        line=line.number,
        row_id=line.row_id,
        custom_id=custom_id,
        url=url,
        model=settings.model,
        prompt=None if chat else read_prompt(body),
        messages=read_messages(body) if chat else None,
        chat_template_kwargs=settings.chat_template_kwargs,
        echo=settings.echo,
        params=settings.params,
        expected_output_tokens=settings.expected_output_tokens,
    )


def _read_url(row: JsonObject) -> Url:
    rule = f'"{CHAT_URL}" or "{COMPLETIONS_URL}"'
    url = row.required("url", rule)
    if url == CHAT_URL:
        return CHAT_URL
    if url == COMPLETIONS_URL:
        return COMPLETIONS_URL
    raise refused("url", url, rule)
