"""What a finished request returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CompletionOutput", "FinishReason", "FinishedRequest", "RequestOutput", "TokenLogprob"]

FinishReason = Literal["stop", "length", "repetition"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of one token under the model's own distribution: before bias, penalties, temperature and filters.

    `top` holds the most likely tokens as (token id, log-probability), best first; its length is what was asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(slots=True)  # frozen it would take three times as long to make
class CompletionOutput:
    """One answer of a request; a request with `n` choices has n of them.

    `token_ids` are all tokens generated, a final stop token included; `text` leaves the stop token or stop string out
    and is None for a model without a tokenizer. `stop_reason` is the stop string or stop token id that was met, None
    for an end-of-sequence token, the length limit or a repetition. `logprobs` has one entry per token, None when not
    asked for.
    """

    index: int
    text: str | None
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A finished request. `index` is its place in the input; text, token_ids, finish_reason and logprobs are those of
    its first choice.

    `prompt_logprobs` has one entry per token of the prompt, None for the first, which follows nothing; None when not
    asked for.
    """

    index: int
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    num_cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None

    @property
    def text(self) -> str | None:
        return self.outputs[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.outputs[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.outputs[0].finish_reason

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...] | None:
        return self.outputs[0].logprobs


@dataclass(slots=True)
class FinishedRequest:
    """A `RequestOutput` as the engine has it: with the prompt as an array, int32 [p], and the engine's index."""

    index: int
    prompt_token_ids: NDArray[np.int32]
    outputs: tuple[CompletionOutput, ...]
    num_cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None

    @property
    def num_output_tokens(self) -> int:
        """Of all choices."""
        return sum([len(choice.token_ids) for choice in self.outputs])

    def at(self, index: int) -> RequestOutput:
        """What users see, with its place in their input."""
        prompt = tuple(self.prompt_token_ids.tolist())
        return RequestOutput(index, prompt, self.outputs, self.num_cached_tokens, self.prompt_logprobs)

    def copied_to(self, index: int) -> FinishedRequest:
        """The answer of an equal request, none of whose prompt was computed."""
        return replace(self, index=index, num_cached_tokens=len(self.prompt_token_ids))
