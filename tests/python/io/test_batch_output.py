from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from batch_rows import chat_row, completion_row, output, read_error, read_request
from blendserve.io.batch_output import error_row, success_row
from blendserve.io.choice_logprobs import TokenSpelling
from blendserve.outputs import CompletionOutput, FinishedRequest, TokenLogprob

PIECES = {1: b"Hello", 2: b" world", 3: b"</s>", 4: b" \xf0\x9f", 5: b"\x98\x80!", 6: b"END", 7: b". E", 8: b"ND"}


def token_bytes(token_id: int) -> bytes:
    return PIECES[token_id]


def token_text(token_id: int) -> str:
    return PIECES[token_id].decode("utf-8", "replace")


def spelling(*, tokenizer: bool) -> TokenSpelling:
    return TokenSpelling(token_text, token_bytes) if tokenizer else TokenSpelling(None, None)


def row_of(line: bytes, result: FinishedRequest, *, tokenizer: bool = True) -> dict[str, Any]:
    row = success_row(
        read_request(line),
        result,
        created=1_700_000_000,
        model="default",
        spelling=spelling(tokenizer=tokenizer),
    )
    assert row.count(b"\n") == 1
    assert row.endswith(b"\n")
    parsed: dict[str, Any] = json.loads(row)
    assert orjson.loads(row) == parsed
    return parsed


def with_logprobs(*token_ids: int, text: str | None, **fields: Any) -> CompletionOutput:
    """Token i has log-prob -i and, before it, token 1 with -0.5."""
    logprobs = tuple(TokenLogprob(token, -float(token), ((1, -0.5),)) for token in token_ids)
    return CompletionOutput(0, text, token_ids, logprobs=logprobs, **{"finish_reason": "stop", **fields})


def test_a_chat_answer_has_the_published_form() -> None:
    line = chat_row("mine", model="named")
    request = read_request(line)
    unique = request.row_id.removeprefix("batch_req_")
    result = output(CompletionOutput(0, "Hello", (1, 3), "stop"), num_cached_tokens=2)
    assert row_of(line, result) == {
        "id": f"batch_req_{unique}",
        "custom_id": "mine",
        "response": {
            "status_code": 200,
            "request_id": f"req_{unique}",
            "body": {
                "id": f"chatcmpl-{unique}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "named",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hello", "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 2,
                    "total_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            },
        },
        "error": None,
    }


def test_a_completion_has_the_published_form_and_usage_counts_every_choice() -> None:
    result = output(CompletionOutput(0, "Hello", (1,), "length"), CompletionOutput(1, "Hello", (1, 3), "stop"))
    body = row_of(completion_row(n=2), result)["response"]["body"]
    assert (body["id"][:5], body["object"], body["model"]) == ("cmpl-", "text_completion", "default")
    assert body["choices"] == [
        {"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "length"},
        {"index": 1, "text": "Hello", "logprobs": None, "finish_reason": "stop"},
    ]
    assert body["usage"]["completion_tokens"] == 3


def test_texts_survive_both_json_readers() -> None:
    text = 'line\nbreak\r\u2028 "quoted" \\ \x00 \U0001f600 \ufffd'
    row = row_of(completion_row(), output(CompletionOutput(0, text, (1,), "length")))
    assert row["response"]["body"]["choices"][0]["text"] == text


def test_a_model_without_a_tokenizer_answers_in_token_ids() -> None:
    result = output(CompletionOutput(0, None, (1, 3), "stop"))
    choice = row_of(completion_row(prompt=[5]), result, tokenizer=False)["response"]["body"]["choices"][0]
    assert choice == {"index": 0, "text": None, "logprobs": None, "token_ids": [1, 3], "finish_reason": "stop"}
    choice = row_of(chat_row(), result, tokenizer=False)["response"]["body"]["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None}
    assert choice["token_ids"] == [1, 3]


def chat_logprobs(choice: CompletionOutput, *, tokenizer: bool = True) -> list[dict[str, Any]]:
    logprobs = row_of(chat_row(), output(choice), tokenizer=tokenizer)["response"]["body"]["choices"][0]["logprobs"]
    assert logprobs["refusal"] is None
    content: list[dict[str, Any]] = logprobs["content"]
    return content


def completion_logprobs(choice: CompletionOutput, *, tokenizer: bool = True) -> dict[str, Any]:
    row = row_of(completion_row(), output(choice), tokenizer=tokenizer)
    logprobs: dict[str, Any] = row["response"]["body"]["choices"][0]["logprobs"]
    return logprobs


def test_chat_log_probs_leave_the_end_token_out() -> None:
    hello = {"token": "Hello", "logprob": -0.5, "bytes": list(b"Hello")}
    assert chat_logprobs(with_logprobs(1, 2, 3, text="Hello world")) == [
        {"token": "Hello", "logprob": -1.0, "bytes": list(b"Hello"), "top_logprobs": [hello]},
        {"token": " world", "logprob": -2.0, "bytes": list(b" world"), "top_logprobs": [hello]},
    ]


def test_completion_log_probs_are_parallel_lists_with_the_generated_token_among_the_top() -> None:
    assert completion_logprobs(with_logprobs(1, 2, text="Hello world", finish_reason="length")) == {
        "tokens": ["Hello", " world"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"Hello": -0.5}, {"Hello": -0.5, " world": -2.0}],
        "text_offset": [0, 5],
    }


def test_an_offset_counts_characters_although_a_token_ends_inside_one() -> None:
    logprobs = completion_logprobs(with_logprobs(1, 4, 5, 2, text="Hello \U0001f600! world", finish_reason="length"))
    assert logprobs["text_offset"] == [0, 5, 6, 8]
    assert logprobs["tokens"][1:3] == [r"bytes:\x20\xf0\x9f", r"bytes:\x98\x80\x21"]
    assert chat_logprobs(with_logprobs(4, text=" \ufffd", finish_reason="length"))[0]["bytes"] == [32, 240, 159]


def test_without_a_tokenizer_log_probs_name_token_ids() -> None:
    assert completion_logprobs(with_logprobs(1, 2, 3, text=None), tokenizer=False) == {
        "tokens": ["token_id:1", "token_id:2"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"token_id:1": -0.5}, {"token_id:1": -0.5, "token_id:2": -2.0}],
        "text_offset": None,
    }
    entry = chat_logprobs(with_logprobs(2, text=None, finish_reason="length"), tokenizer=False)[0]
    assert (entry["token"], entry["bytes"]) == ("token_id:2", None)


@pytest.mark.parametrize(
    ("token_ids", "fields", "num_shown"),
    [
        ((1, 2), {"finish_reason": "length"}, 2),
        ((1, 3), {"stop_reason": None}, 1),
        ((1, 2), {"stop_reason": 2}, 1),
        ((1, 6), {"stop_reason": "END"}, 1),
        ((1, 7, 8), {"stop_reason": "END"}, 2),
        ((1, 7, 8), {"stop_reason": ". END"}, 1),
        ((1, 2), {"stop_reason": "world"}, 2),
        ((1,), {"stop_reason": "Hello"}, 0),
        ((1, 2, 6), {"stop_reason": " worldEND"}, 1),
        ((6, 1, 6), {"stop_reason": "END"}, 2),
        ((1, 2), {"stop_reason": "not spelled by the tokens"}, 2),
    ],
)
def test_log_probs_cover_the_tokens_with_a_part_in_the_text(
    token_ids: tuple[int, ...], fields: dict[str, Any], num_shown: int
) -> None:
    choice = with_logprobs(*token_ids, text="", **fields)
    assert [entry["token"] for entry in chat_logprobs(choice)] == [token_text(token) for token in token_ids[:num_shown]]
    assert len(completion_logprobs(choice)["tokens"]) == num_shown


def echoed(
    choice: CompletionOutput, prompt_text: str | None, *prompt_ids: int, tokenizer: bool = True, **fields: Any
) -> dict[str, Any]:
    """The choice of a row with `echo`, whose prompt has log-prob -10 i for token i."""
    scores = (None, *(TokenLogprob(token, -10.0 * token, ((1, -0.5),)) for token in prompt_ids[1:]))
    prompt_logprobs = None if choice.logprobs is None else scores
    row = success_row(
        read_request(completion_row(echo=True, **fields)),
        FinishedRequest(0, np.array(prompt_ids, np.int32), (choice,), 0, prompt_logprobs),
        created=0,
        model="default",
        prompt_text=prompt_text,
        spelling=spelling(tokenizer=tokenizer),
    )
    shown: dict[str, Any] = json.loads(row)["response"]["body"]["choices"][0]
    return shown


def test_an_echo_begins_text_and_log_probs_with_the_prompt_whose_first_token_has_none() -> None:
    choice = echoed(with_logprobs(2, 3, text=" world"), "Hello world", 1, 2, logprobs=1)
    assert choice["text"] == "Hello world world"
    assert choice["logprobs"] == {
        "tokens": ["Hello", " world", " world"],
        "token_logprobs": [None, -20.0, -2.0],
        "top_logprobs": [None, {"Hello": -0.5, " world": -20.0}, {"Hello": -0.5, " world": -2.0}],
        "text_offset": [0, 5, 11],
    }


@pytest.mark.parametrize(
    ("prompt_text", "prompt_ids", "offsets"),
    [
        ("Hello", (3, 1), [0, 0]),  # a special token in front is not in the text
        ("world world", (2, 2), [0, 5]),  # the first word is marked by a space that is not in the text
        (" \U0001f600! world", (4, 5, 2), [0, 1, 3]),
        ("</s>Hello", (3, 1), [0, 4]),  # but it is where the prompt spells it
        ("HELLO", (1, 2), [0, 0]),  # normalised: the tokens are not found
    ],
)
def test_offsets_of_an_echo_are_places_in_its_text(
    prompt_text: str, prompt_ids: tuple[int, ...], offsets: list[int]
) -> None:
    choice = echoed(with_logprobs(1, text="Hello", finish_reason="length"), prompt_text, *prompt_ids, logprobs=1)
    assert choice["logprobs"]["text_offset"] == [*offsets, len(prompt_text)]


def test_an_echo_without_a_tokenizer_is_of_token_ids() -> None:
    choice = echoed(CompletionOutput(0, None, (1, 3), "stop"), None, 7, 8, tokenizer=False, prompt=[7, 8])
    assert (choice["text"], choice["token_ids"], choice["logprobs"]) == (None, [7, 8, 1, 3], None)


def test_an_impossible_token_has_the_published_lowest_log_prob() -> None:
    logprob = TokenLogprob(1, -math.inf, ((2, -math.inf),))
    choice = CompletionOutput(0, "Hello", (1,), "length", logprobs=(logprob,))
    (entry,) = chat_logprobs(choice)
    assert (entry["logprob"], entry["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)
    assert completion_logprobs(choice)["token_logprobs"] == [-9999.0]


def test_an_error_row_has_no_response() -> None:
    error = read_error(chat_row("mine", n=0))
    assert json.loads(error_row(error)) == {
        "id": error.row_id,
        "custom_id": "mine",
        "response": None,
        "error": {
            "code": "invalid_request",
            "message": "line 1: body.n is 0; it must be an integer between 1 and 128",
        },
    }
    assert json.loads(error_row(read_error(b"\xff")))["custom_id"] is None
    assert error_row(error).endswith(b"\n")
