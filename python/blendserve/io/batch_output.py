"""Result rows: one JSON line per request, in the published Batch format."""

from __future__ import annotations

from typing import Any

import orjson

from blendserve.io.batch_input import BatchRequest, RowError
from blendserve.io.body_fields import CHAT_URL
from blendserve.io.choice_logprobs import NO_PROMPT, EchoedPrompt, TokenSpelling, chat_logprobs, completion_logprobs
from blendserve.outputs import CompletionOutput, FinishedRequest

__all__ = ["error_row", "success_row"]


def success_row(
    request: BatchRequest,
    output: FinishedRequest,
    *,
    created: int,
    model: str,
    prompt_text: str | None = None,
    spelling: TokenSpelling,
) -> bytes:
    """The row of an answered request, its line end included.

    created: Unix time in seconds.
    model: the name to report where the request gives none.
    prompt_text: what a request with `echo` is shown of its prompt; None for a model without a tokenizer.
    spelling: of tokens in log-probs; a model without a tokenizer has none, its texts are null and its choices carry
        `token_ids` instead.
    """
    chat = request.url == CHAT_URL
    prompt = NO_PROMPT
    if request.echo:
        prompt = EchoedPrompt(prompt_text, tuple(output.prompt_token_ids.tolist()), output.prompt_logprobs)
    unique = request.row_id.removeprefix("batch_req_")
    body = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{unique}",
        "object": "chat.completion" if chat else "text_completion",
        "created": created,
        "model": model if request.model is None else request.model,
        "choices": [
            _chat_choice(choice, spelling) if chat else _completion_choice(choice, spelling, prompt)
            for choice in output.outputs
        ],
        "usage": _usage(output),
    }
    response = {"status_code": 200, "request_id": f"req_{unique}", "body": body}
    return _line({"id": request.row_id, "custom_id": request.custom_id, "response": response, "error": None})


def error_row(error: RowError) -> bytes:
    """The row of a request without an answer, its line end included."""
    reason = {"code": error.code, "message": error.message}
    return _line({"id": error.row_id, "custom_id": error.custom_id, "response": None, "error": reason})


def _chat_choice(choice: CompletionOutput, spelling: TokenSpelling) -> dict[str, Any]:
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    answer = {"message": message, "logprobs": chat_logprobs(choice, spelling)}
    return _choice(choice, answer, choice.token_ids)


def _completion_choice(choice: CompletionOutput, spelling: TokenSpelling, prompt: EchoedPrompt) -> dict[str, Any]:
    text = None if choice.text is None or prompt.text is None else prompt.text + choice.text
    answer = {"text": text, "logprobs": completion_logprobs(choice, spelling, prompt)}
    return _choice(choice, answer, prompt.token_ids + choice.token_ids)


def _choice(choice: CompletionOutput, answer: dict[str, Any], token_ids: tuple[int, ...]) -> dict[str, Any]:
    if choice.text is None:
        answer["token_ids"] = token_ids
    return {"index": choice.index, **answer, "finish_reason": choice.finish_reason}


def _usage(output: FinishedRequest) -> dict[str, Any]:
    prompt_tokens = len(output.prompt_token_ids)
    completion_tokens = output.num_output_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens},
    }


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
