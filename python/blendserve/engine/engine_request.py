"""One request as the engine takes it, and the checks that it can be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve.context_room import context_room
from blendserve.errors import RequestError
from blendserve.models import ModelShape
from blendserve.sampling_params import SamplingParams
from blendserve.vocabulary import check_vocabulary

__all__ = ["EngineRequest", "RequestLimits"]

_NO_TOKENS: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(slots=True)
class EngineRequest:
    """`prompt_token_ids` int32 [p]. `name` keys its random numbers, together with the job's seed (its custom_id).
    `expected_output_tokens` is a hint for the plan, never a limit.
    """

    prompt_token_ids: NDArray[np.int32]
    params: SamplingParams
    name: str
    expected_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a model and its KV cache can take. `kv_capacity` in tokens."""

    context_len: int
    kv_capacity: int
    vocab_size: int
    has_tokenizer: bool

    @classmethod
    def of(cls, model: ModelShape, *, kv_capacity: int, has_tokenizer: bool) -> RequestLimits:
        return cls(model.max_position_embeddings, kv_capacity, model.vocab_size, has_tokenizer)

    def max_new_tokens(self, requests: Sequence[EngineRequest]) -> list[int | RequestError]:
        """How many tokens each request may generate: `max_tokens`, and never more than the context has room for. Of one
        that can't be answered the error, whose message says what to change.
        """
        are_known = self._has(np.concatenate([_NO_TOKENS, *(request.prompt_token_ids for request in requests)]))
        outcomes: list[int | RequestError] = []
        for request in requests:
            try:
                if not are_known:
                    self._check_ids("prompt", request.prompt_token_ids)
                outcomes.append(self._max_new_tokens(request))
            except RequestError as error:
                outcomes.append(error)
        return outcomes

    def _max_new_tokens(self, request: EngineRequest) -> int:
        """Of a request whose prompt has tokens of the vocabulary only."""
        prompt_len = len(request.prompt_token_ids)
        if prompt_len == 0:
            raise RequestError("the prompt is empty; give it at least one token", code="invalid_request")
        self._check_params(request.params)
        wanted = request.params.max_tokens
        room = context_room(prompt_len, self.context_len, wanted)
        if wanted is None:
            room = min(room, max(1, self.kv_capacity - prompt_len))
        max_new_tokens = room if wanted is None else min(wanted, room)
        if prompt_len + max_new_tokens > self.kv_capacity:
            raise RequestError(
                f"the prompt's {prompt_len} tokens and an answer of up to {max_new_tokens} do not fit the KV cache of "
                f"{self.kv_capacity} tokens, even alone; give more --kv-memory or lower max_tokens",
                code="kv_memory_exceeded",
            )
        if request.params.min_tokens > max_new_tokens:
            raise RequestError(
                f"min_tokens is {request.params.min_tokens}, but the prompt's {prompt_len} tokens leave room for an "
                f"answer of {max_new_tokens}; lower it or shorten the prompt",
                code="context_length_exceeded",
                param="min_tokens",
            )
        return max_new_tokens

    def _check_params(self, params: SamplingParams) -> None:
        if params.stop_token_ids:
            self._check_ids("stop_token_ids", np.array(params.stop_token_ids, dtype=np.int32))
        if params.logit_bias:
            self._check_ids("logit_bias", np.array(list(dict(params.logit_bias)), dtype=np.int32))
        if params.stop and not self.has_tokenizer:
            raise RequestError(
                "stop strings need a tokenizer, and this model folder has none; use stop_token_ids",
                code="no_tokenizer",
                param="stop",
            )

    def _check_ids(self, name: str, ids: NDArray[np.int32]) -> None:
        check_vocabulary(name, ids, self.vocab_size)

    def _has(self, ids: NDArray[np.int32]) -> bool:
        """Whether all of them are of the vocabulary: below 0 they are large as unsigned ones."""
        return bool(ids.view(np.uint32).max(initial=0) < self.vocab_size)
