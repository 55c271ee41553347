"""How one request is sampled and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from blendserve.errors import UserError

__all__ = ["SamplingParams"]

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Frozen; every field is checked on construction and a bad value raises `UserError`.

    n: number of choices, >= 1.
    temperature: >= 0; 0 is greedy.
    top_p: 0 < top_p <= 1; the smallest set of tokens whose probability reaches it.
    top_k: 0 is off, else the k most likely tokens. Comes before top_p, which then counts the share of those k.
    seed: any signed 64-bit integer; None takes the job's seed with the request's own name.
    max_tokens: >= 1, or None for as many as the context holds.
    stop: strings that end the answer; the text ends before the match. A list or a single string becomes a tuple.
    stop_token_ids: token ids that end the answer. A list becomes a tuple.
    ignore_eos: go on after the model's end tokens.
    logprobs: None, or how many most likely tokens to report beside each token (0: the token's own only).
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        self._store("n", _integer("n", self.n, 1, _INT32_MAX))
        self._store("temperature", _temperature(self.temperature))
        self._store("top_p", _top_p(self.top_p))
        self._store("top_k", _integer("top_k", self.top_k, 0, _INT32_MAX))
        self._store("stop", _stop(self.stop))
        self._store("stop_token_ids", _stop_token_ids(self.stop_token_ids))
        if self.seed is not None:
            self._store("seed", _integer("seed", self.seed, -(2**63), 2**63 - 1))
        if self.max_tokens is not None:
            self._store("max_tokens", _integer("max_tokens", self.max_tokens, 1, _INT32_MAX))
        if self.logprobs is not None:
            self._store("logprobs", _integer("logprobs", self.logprobs, 0, _INT32_MAX))
        if not isinstance(self.ignore_eos, bool):
            raise _refused("ignore_eos", self.ignore_eos, "True or False")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken, so that the seed has no effect."""
        return self.temperature == 0.0 or self.top_k == 1

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


def _stop(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, (tuple, list)) or not all(isinstance(s, str) and s for s in strings):
        raise _refused("stop", value, "a string or a list of strings, none of them empty")
    return tuple(strings)


def _stop_token_ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise _refused("stop_token_ids", value, "a list of token ids")
    return tuple(_integer(f"stop_token_ids[{i}]", token_id, 0, _INT32_MAX) for i, token_id in enumerate(value))
