"""Every field of a body: supported, accepted without effect, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from batch_rows import CHAT, COMPLETIONS, chat_row, completion_row, json_line, read_error, read_request
from blendserve.io import body_fields
from blendserve.sampling_params import SamplingParams

Row = Callable[..., bytes]
BOTH = pytest.mark.parametrize("row", [chat_row, completion_row], ids=["chat", "completion"])


def text_stop(count: int) -> list[str]:
    return [f"stop{i}" for i in range(count)]


@BOTH
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 2}, {"temperature": 2.0}),
        ({"temperature": 0.25}, {"temperature": 0.25}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_p": 1}, {"top_p": 1.0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"presence_penalty": -2}, {"presence_penalty": -2.0}),
        ({"frequency_penalty": 2}, {"frequency_penalty": 2.0}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"logit_bias": {"50256": -100, "7": 0.5}}, {"logit_bias": ((7, 0.5), (50256, -100.0))}),
        ({"min_tokens": 3}, {"min_tokens": 3}),
        ({"min_tokens": 5, "max_tokens": 5}, {"min_tokens": 5, "max_tokens": 5}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": -(2**63)}, {"seed": -(2**63)}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
        ({"n": 128}, {"n": 128}),
        ({"stop": "\n"}, {"stop": ("\n",)}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": text_stop(16)}, {"stop": tuple(text_stop(16))}),
        ({"stop": []}, {"stop": ()}),
        ({"stop_token_ids": [0, 2147483647]}, {"stop_token_ids": (0, 2147483647)}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"max_tokens": 5}),
    ],
)
def test_a_sampling_field_is_read(row: Row, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    default = {"max_tokens": None if row is chat_row else 16}
    assert read_request(row(**fields)).params == SamplingParams(**{**default, **expected})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (chat_row(logprobs=False), None),
        (chat_row(logprobs=False, top_logprobs=0), None),
        (chat_row(logprobs=True), 0),
        (chat_row(logprobs=True, top_logprobs=20), 20),
        (completion_row(logprobs=0), 0),
        (completion_row(logprobs=20), 20),
    ],
)
def test_log_probs_are_asked_for_in_both_published_ways(line: bytes, expected: int | None) -> None:
    assert read_request(line).params.logprobs == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"logprobs": 3}, {"logprobs": 3, "prompt_logprobs": 3}),
        ({"logprobs": 0, "max_tokens": 0}, {"logprobs": 0, "prompt_logprobs": 0, "max_tokens": 0}),
        ({"max_tokens": 0}, {"prompt_logprobs": 0, "max_tokens": 0}),
    ],
)
def test_an_echoed_prompt_has_as_many_log_probs_as_the_answer_and_may_stand_alone(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    request = read_request(completion_row(echo=True, **fields))
    assert request.echo
    assert request.params == SamplingParams(**expected)


NUMBER_0_2 = "a number between 0 and 2"
PENALTY = "a number between -2 and 2"
ALONE = f"at least 1, or come with echo, on a row of {COMPLETIONS}, to get the prompt alone"
TOP_P = "a number above 0 and at most 1"
SEED = "an integer between -9223372036854775808 and 9223372036854775807"
TOP_K = "an integer between -1 and 2147483647"
POSITIVE = "an integer between 1 and 2147483647"
STOP = "a non-empty string or a list of at most 16 non-empty strings"
TOKEN_ID = "a token id, an integer between 0 and 2147483647"


@BOTH
@pytest.mark.parametrize(
    ("fields", "path", "shown", "rule"),
    [
        ({"temperature": "hot"}, "temperature", '"hot"', NUMBER_0_2),
        ({"temperature": "0.5"}, "temperature", '"0.5"', NUMBER_0_2),
        ({"temperature": True}, "temperature", "true", NUMBER_0_2),
        ({"temperature": -0.1}, "temperature", "-0.1", NUMBER_0_2),
        ({"temperature": 2.5}, "temperature", "2.5", NUMBER_0_2),
        ({"top_p": 0}, "top_p", "0", TOP_P),
        ({"top_p": 1.5}, "top_p", "1.5", TOP_P),
        ({"top_k": -2}, "top_k", "-2", TOP_K),
        ({"top_k": 5.0}, "top_k", "5.0", TOP_K),
        ({"seed": 2**63}, "seed", "9223372036854775808", SEED),
        ({"seed": 2**64}, "seed", "1.8446744073709552e+19", SEED),
        ({"seed": "7"}, "seed", '"7"', SEED),
        ({"n": 0}, "n", "0", "an integer between 1 and 128"),
        ({"n": 129}, "n", "129", "an integer between 1 and 128"),
        ({"n": True}, "n", "true", "an integer between 1 and 128"),
        ({"min_p": 1.5}, "min_p", "1.5", "a number between 0 and 1"),
        ({"min_p": -0.1}, "min_p", "-0.1", "a number between 0 and 1"),
        ({"presence_penalty": False}, "presence_penalty", "false", PENALTY),
        ({"presence_penalty": 2.1}, "presence_penalty", "2.1", PENALTY),
        ({"frequency_penalty": "1"}, "frequency_penalty", '"1"', PENALTY),
        ({"repetition_penalty": 0}, "repetition_penalty", "0", "a number above 0 and at most 2147483647"),
        ({"logit_bias": [5]}, "logit_bias", "a list of 1 items", "an object"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "101", "a number between -100 and 100"),
        ({"logit_bias": {"5": True}}, "logit_bias.5", "true", "a number between -100 and 100"),
        ({"min_tokens": -1}, "min_tokens", "-1", "an integer between 0 and 2147483647"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "6", "at most max_tokens, which is 5"),
        ({"max_tokens": 0}, "max_tokens", "0", ALONE),
        ({"max_tokens": -1}, "max_tokens", "-1", POSITIVE),
        ({"max_tokens": 1.0}, "max_tokens", "1.0", POSITIVE),
        ({"max_tokens": 2**31}, "max_tokens", "2147483648", POSITIVE),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "0", ALONE),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "-1", POSITIVE),
        ({"expected_output_tokens": 0}, "expected_output_tokens", "0", POSITIVE),
        ({"stop": 5}, "stop", "5", STOP),
        ({"stop": ""}, "stop", '""', STOP),
        ({"stop": ["a", ""]}, "stop[1]", '""', "a non-empty string"),
        ({"stop": ["a", 5]}, "stop[1]", "5", "a non-empty string"),
        ({"max_repeated_tokens": 1}, "max_repeated_tokens", "1", "at least 2, or 0 for never"),
        ({"stop": text_stop(17)}, "stop", "a list of 17 items", STOP),
        ({"stop": {"a": 1}}, "stop", "an object", STOP),
        ({"stop_token_ids": 5}, "stop_token_ids", "5", "a list of token ids"),
        ({"stop_token_ids": [1, -1]}, "stop_token_ids[1]", "-1", TOKEN_ID),
        ({"stop_token_ids": [True]}, "stop_token_ids[0]", "true", TOKEN_ID),
        ({"ignore_eos": 1}, "ignore_eos", "1", "true or false"),
        ({"model": 5}, "model", "5", "a string"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_the_rule(
    row: Row, fields: dict[str, Any], path: str, shown: str, rule: str
) -> None:
    error = read_error(row(**fields))
    assert (error.code, error.message) == ("invalid_request", f"line 1: body.{path} is {shown}; it must be {rule}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (chat_row(logprobs=5), "body.logprobs is 5; it must be true or false"),
        (completion_row(logprobs=True), "body.logprobs is true; it must be an integer between 0 and 20"),
        (completion_row(logprobs=21), "body.logprobs is 21; it must be an integer between 0 and 20"),
        (
            chat_row(logprobs=True, top_logprobs=21),
            "body.top_logprobs is 21; it must be an integer between 0 and 20",
        ),
        (chat_row(top_logprobs=2), "body.top_logprobs is 2 without log-probs; set body.logprobs to true"),
        (
            chat_row(max_tokens=5, max_completion_tokens=6),
            "body.max_completion_tokens is 6 and body.max_tokens is 5; give one of them",
        ),
        (chat_row(chat_template_kwargs="x"), 'body.chat_template_kwargs is "x"; it must be an object'),
        (
            chat_row(prompt="x"),
            f"body.prompt is a field of {COMPLETIONS}, but this row's url is {CHAT}; remove it",
        ),
        (
            completion_row(messages=[]),
            f"body.messages is a field of {CHAT}, but this row's url is {COMPLETIONS}; remove it",
        ),
        (completion_row(min_tokens=17), "body.min_tokens is 17; it must be at most max_tokens, which is 16"),
        (completion_row(echo=1), "body.echo is 1; it must be true or false"),
        *(
            (
                row(logit_bias={key: 1}),
                f'body.logit_bias has the key "{key}"; every key must be a token id as a string, such as "42"',
            )
            for row in (chat_row, completion_row)
            for key in ("", "a", "-1", "1.0", "\u0661", "2147483648", "9" * 11)
        ),
        (chat_row(temprature=1), 'unknown field body.temprature; did you mean "temperature"?'),
        (completion_row(zzz=False), "unknown field body.zzz; remove it"),
    ],
)
def test_a_body_that_contradicts_itself_or_the_api_is_refused(line: bytes, message: str) -> None:
    error = read_error(line)
    assert (error.code, error.message) == ("invalid_request", f"line 1: {message}")


def all_known_fields() -> list[str]:
    names = {*body_fields._SHARED_FIELDS, *body_fields._WITHOUT_EFFECT, *body_fields._UNSUPPORTED}
    return sorted(names - {"messages", "prompt"})


@BOTH
@pytest.mark.parametrize("name", [*all_known_fields(), "add_special_tokens", "never_heard_of"])
def test_null_is_the_same_as_no_field(row: Row, name: str) -> None:
    assert read_request(row(**{name: None})).params == read_request(row()).params


@BOTH
@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me"},
        {"metadata": {"a": {"b": []}}},
        {"store": True},
        {"service_tier": "flex"},
        {"stream_options": {"include_usage": True}},
        {"parallel_tool_calls": True},
        {"stream": False},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"functions": []},
        {"tool_choice": "none"},
        {"logit_bias": {}},
        {"presence_penalty": 0},
        {"frequency_penalty": 0.0},
        {"repetition_penalty": 1.0},
        {"min_p": 0.0},
        {"min_tokens": 0},
        {"modalities": ["text"]},
        {"best_of": 1},
        {"echo": False},
        {"suffix": ""},
        {"skip_special_tokens": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_field_that_asks_for_nothing_is_accepted(row: Row, fields: dict[str, Any]) -> None:
    assert read_request(row(**fields)).params == read_request(row()).params


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", True),
        ("suffix", "end"),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("functions", [{}]),
        ("response_format", {"type": "json_object"}),
        ("guided_json", {}),
        ("guided_regex", "a*"),
        ("guided_choice", ["a"]),
        ("guided_grammar", "g"),
        ("structured_outputs", {}),
        ("audio", {}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "low"),
        ("bad_words", ["x"]),
        ("skip_special_tokens", False),
        ("include_stop_str_in_output", True),
        ("prompt_embeds", "x"),
        ("use_beam_search", True),
    ],
)
def test_a_field_that_is_not_supported_is_refused_by_name(row: Row, name: str, value: Any) -> None:
    error = read_error(row(**{name: value}))
    assert (error.code, error.custom_id) == ("unsupported", "a")
    assert error.message.startswith(f"line 1: body.{name} is ")
    assert ", which is not supported; leave it out" in error.message


def test_the_refusal_says_which_value_is_accepted() -> None:
    message = "line 1: body.typical_p is 0.1, which is not supported; leave it out or set it to 1"
    assert read_error(chat_row(typical_p=0.1)).message == message


@BOTH
@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("best_of", 2, "set n to the number of answers, ask for logprobs and take the best of them"),
        ("best_of", True, "set n to the number of answers, ask for logprobs and take the best of them"),
        ("prompt_logprobs", 0, f'set echo to true and give logprobs, on a row of "{COMPLETIONS}"'),
    ],
)
def test_a_field_that_another_one_stands_in_for_is_refused_with_that_one(
    row: Row, name: str, value: Any, remedy: str
) -> None:
    error = read_error(row(**{name: value}))
    assert error.code == "unsupported"
    assert error.message.endswith(f", which is not supported; {remedy}")


def test_a_chat_is_not_echoed() -> None:
    error = read_error(chat_row(echo=True))
    assert error.message == "line 1: body.echo is true, which is not supported; leave it out or set it to false"


def test_special_tokens_come_from_the_template_or_the_tokenizer() -> None:
    assert read_request(chat_row(add_special_tokens=False)).custom_id == "a"
    assert read_request(completion_row(add_special_tokens=True)).custom_id == "a"
    assert read_error(chat_row(add_special_tokens=True)).code == "unsupported"
    assert read_error(completion_row(add_special_tokens=False)).code == "unsupported"


@pytest.mark.parametrize("value", [[1, 2, 3], [[1, 2, 3]]])
def test_a_prompt_of_token_ids_is_read(value: Any) -> None:
    prompt = read_request(completion_row(prompt=value)).prompt
    assert isinstance(prompt, np.ndarray)
    assert (prompt.dtype, prompt.tolist()) == (np.int32, [1, 2, 3])


@pytest.mark.parametrize("value", ["Hi", ["Hi"]])
def test_a_prompt_of_text_is_read(value: Any) -> None:
    assert read_request(completion_row(prompt=value)).prompt == "Hi"


PROMPT = "a non-empty string or a non-empty list of token ids"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, f"body.prompt is null; it must be {PROMPT}"),
        ("", f'body.prompt is ""; it must be {PROMPT}'),
        ([], f"body.prompt is an empty list; it must be {PROMPT}"),
        ([""], f'body.prompt[0] is ""; it must be {PROMPT}'),
        ([[]], f"body.prompt[0] is an empty list; it must be {PROMPT}"),
        ([[[1]]], f"body.prompt[0][0] is a list of 1 items; it must be {TOKEN_ID}"),
        (5, f"body.prompt is 5; it must be {PROMPT}"),
        ({"a": 1}, f"body.prompt is an object; it must be {PROMPT}"),
        ([1, -1], f"body.prompt[1] is -1; it must be {TOKEN_ID}"),
        ([1, True], f"body.prompt[1] is true; it must be {TOKEN_ID}"),
        ([1, 2.0], f"body.prompt[1] is 2.0; it must be {TOKEN_ID}"),
        ([1, 2**31], f"body.prompt[1] is 2147483648; it must be {TOKEN_ID}"),
        (["a", "b"], "body.prompt holds 2 prompts; give each a line of its own"),
        ([[1], [2], [3]], "body.prompt holds 3 prompts; give each a line of its own"),
    ],
)
def test_a_bad_prompt_is_refused(value: Any, message: str) -> None:
    error = read_error(completion_row(prompt=value))
    assert (error.code, error.message) == ("invalid_request", f"line 1: {message}")


def test_a_missing_prompt_or_messages_is_named() -> None:
    row = {"custom_id": "a", "url": COMPLETIONS, "body": {}}
    assert read_error(json_line(row)).message == f"line 1: body.prompt is missing; it must be {PROMPT}"
    row["url"] = CHAT
    message = "line 1: body.messages is missing; it must be a non-empty list of messages"
    assert read_error(json_line(row)).message == message
