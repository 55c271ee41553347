"""The sampling fields of a request body."""

from __future__ import annotations

from blendserve.errors import RequestError
from blendserve.io.body_fields import CHAT_URL, Url
from blendserve.io.fields import MAX_INT32, JsonObject, refused, token_ids
from blendserve.sampling_params import SamplingParams

__all__ = ["read_sampling_params"]

_MAX_CHOICES = 128
_MAX_LOGPROBS = 20
_MAX_STOP_STRINGS = 16
_DEFAULT_COMPLETION_TOKENS = 16


def read_sampling_params(body: JsonObject, url: Url) -> SamplingParams:
    """Defaults are the published API's: a chat answer may fill the context, a plain completion has 16 tokens."""
    temperature = body.number("temperature", 0, 2)
    return SamplingParams(
        n=body.integer("n", 1, _MAX_CHOICES) or 1,
        temperature=1.0 if temperature is None else temperature,
        top_p=body.number("top_p", 0, 1, above_low=True) or 1.0,
        top_k=max(body.integer("top_k", -1, MAX_INT32) or 0, 0),
        seed=body.integer("seed", -(2**63), 2**63 - 1),
        max_tokens=_read_max_tokens(body, url),
        stop=_read_stop(body),
        stop_token_ids=_read_stop_token_ids(body),
        ignore_eos=body.boolean("ignore_eos") or False,
        logprobs=_read_chat_logprobs(body) if url == CHAT_URL else body.integer("logprobs", 0, _MAX_LOGPROBS),
    )


def _read_max_tokens(body: JsonObject, url: Url) -> int | None:
    old = body.integer("max_tokens", 1, MAX_INT32)
    new = body.integer("max_completion_tokens", 1, MAX_INT32)
    if old is not None and new is not None and old != new:
        path = body.path_of("max_completion_tokens")
        raise RequestError(f"{path} is {new} and {body.path_of('max_tokens')} is {old}; give one of them", param=path)
    default = None if url == CHAT_URL else _DEFAULT_COMPLETION_TOKENS
    return next((limit for limit in (new, old) if limit is not None), default)


def _read_stop(body: JsonObject) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    strings = [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(strings, list)
        or len(strings) > _MAX_STOP_STRINGS
        or not all(isinstance(text, str) and text for text in strings)
    ):
        rule = f"a non-empty string or a list of at most {_MAX_STOP_STRINGS} non-empty strings"
        raise refused(body.path_of("stop"), stop, rule)
    return tuple(strings)


def _read_stop_token_ids(body: JsonObject) -> tuple[int, ...]:
    ids = body.get("stop_token_ids")
    if ids is None:
        return ()
    path = body.path_of("stop_token_ids")
    if not isinstance(ids, list):
        raise refused(path, ids, "a list of token ids")
    return token_ids(path, ids)


def _read_chat_logprobs(body: JsonObject) -> int | None:
    top = body.integer("top_logprobs", 0, _MAX_LOGPROBS)
    if body.boolean("logprobs"):
        return top or 0
    if top:
        path = body.path_of("top_logprobs")
        raise RequestError(f"{path} is {top} without log-probs; set {body.path_of('logprobs')} to true", param=path)
    return None
