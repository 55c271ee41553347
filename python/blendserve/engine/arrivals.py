"""Requests as the scheduler takes them: flat arrays, each of a request's choices as a row of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blendserve.engine.engine_request import EngineRequest
from blendserve.random_keys import stream_key
from blendserve.sampling_params import SamplingParams

__all__ = ["Arrivals", "num_logprobs"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_UNKNOWN = -1.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n rows.

    tokens, offsets: the prompt of row i is tokens[offsets[i]:offsets[i + 1]], int32 [T] and int64 [n + 1].
    params: the parameters that occur; requests that were given the same ones share them.
    param_places: int64 [n], the place in `params` of each row's. The choices of a request are neighbours.
    max_new_tokens: int32 [n], what a row may generate.
    output_lengths: float64 [n], what it is known or said to generate, -1 where nobody says.
    is_hinted: bool [n], whether that is only said.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    params: Sequence[SamplingParams]
    param_places: NDArray[np.int64]
    max_new_tokens: NDArray[np.int32]
    output_lengths: NDArray[np.float64]
    is_hinted: NDArray[np.bool_]

    @classmethod
    def of(cls, requests: Sequence[EngineRequest], max_new_tokens: Sequence[int]) -> Arrivals:
        """`max_new_tokens`: what each request may generate."""
        params = {id(request.params): request.params for request in requests}
        places = {each: place for place, each in enumerate(params)}
        num_choices = np.array([request.params.n for request in requests], dtype=np.int64)
        prompts = [request.prompt_token_ids for request in requests for _ in range(request.params.n)]
        told = [_told_length(request, limit) for request, limit in zip(requests, max_new_tokens, strict=True)]
        return cls(
            tokens=np.concatenate([np.empty(0, np.int32), *prompts]).astype(np.int32, copy=False),
            offsets=np.cumsum([0, *map(len, prompts)], dtype=np.int64),
            params=tuple(params.values()),
            param_places=np.repeat(
                np.array([places[id(request.params)] for request in requests], dtype=np.int64), num_choices
            ),
            max_new_tokens=np.repeat(np.array(max_new_tokens, dtype=np.int32), num_choices),
            output_lengths=np.repeat(np.array([length for length, _ in told], dtype=np.float64), num_choices),
            is_hinted=np.repeat(np.array([is_hint for _, is_hint in told], dtype=np.bool_), num_choices),
        )

    @property
    def num_rows(self) -> int:
        return len(self.max_new_tokens)

    def column(self, value: Callable[[SamplingParams], float], dtype: type[_Scalar]) -> NDArray[_Scalar]:
        """What `value` says of each row's parameters."""
        return np.array([value(params) for params in self.params], dtype=dtype)[self.param_places]

    def sampling_columns(self, requests: Sequence[EngineRequest], job_seed: int) -> dict[str, NDArray[Any]]:
        """The columns of a `SamplingTable`; `requests` are those that the rows were made of."""
        keys = [
            0
            if request.params.greedy  # which draws nothing
            else stream_key(request_seed=request.params.seed, job_seed=job_seed, name=request.name, choice=choice)
            for request in requests
            for choice in range(request.params.n)
        ]
        return {
            "temperature": self.column(lambda params: 0.0 if params.greedy else params.temperature, np.float32),
            "top_p": self.column(lambda params: params.top_p, np.float32),
            "top_k": self.column(lambda params: params.top_k, np.int32),
            "min_p": self.column(lambda params: params.min_p, np.float32),
            "num_logprobs": self.column(lambda params: num_logprobs(params.logprobs), np.int32),
            "key": np.array(keys, dtype=np.uint64),
        }


def num_logprobs(asked: int | None) -> int:
    """As the core takes it: -1 for none."""
    return -1 if asked is None else asked


def _told_length(request: EngineRequest, limit: int) -> tuple[float, bool]:
    """The length of the request's answer, and whether that is a hint.

    To the planner every request has an answer, so one that asks for its prompt alone has 1.
    """
    if request.params.forces_length(limit):
        return max(limit, 1), False
    hint = request.expected_output_tokens
    return (_UNKNOWN, False) if hint is None else (min(hint, limit), True)
