"""Bodies that say the same are read once."""

from __future__ import annotations

from typing import Any

import pytest
from batch_rows import chat_row, completion_row, read, read_request
from blendserve.io.batch_input import BatchRequest, RowError


def both(first: bytes, second: bytes) -> tuple[BatchRequest, BatchRequest]:
    one, other = read(first + second)
    assert isinstance(one, BatchRequest)
    assert isinstance(other, BatchRequest)
    return one, other


def test_rows_that_differ_in_their_prompt_share_their_parameters() -> None:
    fields: dict[str, Any] = {"max_tokens": 5, "stop": ["x"], "logit_bias": {"7": 1}, "model": "m"}
    one, other = both(completion_row("a", prompt=[1], **fields), completion_row("b", prompt=[2], **fields))
    assert one.params is other.params
    assert one.params.stop == ("x",)
    assert (one.model, other.model) == ("m", "m")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"max_tokens": 5}, {"max_tokens": 6}),
        ({"temperature": 0}, {"temperature": 1}),
        ({"seed": 1}, {"seed": 2}),
        ({"ignore_eos": True}, {"ignore_eos": False}),
    ],
)
def test_rows_that_say_something_else_have_parameters_of_their_own(first: Any, second: Any) -> None:
    one, other = both(completion_row("a", **first), completion_row("b", **second))
    assert one.params != other.params


def test_what_python_calls_equal_is_not_the_same_in_json() -> None:
    good, bad = read(completion_row("a", max_tokens=1) + completion_row("b", max_tokens=True))
    assert isinstance(good, BatchRequest)
    assert isinstance(bad, RowError)
    assert "body.max_tokens is true" in bad.message


def test_the_same_body_has_other_defaults_under_another_url() -> None:
    chat, completion = both(chat_row("a"), completion_row("b"))
    assert (chat.params.max_tokens, completion.params.max_tokens) == (None, 16)


def test_a_bad_body_is_refused_every_time_with_its_own_line() -> None:
    first, second = read(completion_row("a", top_p=2) + completion_row("b", top_p=2))
    assert isinstance(first, RowError)
    assert isinstance(second, RowError)
    assert second.message == first.message.replace("line 1", "line 2")


def test_a_field_of_the_other_url_is_seen_also_when_it_is_the_prompt() -> None:
    (row,) = read(chat_row(prompt="Hi"))
    assert isinstance(row, RowError)
    assert "body.prompt is a field of /v1/completions" in row.message


def test_fields_of_the_template_are_kept() -> None:
    assert read_request(chat_row(chat_template_kwargs={"think": False})).chat_template_kwargs == {"think": False}
