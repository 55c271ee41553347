from __future__ import annotations

from typing import Any

import pytest
from batch_rows import chat_row, read_error, read_request


def test_roles_and_names_are_kept_and_developer_means_system() -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "system", "content": ""},
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "Hello", "tool_calls": [], "refusal": None, "audio": None},
    ]
    assert read_request(chat_row(messages=messages)).messages == (
        {"role": "system", "content": "Be kind."},
        {"role": "system", "content": ""},
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "Hello"},
    )


def test_text_parts_are_joined_without_anything_between() -> None:
    parts = [{"type": "text", "text": "One, "}, {"type": "text", "text": "two"}]
    messages = read_request(chat_row(messages=[{"role": "user", "content": parts}])).messages
    assert messages == ({"role": "user", "content": "One, two"},)


ROLES = '"system", "developer", "user" or "assistant"'
CONTENT = "a string or a non-empty list of text parts"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "body.messages is an empty list; it must be a non-empty list of messages"),
        ("Hi", 'body.messages is "Hi"; it must be a non-empty list of messages'),
        (["Hi"], 'body.messages[0] is "Hi"; it must be an object'),
    ],
)
def test_messages_must_be_a_list_of_objects(messages: Any, message: str) -> None:
    error = read_error(chat_row(messages=messages))
    assert (error.code, error.message) == ("invalid_request", f"line 1: {message}")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"content": "x"}, f".role is missing; it must be {ROLES}"),
        ({"role": "king", "content": "x"}, f'.role is "king"; it must be {ROLES}'),
        ({"role": ["user"], "content": "x"}, f".role is a list of 1 items; it must be {ROLES}"),
        ({"role": "user"}, f".content is missing; it must be {CONTENT}"),
        ({"role": "assistant", "content": None}, f".content is null; it must be {CONTENT}"),
        ({"role": "user", "content": 5}, f".content is 5; it must be {CONTENT}"),
        ({"role": "user", "content": []}, f".content is an empty list; it must be {CONTENT}"),
        ({"role": "user", "content": ["x"]}, '.content[0] is "x"; it must be an object'),
        ({"role": "user", "content": [{"text": "x"}]}, '.content[0].type is missing; it must be "text"'),
        ({"role": "user", "content": [{"type": 5}]}, '.content[0].type is 5; it must be "text"'),
        ({"role": "user", "content": [{"type": "text"}]}, ".content[0].text is missing; it must be a string"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, ".content[0].text is 5; it must be a string"),
        ({"role": "user", "content": "x", "name": 5}, ".name is 5; it must be a string"),
    ],
)
def test_a_bad_message_is_refused_with_its_path(bad: dict[str, Any], message: str) -> None:
    error = read_error(
        chat_row(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}, bad])
    )
    assert (error.code, error.message) == ("invalid_request", f"line 1: body.messages[2]{message}")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"role": "user", "content": "x", "mood": "sunny"}, "body.messages[0].mood; remove it"),
        (
            {"role": "user", "content": [{"type": "text", "text": "x", "size": 1}]},
            "body.messages[0].content[0].size; remove it",
        ),
    ],
)
def test_an_unknown_field_of_a_message_is_refused(bad: dict[str, Any], message: str) -> None:
    error = read_error(chat_row(messages=[bad]))
    assert (error.code, error.message) == ("invalid_request", f"line 1: unknown field {message}")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"role": "tool", "content": "x"}, f'role is "tool", which is not supported; use {ROLES}'),
        ({"role": "function", "content": "x"}, f'role is "function", which is not supported; use {ROLES}'),
        (
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            "tool_calls is a list of 1 items, which is not supported; leave it out",
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f"}},
            "function_call is an object, which is not supported; leave it out",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            'content[0].type is "image_url", which is not supported; use {"type": "text", "text": ...}',
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]},
            'content[1].type is "input_audio", which is not supported; use {"type": "text", "text": ...}',
        ),
    ],
)
def test_what_a_message_may_not_have_yet_is_refused_by_name(bad: dict[str, Any], message: str) -> None:
    error = read_error(chat_row(messages=[bad]))
    assert (error.code, error.message) == ("unsupported", f"line 1: body.messages[0].{message}")
