"""Requests that must have the same answer, so that it is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from hashlib import blake2b

from blendserve.engine.engine_request import EngineRequest

__all__ = ["group_equal"]

_DIGEST_BYTES = 16


def group_equal(requests: Sequence[EngineRequest]) -> list[list[int]]:
    """The places of requests with the same answer, one list for each answer, in order of the first of each.

    They have the same prompt tokens and parameters, and are greedy or draw by the same seed of their own.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(_answer_key(request, place), []).append(place)
    return list(groups.values())


def _answer_key(request: EngineRequest, place: int) -> Hashable:
    params = request.params
    if params.seed is None and not params.greedy:
        return place  # drawn by the request's name, which no other has
    if params.seed is not None and params.greedy:
        params = replace(params, seed=None)
    return blake2b(request.prompt_token_ids.tobytes(), digest_size=_DIGEST_BYTES).digest(), params
