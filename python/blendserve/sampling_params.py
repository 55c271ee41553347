"""How one request is sampled and when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from blendserve.errors import UserError

__all__ = ["SamplingParams"]

_INT32_MAX = 2**31 - 1
_MAX_BIAS = 100
_MAX_PROMPT_LOGPROBS = 100  # there is room for them in every slot of the KV cache
_MAX_PENALTY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Frozen; every field is checked on construction and a bad value raises `UserError`.

    A token is chosen in this order: logit_bias; repetition_penalty, frequency_penalty, presence_penalty; tokens that
    would end the answer before min_tokens are out; temperature; min_p, top_k, top_p; the draw. Greedy answers (a
    temperature of 0) take the most likely token after the first three. Log-probs are of the model's own distribution,
    before all of this.

    n: number of choices, >= 1.
    temperature: >= 0; 0 is greedy.
    top_p: 0 < top_p <= 1; the smallest set of tokens whose probability reaches it, of those min_p and top_k keep.
    top_k: 0 is off, else the k most likely tokens.
    min_p: 0 to 1; only tokens at least min_p times as likely as the most likely one, at the temperature. 0 is off.
    repetition_penalty: > 0; the logit of every token that stands in the prompt or the answer is divided by it where
        positive, else multiplied. 1 is off, more than 1 discourages.
    frequency_penalty: -2 to 2; taken off a token's logit once for every time the answer has it. 0 is off.
    presence_penalty: -2 to 2; taken off the logit of every token the answer has. 0 is off.
    logit_bias: {token id: -100 to 100}, added to the tokens' logits. Becomes a tuple of pairs in order of id.
    seed: any signed 64-bit integer; None takes the job's seed with the request's own name.
    max_tokens: >= 1, or None for as many as the context holds; 0 with prompt_logprobs, for the prompt's alone.
    min_tokens: the first min_tokens tokens do not end the answer: until then its end tokens and stop_token_ids are not
        chosen, and stop strings count only when a later token completes them. At most max_tokens, which still ends it.
    stop: strings that end the answer; the text ends before the match. A list or a single string becomes a tuple.
    stop_token_ids: token ids that end the answer. A list becomes a tuple.
    ignore_eos: go on after the model's end tokens.
    max_repeated_tokens: 2 or more; an answer ends with finish_reason "repetition" once its last max_repeated_tokens
        tokens repeat a cycle of at most 64 tokens and half of them, not before min_tokens. 0 is never, None as the
        engine's stop_runaways says.
    logprobs: None, or how many most likely tokens to report beside each token (0: the token's own only).
    prompt_logprobs: the same for each token of the prompt, given those before it; at most 100.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    max_repeated_tokens: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        self._store("n", _integer("n", self.n, 1, _INT32_MAX))
        self._store("temperature", _temperature(self.temperature))
        self._store("top_p", _top_p(self.top_p))
        self._store("top_k", _integer("top_k", self.top_k, 0, _INT32_MAX))
        self._store("min_p", _number_in("min_p", self.min_p, 0, 1))
        self._store("repetition_penalty", _repetition_penalty(self.repetition_penalty))
        for name in ("frequency_penalty", "presence_penalty"):
            self._store(name, _number_in(name, getattr(self, name), -_MAX_PENALTY, _MAX_PENALTY))
        self._store("logit_bias", _logit_bias(self.logit_bias))
        self._store("stop", _stop(self.stop))
        self._store("stop_token_ids", _stop_token_ids(self.stop_token_ids))
        if self.seed is not None:
            self._store("seed", _integer("seed", self.seed, -(2**63), 2**63 - 1))
        if self.max_repeated_tokens is not None:
            self._store("max_repeated_tokens", _max_repeated_tokens(self.max_repeated_tokens))
        most = {"max_tokens": _INT32_MAX, "logprobs": _INT32_MAX, "prompt_logprobs": _MAX_PROMPT_LOGPROBS}
        for name, high in most.items():
            if getattr(self, name) is not None:
                self._store(name, _integer(name, getattr(self, name), 0, high))
        self._store("min_tokens", _integer("min_tokens", self.min_tokens, 0, _INT32_MAX))
        self._check_lengths()
        if not isinstance(self.ignore_eos, bool):
            raise _refused("ignore_eos", self.ignore_eos, "True or False")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken, so that the seed has no effect."""
        return self.temperature == 0.0 or self.top_k == 1

    @property
    def has_penalties(self) -> bool:
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)

    @property
    def edits_logits(self) -> bool:
        """Whether logits are changed before a token is chosen: by bias, penalties or a minimum length."""
        return bool(self.logit_bias) or self.min_tokens > 0 or self.has_penalties

    def forces_length(self, limit: int) -> bool:
        """Whether an answer of at most `limit` tokens has exactly so many, whatever the model says."""
        never_stops = self.ignore_eos and not (self.stop or self.stop_token_ids or self.max_repeated_tokens)
        return limit <= 1 or never_stops or self.min_tokens >= limit

    def _check_lengths(self) -> None:
        if self.max_tokens == 0 and self.prompt_logprobs is None:
            raise _refused("max_tokens", 0, "at least 1, or give prompt_logprobs to have the prompt alone scored")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _refused("min_tokens", self.min_tokens, f"at most max_tokens, which is {self.max_tokens}")

    def _store(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def _refused(name: str, value: object, allowed: str) -> UserError:
    return UserError(f"{name} is {value!r}; it must be {allowed}")


def _integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise _refused(name, value, f"an integer from {low} to {high}")
    return int(value)


def _number(value: object) -> float:
    """`value` as a float; NaN, which is in no range, for what is no number."""
    return math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _max_repeated_tokens(value: object) -> int:
    limit = _integer("max_repeated_tokens", value, 0, _INT32_MAX)
    if limit == 1:
        raise _refused("max_repeated_tokens", value, "at least 2, or 0 for never")
    return limit


def _temperature(value: object) -> float:
    temperature = _number(value)
    if not 0.0 <= temperature < math.inf:
        raise _refused("temperature", value, "a finite number, 0 or more (0 is greedy)")
    return temperature


def _top_p(value: object) -> float:
    top_p = _number(value)
    if not 0.0 < top_p <= 1.0:
        raise _refused("top_p", value, "a number more than 0 and at most 1 (1 is off)")
    return top_p


def _number_in(name: str, value: object, low: int, high: int) -> float:
    number = _number(value)
    if not low <= number <= high:
        raise _refused(name, value, f"a number from {low} to {high}")
    return number


def _repetition_penalty(value: object) -> float:
    penalty = _number(value)
    if not 0.0 < penalty < math.inf:
        raise _refused("repetition_penalty", value, "a finite number more than 0 (1 is off)")
    return penalty


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    pairs = tuple(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise _refused("logit_bias", value, "a dict of token ids and numbers")
    return tuple(
        sorted(
            (
                _integer("a token id in logit_bias", token_id, 0, _INT32_MAX),
                _number_in(f"logit_bias[{token_id}]", bias, -_MAX_BIAS, _MAX_BIAS),
            )
            for token_id, bias in pairs
        )
    )


def _stop(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, (tuple, list)) or value == "":
        raise _refused("stop", value, "a string or a list of strings, none of them empty")
    for index, text in enumerate(strings):
        if not isinstance(text, str) or not text:
            raise _refused(f"stop[{index}]", text, "a string, and not empty")
    return tuple(strings)


def _stop_token_ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise _refused("stop_token_ids", value, "a list of token ids")
    return tuple(_integer(f"stop_token_ids[{i}]", token_id, 0, _INT32_MAX) for i, token_id in enumerate(value))
