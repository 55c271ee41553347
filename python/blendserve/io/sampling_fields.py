"""The sampling fields of a request body."""

from __future__ import annotations

from blendserve.errors import RequestError
from blendserve.io.body_fields import CHAT_URL, COMPLETIONS_URL, Url
from blendserve.io.fields import MAX_INT32, JsonObject, refused, shown, token_ids
from blendserve.sampling_params import SamplingParams

__all__ = ["read_sampling_params"]

_MAX_CHOICES = 128
_MAX_LOGPROBS = 20
_MAX_STOP_STRINGS = 16
_MAX_PENALTY = 2
_MAX_BIAS = 100
_DEFAULT_COMPLETION_TOKENS = 16


def read_sampling_params(body: JsonObject, url: Url) -> SamplingParams:
    """Defaults are the published API's: a chat answer may fill the context, a plain completion has 16 tokens.

    An echoed prompt has as many log-probs as the answer.
    """
    temperature = body.number("temperature", 0, 2)
    echo = body.boolean("echo") or False
    max_tokens = _read_max_tokens(body, url, lowest=0 if echo else 1)
    logprobs = _read_chat_logprobs(body) if url == CHAT_URL else body.integer("logprobs", 0, _MAX_LOGPROBS)
    return SamplingParams(
        n=body.integer("n", 1, _MAX_CHOICES) or 1,
        temperature=1.0 if temperature is None else temperature,
        top_p=body.number("top_p", 0, 1, above_low=True) or 1.0,
        top_k=max(body.integer("top_k", -1, MAX_INT32) or 0, 0),
        min_p=body.number("min_p", 0, 1) or 0.0,
        repetition_penalty=body.number("repetition_penalty", 0, MAX_INT32, above_low=True) or 1.0,
        frequency_penalty=body.number("frequency_penalty", -_MAX_PENALTY, _MAX_PENALTY) or 0.0,
        presence_penalty=body.number("presence_penalty", -_MAX_PENALTY, _MAX_PENALTY) or 0.0,
        logit_bias=_read_logit_bias(body),
        seed=body.integer("seed", -(2**63), 2**63 - 1),
        max_tokens=max_tokens,
        min_tokens=_read_min_tokens(body, max_tokens),
        stop=_read_stop(body),
        stop_token_ids=_read_stop_token_ids(body),
        ignore_eos=body.boolean("ignore_eos") or False,
        max_repeated_tokens=_read_max_repeated_tokens(body),
        logprobs=logprobs,
        prompt_logprobs=(logprobs or 0) if echo and (logprobs is not None or max_tokens == 0) else None,
    )


def _read_max_tokens(body: JsonObject, url: Url, *, lowest: int) -> int | None:
    old = _read_token_limit(body, "max_tokens", lowest)
    new = _read_token_limit(body, "max_completion_tokens", lowest)
    if old is not None and new is not None and old != new:
        path = body.path_of("max_completion_tokens")
        raise RequestError(f"{path} is {new} and {body.path_of('max_tokens')} is {old}; give one of them", param=path)
    default = None if url == CHAT_URL else _DEFAULT_COMPLETION_TOKENS
    return next((limit for limit in (new, old) if limit is not None), default)


def _read_token_limit(body: JsonObject, name: str, lowest: int) -> int | None:
    if lowest > 0 and body.get(name) == 0:
        rule = f"at least 1, or come with echo, on a row of {COMPLETIONS_URL}, to get the prompt alone"
        raise refused(body.path_of(name), body.get(name), rule)
    return body.integer(name, lowest, MAX_INT32)


def _read_min_tokens(body: JsonObject, max_tokens: int | None) -> int:
    min_tokens = body.integer("min_tokens", 0, MAX_INT32) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise refused(body.path_of("min_tokens"), min_tokens, f"at most max_tokens, which is {max_tokens}")
    return min_tokens


def _read_max_repeated_tokens(body: JsonObject) -> int | None:
    limit = body.integer("max_repeated_tokens", 0, MAX_INT32)
    if limit == 1:
        raise refused(body.path_of("max_repeated_tokens"), 1, "at least 2, or 0 for never")
    return limit


def _read_logit_bias(body: JsonObject) -> dict[int, float]:
    """Ids beyond the vocabulary are found when the model is known."""
    bias = JsonObject(body.path_of("logit_bias"), body.mapping("logit_bias") or {})
    for key in bias.fields:
        if not (key.isascii() and key.isdigit() and len(key) <= len(str(MAX_INT32)) and int(key) <= MAX_INT32):
            raise RequestError(
                f'{bias.path} has the key {shown(key)}; every key must be a token id as a string, such as "42"',
                param=bias.path,
            )
    values = {int(key): bias.number(key, -_MAX_BIAS, _MAX_BIAS) for key in bias.fields}
    return {token_id: value for token_id, value in values.items() if value is not None}


def _read_stop(body: JsonObject) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    strings = [stop] if isinstance(stop, str) else stop
    path = body.path_of("stop")
    if not isinstance(strings, list) or len(strings) > _MAX_STOP_STRINGS or stop == "":
        rule = f"a non-empty string or a list of at most {_MAX_STOP_STRINGS} non-empty strings"
        raise refused(path, stop, rule)
    for index, text in enumerate(strings):
        if not isinstance(text, str) or not text:
            raise refused(f"{path}[{index}]", text, "a non-empty string")
    return tuple(strings)


def _read_stop_token_ids(body: JsonObject) -> tuple[int, ...]:
    ids = body.get("stop_token_ids")
    if ids is None:
        return ()
    path = body.path_of("stop_token_ids")
    if not isinstance(ids, list):
        raise refused(path, ids, "a list of token ids")
    return tuple(token_ids(path, ids).tolist())


def _read_chat_logprobs(body: JsonObject) -> int | None:
    top = body.integer("top_logprobs", 0, _MAX_LOGPROBS)
    if body.boolean("logprobs"):
        return top or 0
    if top:
        path = body.path_of("top_logprobs")
        raise RequestError(f"{path} is {top} without log-probs; set {body.path_of('logprobs')} to true", param=path)
    return None
