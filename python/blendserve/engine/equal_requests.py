"""Requests that must have the same answer, so that it is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from hashlib import blake2b

from blendserve.engine.engine_request import EngineRequest
from blendserve.sampling_params import SamplingParams

__all__ = ["group_equal"]

_DIGEST_BYTES = 16


def group_equal(requests: Sequence[EngineRequest]) -> list[list[int]]:
    """The places of requests with the same answer, one list for each answer, in order of the first of each.

    They have the same prompt tokens and parameters, and are greedy or draw by the same seed of their own.
    """
    numbers = _params_numbers(requests)
    groups: dict[Hashable, list[int]] = {}
    for place, request in enumerate(requests):
        number = numbers[id(request.params)]
        key: Hashable = place  # drawn by the request's name, which no other has
        if number is not None:
            key = blake2b(request.prompt_token_ids.tobytes(), digest_size=_DIGEST_BYTES).digest(), number
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _params_numbers(requests: Sequence[EngineRequest]) -> dict[int, int | None]:
    """By id of the parameters: the same number for those of which a prompt has one answer, None where it is drawn by
    name.
    """
    numbers: dict[SamplingParams, int] = {}
    number_of_id: dict[int, int | None] = {}
    for key, params in {id(request.params): request.params for request in requests}.items():
        if params.seed is None and not params.greedy:
            number_of_id[key] = None
        else:
            same = replace(params, seed=None) if params.greedy else params
            number_of_id[key] = numbers.setdefault(same, len(numbers))
    return number_of_id
