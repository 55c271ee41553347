"""Rows that cannot be answered: each becomes one error row, and the rows beside it are answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import CHAT, COMPLETIONS, Job, chat, completion, line
from tiny_models import VOCAB_SIZE

BODY = {"prompt": "Hi", "max_tokens": 2}


def without(row: bytes, name: str) -> bytes:
    return json.dumps({key: value for key, value in json.loads(row).items() if key != name}).encode() + b"\n"


def messages(custom_id: str, value: Any) -> bytes:
    return line(custom_id, {"messages": value}, url=CHAT)


# Case -> the line, the error's code, and what its message says after "line N: ".
BAD_ROWS: dict[str, tuple[bytes, str, str]] = {
    "not JSON": (
        b'{"custom_id": "x", \n',
        "invalid_json",
        r"not valid JSON at character \d+: .*one JSON object a line",
    ),
    "not JSON at all": (b"hello\n", "invalid_json", "not valid JSON at character 1"),
    "an array": (b"[1, 2]\n", "invalid_request", "the row is a list of 2 items; it must be an object with custom_id"),
    "a number": (b"7\n", "invalid_request", "the row is 7; it must be an object"),
    "null": (b"null\n", "invalid_request", "the row is null; it must be an object"),
    "invalid UTF-8": (
        b'{"custom_id": "\xff"}\n',
        "invalid_utf8",
        r"byte 16 \(0xff\) is not valid UTF-8; save the file",
    ),
    "a number that is not JSON": (
        b'{"custom_id": NaN}\n',
        "invalid_json",
        "not valid JSON at character .*; NaN is not JSON: write a number",
    ),
    "a lone surrogate": (rb'{"custom_id": "\ud800"}' + b"\n", "invalid_json", "not valid JSON .*surrogate"),
    "no custom_id": (without(completion("x"), "custom_id"), "invalid_request", "custom_id is missing; it must be"),
    "a numeric custom_id": (line(7, BODY), "invalid_request", "custom_id is 7; it must be a non-empty string"),  # type: ignore[arg-type]
    "an empty custom_id": (line("", BODY), "invalid_request", 'custom_id is ""; it must be a non-empty string'),
    "an unknown url": (
        line("unknown url", BODY, url="/v1/embeddings"),
        "invalid_request",
        f'url is "/v1/embeddings"; it must be "{CHAT}" or "{COMPLETIONS}"',
    ),
    "no url": (without(completion("no url"), "url"), "invalid_request", "url is missing; it must be"),
    "another method": (line("method", BODY, method="GET"), "invalid_request", 'method is "GET"; it must be "POST"'),
    "no body": (without(completion("no body"), "body"), "invalid_request", "body is missing; it must be an object"),
    "a body of text": (line("text body", "Hi"), "invalid_request", 'body is "Hi"; it must be an object'),  # type: ignore[arg-type]
    "an unknown field of the row": (
        line("row field", BODY, priority=1),
        "invalid_request",
        "unknown field priority; remove it",
    ),
    "an unknown field of the body": (
        completion("typo", temprature=0.5),
        "invalid_request",
        r'unknown field body\.temprature; did you mean "temperature"\?',
    ),
    "a field of the other url": (
        completion("other url", messages=[]),
        "invalid_request",
        f"body.messages is a field of {CHAT}, but this row's url is {COMPLETIONS}; remove it",
    ),
    "a temperature of text": (
        completion("temperature", temperature="hot"),
        "invalid_request",
        r'body\.temperature is "hot"; it must be a number between 0 and 2',
    ),
    "a temperature of 3": (
        completion("too hot", temperature=3),
        "invalid_request",
        r"body\.temperature is 3; .*0 and 2",
    ),
    "a seed of text": (completion("seed", seed="7"), "invalid_request", r'body\.seed is "7"; it must be an integer'),
    "n of 0": (completion("n", n=0), "invalid_request", r"body\.n is 0; it must be an integer between 1 and 128"),
    "max_tokens of 0": (
        completion("zero", max_tokens=0),
        "invalid_request",
        r"body\.max_tokens is 0; it must be at least 1, or come with echo, on a row of /v1/completions",
    ),
    "a chat without tokens": (chat("no tokens", max_tokens=0), "invalid_request", r"body\.max_tokens is 0; .*echo"),
    "fewer tokens than at least": (
        completion("at least", min_tokens=5),
        "invalid_request",
        r"body\.min_tokens is 5; it must be at most max_tokens, which is 4",
    ),
    "a probability of 2": (completion("min_p", min_p=2), "invalid_request", r"body\.min_p is 2; .*between 0 and 1"),
    "a large penalty": (
        completion("penalty", presence_penalty=3),
        "invalid_request",
        r"body\.presence_penalty is 3; it must be a number between -2 and 2",
    ),
    "a repetition penalty of 0": (
        completion("repetition", repetition_penalty=0),
        "invalid_request",
        r"body\.repetition_penalty is 0; it must be a number above 0",
    ),
    "a bias of text": (
        completion("bias of text", logit_bias={"hello": 1}),
        "invalid_request",
        r'body\.logit_bias has the key "hello"; every key must be a token id as a string, such as "42"',
    ),
    "a large bias": (
        completion("large bias", logit_bias={"7": 101}),
        "invalid_request",
        r"body\.logit_bias\.7 is 101; it must be a number between -100 and 100",
    ),
    "a bias past the vocabulary": (
        completion("bias id", logit_bias={"5": 1, str(VOCAB_SIZE): 1}),
        "token_id_out_of_range",
        f"token id {VOCAB_SIZE} in .*logit_bias is out of range; this model's vocabulary has ids 0 to {VOCAB_SIZE - 1}",
    ),
    "an echoed chat": (chat("echo", echo=True), "unsupported", r"body\.echo is true, .*set it to false"),
    "best_of": (
        completion("best", best_of=3),
        "unsupported",
        r"body\.best_of is 3, .*; set n .* take the best of them",
    ),
    "an echoed prompt longer than the context": (
        completion("long echo", [5] * 257, echo=True, max_tokens=0),
        "context_length_exceeded",
        "the prompt has 257 tokens, and the model's context of 256 must hold it; shorten the prompt",
    ),
    "negative max_tokens": (completion("negative", max_tokens=-5), "invalid_request", r"body\.max_tokens is -5; "),
    "fractional max_tokens": (completion("fraction", max_tokens=1.5), "invalid_request", r"body\.max_tokens is 1\.5; "),
    "two limits": (
        completion("two limits", max_completion_tokens=9),
        "invalid_request",
        r"body\.max_completion_tokens is 9 and body\.max_tokens is 4; give one of them",
    ),
    "stop as a number": (
        completion("stop", stop=3),
        "invalid_request",
        r"body\.stop is 3; it must be a non-empty string or a list",
    ),
    "an empty stop string": (
        completion("empty stop", stop=[""]),
        "invalid_request",
        r"body\.stop\[0\] is \"\"; it must be a non-empty string",
    ),
    "tools": (chat("tools", tools=[{"type": "function"}]), "unsupported", r"body\.tools is a list .*leave it out"),
    "a JSON schema": (
        chat("schema", response_format={"type": "json_schema"}),
        "unsupported",
        r"body\.response_format is an object, which is not supported; leave it out",
    ),
    "streaming": (
        chat("stream", stream=True),
        "unsupported",
        r"body\.stream is true, .*leave it out or set it to false",
    ),
    "no messages": (
        messages("no messages", None),
        "invalid_request",
        r"body\.messages is null; it must be a non-empty",
    ),
    "empty messages": (
        messages("empty", []),
        "invalid_request",
        r"body\.messages is an empty list; it must be a non-empty",
    ),
    "a message of text": (
        messages("m", ["Hi"]),
        "invalid_request",
        r'body\.messages\[0\] is "Hi"; it must be an object',
    ),
    "an unknown role": (
        messages("role", [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}]),
        "invalid_request",
        r'body\.messages\[1\]\.role is "robot"; it must be "system", "developer", "user" or "assistant"',
    ),
    "a tool's message": (
        messages("tool", [{"role": "tool", "content": "a"}]),
        "unsupported",
        r'body\.messages\[0\]\.role is "tool", which is not supported',
    ),
    "a picture": (
        messages("image", [{"role": "user", "content": [{"type": "image_url"}]}]),
        "unsupported",
        r'body\.messages\[0\]\.content\[0\]\.type is "image_url", which is not supported',
    ),
    "an empty prompt": (
        completion("empty prompt", ""),
        "invalid_request",
        r'body\.prompt is ""; it must be a non-empty',
    ),
    "two prompts": (
        completion("two", ["a", "b"]),
        "invalid_request",
        r"body\.prompt holds 2 prompts; give each a line",
    ),
    "a prompt as long as the context": (
        completion("long", [5] * 256),
        "context_length_exceeded",
        "the prompt has 256 tokens, and the model's context of 256 .*; shorten the prompt",
    ),
    "a long text": (completion("long text", "ab " * 4000), "context_length_exceeded", r"the prompt has \d+ tokens, "),
    "a long chat": (chat("long chat", "ab " * 4000), "context_length_exceeded", r"the prompt has \d+ tokens, "),
    "a token id past the vocabulary": (
        completion("vocabulary", [5, VOCAB_SIZE]),
        "token_id_out_of_range",
        f"token id {VOCAB_SIZE} in .*prompt.* is out of range; this model's vocabulary has ids 0 to {VOCAB_SIZE - 1}",
    ),
    "a negative token id": (completion("minus", [5, -1]), "invalid_request", r"body\.prompt\[1\] is -1; .*a token id"),
    "a huge token id": (
        completion("huge", [2**40]),
        "invalid_request",
        r"body\.prompt\[0\] is \d+; it must be a token id",
    ),
    "a stop token past the vocabulary": (
        completion("stop id", stop_token_ids=[VOCAB_SIZE]),
        "token_id_out_of_range",
        f"token id {VOCAB_SIZE} in .*stop_token_ids",
    ),
    "what the chat template refuses": (
        chat("template", chat_template_kwargs={"messages": []}),
        "invalid_request",
        "chat_template_kwargs must not set messages: remove it",
    ),
    "a custom_id again": (completion("good 0"), "duplicate_custom_id", 'custom_id "good 0" stands on an earlier line'),
}


@pytest.fixture(scope="module")
def mixed_job(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Job:
    """Every bad row, with a good row before it and a blank line behind it: case i is in line 3 i + 2."""
    job = Job(tmp_path_factory.mktemp("mixed"), model_dir)
    job.write(*(completion(f"good {i}") + bad + b" \t\n" for i, (bad, _, _) in enumerate(BAD_ROWS.values())))
    job.run(code=1)
    return job


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_becomes_an_error_row_that_names_line_field_and_remedy(case: str, mixed_job: Job) -> None:
    number = 3 * list(BAD_ROWS).index(case) + 2
    _, code, message = BAD_ROWS[case]
    (error,) = (
        row["error"]
        for row in mixed_job.rows
        if row["error"] is not None and row["error"]["message"].startswith(f"line {number}: ")
    )
    assert error["code"] == code
    assert re.match(f"line {number}: {message}", error["message"]), error["message"]


def test_an_error_row_has_the_custom_id_if_the_line_has_a_usable_one(mixed_job: Job) -> None:
    ids = [row["custom_id"] for row in mixed_job.rows if row["error"] is not None]
    expected = []
    for case, (bad, _, _) in BAD_ROWS.items():
        try:
            custom_id = json.loads(bad)["custom_id"]
        except (ValueError, KeyError, TypeError):
            custom_id = None
        usable = isinstance(custom_id, str) and custom_id and case != "a lone surrogate"
        expected.append(custom_id if usable else None)
    assert sorted(ids, key=str) == sorted(expected, key=str)


def test_an_error_row_has_no_response(mixed_job: Job) -> None:
    for row in mixed_job.rows:
        assert row.keys() == {"id", "custom_id", "response", "error"}
        if row["error"] is not None:
            assert row["response"] is None
            assert row["error"].keys() == {"code", "message"}


def test_good_rows_beside_bad_ones_are_all_answered(mixed_job: Job) -> None:
    answered = {row["custom_id"]: row for row in mixed_job.rows if row["error"] is None}
    assert set(answered) == {f"good {i}" for i in range(len(BAD_ROWS))}
    texts = {row["response"]["body"]["choices"][0]["text"] for row in answered.values()}
    assert len(texts) == 1


def test_there_is_one_row_for_every_line_that_is_not_blank(mixed_job: Job) -> None:
    assert len(mixed_job.rows) == 2 * len(BAD_ROWS)


def test_a_line_of_50_mb_is_an_error_row(job: Job) -> None:
    job.write(completion("before"), completion("huge", "a" * 50_000_000), completion("after"))
    job.run(code=1)
    assert {row["custom_id"]: row["error"] for row in job.rows} == {
        "before": None,
        "after": None,
        None: {
            "code": "line_too_long",
            "message": "line 2: the line is longer than 33554432 bytes (32 MiB); shorten the prompt",
        },
    }


def test_a_file_of_bad_rows_only_needs_no_model_weights(job: Job, model_dir: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model_dir / name).read_bytes())
    job.model_dir = tmp_path
    job.write(b"hello\n", completion("n", n=0))
    ended = job.run(code=1)
    assert [row["error"]["code"] for row in job.rows] == ["invalid_json", "invalid_request"]
    assert "0 answered, 2 failed" in ended.log


def test_text_needs_a_tokenizer_and_token_ids_do_not(job: Job, textless_model_dir: Path) -> None:
    job.model_dir = textless_model_dir
    job.write(
        completion("text"), chat("chat"), completion("ids", [5, 6, 7], logprobs=1), completion("stop", [5], stop="a")
    )
    job.run(code=1)
    assert {name: error["message"] for name, error in job.errors.items()} == {
        "text": "line 1: text needs a tokenizer, and this model folder has none; give token ids as prompt",
        "chat": "line 2: text needs a tokenizer, and this model folder has none; give token ids as prompt",
        "stop": "line 4: stop strings need a tokenizer, and this model folder has none; use stop_token_ids",
    }
    (answered,) = (row["response"]["body"]["choices"][0] for row in job.rows if row["error"] is None)
    assert answered["text"] is None
    assert len(answered["token_ids"]) == 4
    assert answered["logprobs"]["tokens"] == [f"token_id:{token}" for token in answered["token_ids"]]


def test_a_request_that_the_kv_cache_cannot_hold_is_an_error_row(job: Job) -> None:
    kv_bytes_per_token = 2 * 2 * 2 * 8 * 4  # K and V, layers, KV heads, head size, float32
    job.write(completion("small", [5] * 20), completion("large", [5] * 40, max_tokens=30))
    job.run("--kv-memory", 4 * 16 * kv_bytes_per_token, code=1)
    assert set(job.errors) == {"large"}
    assert job.errors["large"]["message"] == (
        "line 2: the prompt's 40 tokens and an answer of up to 30 do not fit the KV cache of 64 tokens, even alone; "
        "give more --kv-memory or lower max_tokens"
    )
    assert [row["custom_id"] for row in job.rows if row["error"] is None] == ["small"]
