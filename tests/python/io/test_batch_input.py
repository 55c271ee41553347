from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from batch_rows import CHAT, COMPLETIONS, chat_row, completion_row, json_line, read, read_error, read_request
from blendserve.errors import RequestError, UserError
from blendserve.io import batch_input
from blendserve.io.batch_input import BatchRequest, RowError, read_requests, require_rows, row_ids
from blendserve.io.lines import MAX_LINE_BYTES
from blendserve.sampling_params import SamplingParams
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st


def test_a_chat_row_becomes_a_request_that_may_fill_the_context() -> None:
    request = read_request(chat_row("x", model="m", chat_template_kwargs={"think": False}, expected_output_tokens=9))
    assert request == BatchRequest(
        line=1,
        row_id=request.row_id,
        custom_id="x",
        url=CHAT,
        model="m",
        prompt=None,
        messages=({"role": "user", "content": "Hi"},),
        chat_template_kwargs={"think": False},
        echo=False,
        params=SamplingParams(max_tokens=None),
        expected_output_tokens=9,
    )


def test_a_completion_row_becomes_a_request_of_16_tokens() -> None:
    request = read_request(completion_row("x"))
    assert request == BatchRequest(
        line=1,
        row_id=request.row_id,
        custom_id="x",
        url=COMPLETIONS,
        model=None,
        prompt="Hi",
        messages=None,
        chat_template_kwargs={},
        echo=False,
        params=SamplingParams(max_tokens=16),
        expected_output_tokens=None,
    )


def test_an_empty_model_name_is_a_name() -> None:
    assert read_request(chat_row(model="")).model == ""


def test_method_may_be_missing() -> None:
    row = json.loads(chat_row())
    del row["method"]
    assert read_request(json_line(row)).custom_id == "a"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"custom_id": None}, "line 1: custom_id is null; it must be a non-empty string, another one on every line"),
        ({"custom_id": 7}, "line 1: custom_id is 7; it must be a non-empty string, another one on every line"),
        ({"custom_id": ""}, 'line 1: custom_id is ""; it must be a non-empty string, another one on every line'),
        ({"method": "GET"}, 'line 1: method is "GET"; it must be "POST"'),
        ({"url": None}, 'line 1: url is null; it must be "/v1/chat/completions" or "/v1/completions"'),
        (
            {"url": "/v1/embeddings"},
            'line 1: url is "/v1/embeddings"; it must be "/v1/chat/completions" or "/v1/completions"',
        ),
        (
            {"url": ["/v1/completions"]},
            "line 1: url is a list of 1 items; it must be " + f'"{CHAT}" or "{COMPLETIONS}"',
        ),
        ({"body": None}, "line 1: body is null; it must be an object"),
        ({"body": "text"}, 'line 1: body is "text"; it must be an object'),
        ({"custom-id": "b"}, 'line 1: unknown field custom-id; did you mean "custom_id"?'),
        ({"weight": 1}, "line 1: unknown field weight; remove it"),
    ],
)
def test_a_bad_field_of_the_row_is_named(row: dict[str, object], message: str) -> None:
    error = read_error(json_line({**json.loads(chat_row()), **row}))
    assert (error.code, error.message) == ("invalid_request", message)
    assert error.custom_id == (None if "custom_id" in row else "a")


@pytest.mark.parametrize("name", ["custom_id", "url", "body"])
def test_a_missing_field_of_the_row_is_named(name: str) -> None:
    row = json.loads(chat_row())
    del row[name]
    assert read_error(json_line(row)).message.startswith(f"line 1: {name} is missing; it must be ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "not valid JSON at character 1: "),
        (b'{"custom_id": "a"', "not valid JSON at character "),
        (b'{"custom_id": NaN}', "not valid JSON at character 15: "),
        (b'{"custom_id": -Infinity}', "not valid JSON at character "),
        (b'{"custom_id": 1e999}', "not valid JSON at character 15: "),
        (b'{"custom_id": "\\ud800"}', "not valid JSON at character "),
        (b"{} {}", "not valid JSON at character 4: "),
        (b"[" * 100_000 + b"]" * 100_000, "not valid JSON at character "),
        (b'{"a":' * 100_000, "not valid JSON at character "),
    ],
)
def test_a_line_that_is_not_json_is_an_error_with_its_place(content: bytes, reason: str) -> None:
    error = read_error(content)
    assert (error.code, error.custom_id) == ("invalid_json", None)
    assert error.message.startswith(f"line 1: {reason}")
    remedy = "is not JSON: write a number" if re.search(b"NaN|Infinity", content) else "write one JSON object a line"
    assert error.message.endswith(remedy)


@pytest.mark.parametrize(
    ("content", "shown"), [(b"[1, 2]", "a list of 2 items"), (b"3", "3"), (b'"x"', '"x"'), (b"null", "null")]
)
def test_json_that_is_no_object_is_an_error(content: bytes, shown: str) -> None:
    error = read_error(content)
    assert error.code == "invalid_request"
    assert error.message == f"line 1: the row is {shown}; it must be an object with custom_id, method, url and body"


def test_invalid_utf8_is_an_error_with_the_byte() -> None:
    error = read_error(b'{"custom_id": "\xff"}')
    assert error.code == "invalid_utf8"
    assert error.message == "line 1: byte 16 (0xff) is not valid UTF-8; save the file as UTF-8"


def test_a_line_that_is_too_long_is_an_error_and_the_next_line_is_answered() -> None:
    long, good = read(chat_row("long", user="x" * MAX_LINE_BYTES) + chat_row("good"))
    assert isinstance(long, RowError)
    assert (long.line, long.code, long.custom_id) == (1, "line_too_long", None)
    assert long.message == "line 1: the line is longer than 33554432 bytes (32 MiB); shorten the prompt"
    assert isinstance(good, BatchRequest)
    assert (good.line, good.custom_id) == (2, "good")


def test_of_repeated_custom_ids_the_first_runs() -> None:
    first, other, second, third = read(chat_row("a") + chat_row("b") + completion_row("a") + b"\n" + chat_row("a"))
    assert isinstance(first, BatchRequest)
    assert isinstance(other, BatchRequest)
    for line, error in ((3, second), (5, third)):
        assert isinstance(error, RowError)
        assert (error.line, error.custom_id, error.code) == (line, "a", "duplicate_custom_id")
        assert error.message == f'line {line}: custom_id "a" stands on an earlier line already; give every line its own'


def test_good_rows_beside_bad_ones_are_read() -> None:
    rows = read(b"oops\n" + chat_row("a") + chat_row("b", top_p="hot") + completion_row("c") + b"\xff\n")
    assert [type(row) for row in rows] == [RowError, BatchRequest, RowError, BatchRequest, RowError]
    assert [row.custom_id for row in rows] == [None, "a", "b", "c", None]


def test_a_message_shows_only_the_start_of_a_long_value() -> None:
    error = read_error(chat_row(temperature="x" * 1_000_000))
    assert error.message == f'line 1: body.temperature is "{"x" * 40}"…; it must be a number between 0 and 2'
    assert len(read_error(chat_row("a", **{"y" * 1_000_000: 1})).message) < 100


def test_a_later_refusal_keeps_line_and_ids() -> None:
    request = read(b"\n" + chat_row("a"))[0]
    assert isinstance(request, BatchRequest)
    error = request.failed(RequestError("the prompt is too long", code="context_length_exceeded"))
    expected = RowError(2, request.row_id, "a", "context_length_exceeded", "line 2: the prompt is too long")
    assert error == expected


def test_an_input_without_rows_is_refused_and_other_rows_pass_through() -> None:
    with pytest.raises(UserError, match=r"input in\.jsonl has no requests"):
        require_rows(iter([]), "in.jsonl")
    rows = read(chat_row("a") + chat_row("b"))
    assert list(require_rows(iter(rows), "in.jsonl")) == rows


def test_row_ids_name_the_first_row_of_every_custom_id() -> None:
    rows = read(chat_row("a") + b"oops\n" + completion_row("a") + chat_row("b", n=0))
    assert row_ids(rows) == {"a": rows[0].row_id, "b": rows[3].row_id}


on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def mutated_rows() -> st.SearchStrategy[bytes]:
    """Valid rows with a few bytes overwritten: they get further into the checks than noise does."""

    def overwrite(row: bytes, edits: list[tuple[int, int]]) -> bytes:
        content = bytearray(row)
        for place, byte in edits:
            content[place % len(content)] = byte
        return bytes(content)

    edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)
    row = st.sampled_from([chat_row(n=2, stop=["a"]), completion_row(prompt=[1, 2], logprobs=1)])
    return st.builds(overwrite, row, edits)


def json_values() -> st.SearchStrategy[object]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )


def assert_one_item_for_every_line_that_is_not_blank(content: bytes) -> None:
    first, *others = content.split(b"\n")
    lines = [first.removeprefix(b"\xef\xbb\xbf"), *others]
    expected = [number for number, line in enumerate(lines, 1) if line.strip()]
    assert [row.line for row in read(content)] == expected


@on_a_busy_machine
@given(st.binary(max_size=300))
@example(b"\r\n \x0b\x0c\n\xef\xbb\xbf\n{}")
def test_any_bytes_give_one_item_for_every_line_that_is_not_blank(content: bytes) -> None:
    assert_one_item_for_every_line_that_is_not_blank(content)


@on_a_busy_machine
@given(st.lists(mutated_rows(), max_size=4).map(b"".join))
def test_damaged_rows_give_one_item_for_every_line_that_is_not_blank(content: bytes) -> None:
    assert_one_item_for_every_line_that_is_not_blank(content)


def assert_read_as_without_the_cut(content: bytes) -> None:
    """Rows whose token ids are cut out of the line, beside rows that are parsed whole."""
    with patch.object(batch_input, "cut_token_ids", return_value=None):
        expected = read(content)
    assert [comparable(row) for row in read(content)] == [comparable(row) for row in expected]


def comparable(row: BatchRequest | RowError) -> Any:
    if isinstance(row, BatchRequest) and isinstance(row.prompt, np.ndarray):
        assert row.prompt.dtype == np.int32
        return replace(row, prompt=row.prompt.tolist())  # type: ignore[arg-type]
    return row


@pytest.mark.parametrize(
    "body",
    [
        '"prompt":[1,2]',
        '"prompt" : [ 1 , 2 ] , "echo" : true',
        '"prompt":null',
        '"prompt":[[1,2]]',
        '"prompt":[1],"prompt":[2]',
        '"prompt":"text","metadata":{"a":[1]}',
        '"metadata":{"prompt":[1]}',
        '"metadata":{"prompt":[1]},"pr\\u006fmpt":null',
        '"metadata":{"prompt":[1]},"pr\\u006fmpt":"text"',
        '"user":"prompt","prompt":[1]',
        '"user":"a"prompt":[1]',
        '"prompt":[1],"max_tokens":x',
        '"prompt":[1],"max_tokens":0',
        '"prompt":[1],"messages":[]',
    ],
)
@pytest.mark.parametrize("url", [CHAT, COMPLETIONS])
def test_it_makes_no_difference_how_token_ids_are_parsed(body: str, url: str) -> None:
    line = f'{{"custom_id":"a","url":"{url}","body":{{{body}}}}}\n'
    other_places = [
        f'{{"custom_id":"b","url":"{url}","prompt":[1],"body":{{}}}}\n',
        f'{{"custom_id":"c","url":"{url}","body":{{{body}}},"body":{{}}}}\n',
        f'{{"custom_id":"d","url":"{url}","body":[{{{body}}}]}}\n',
        f"[{{{body}}}]\n",
    ]
    assert_read_as_without_the_cut("".join([line, *other_places]).encode())


@on_a_busy_machine
@given(st.lists(mutated_rows(), max_size=4).map(b"".join))
def test_it_makes_no_difference_to_damaged_rows(content: bytes) -> None:
    assert_read_as_without_the_cut(content)


FIELDS = ["prompt", "messages", "stop", "n", "seed", "top_k", "logprobs", "max_tokens", "tools", "stream", "nonsense"]


@on_a_busy_machine
@given(st.sampled_from([chat_row, completion_row]), st.dictionaries(st.sampled_from(FIELDS), json_values(), max_size=4))
def test_any_json_in_the_body_gives_one_item(row: object, fields: dict[str, object]) -> None:
    assert callable(row)
    assert len(list(read(row(**fields)))) == 1


def test_rows_are_read_as_they_are_asked_for() -> None:
    class Endless:
        def readline(self, _size: int) -> bytes:
            return b"x\n"

    rows = read_requests(Endless())  # type: ignore[arg-type]
    assert [next(rows).line for _ in range(3)] == [1, 2, 3]
