"""What becomes of sampled tokens: log-probs are kept, stop strings watched for, finished answers put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from blendserve.outputs import CompletionOutput, FinishReason, TokenLogprob
from blendserve.runner.logprobs import Logprobs
from blendserve.runner.sampler import SampledTokens
from blendserve.sampling_params import SamplingParams
from blendserve.text.detokenizer import Decode, StopChecker, StopMatch, final_text

__all__ = ["Answers", "token_logprobs"]


class Answers:
    """The answers being generated, by scheduler request id. Only requests that want log-probs or have stop strings
    cost anything per token. `decode` is None for a model without a tokenizer.
    """

    def __init__(self, decode: Decode | None) -> None:
        self._decode = decode
        self._stop_checkers: dict[int, StopChecker] = {}
        self._stop_matches: dict[int, StopMatch] = {}
        self._logprobs: dict[int, list[TokenLogprob]] = {}

    def begin(self, request_id: int, params: SamplingParams) -> None:
        if params.stop and self._decode is not None:
            self._stop_checkers[request_id] = StopChecker(self._decode, params.stop, params.min_tokens)
        if params.logprobs is not None:
            self._logprobs[request_id] = []

    def accept(
        self, request_ids: NDArray[np.int32], sampled: SampledTokens, ended_by_token: Callable[[int], bool]
    ) -> list[int]:
        """Take one step's tokens, one for each of `request_ids` [M]; `ended_by_token` says of a request whether its
        token was a stop token. Returns the requests in which a stop string is complete now.
        """
        if (asked := sampled.logprobs) is not None:
            logprobs = token_logprobs(sampled.token_ids[asked.rows], asked.columns, asked.num_top)
            for request_id, logprob in zip(request_ids[asked.rows].tolist(), logprobs, strict=True):
                self._logprobs[request_id].append(logprob)
        if not self._stop_checkers:
            return []
        watched = np.isin(request_ids, np.fromiter(self._stop_checkers, np.int32, len(self._stop_checkers)))
        matched = []
        for row in np.flatnonzero(watched).tolist():
            request_id = int(request_ids[row])
            if ended_by_token(request_id):
                continue
            match = self._stop_checkers[request_id].append([int(sampled.token_ids[row])])
            if match is not None:
                self._stop_matches[request_id] = match
                matched.append(request_id)
        return matched

    def finish(
        self, request_id: int, params: SamplingParams, choice: int, token_ids: tuple[int, ...], reason: str
    ) -> CompletionOutput:
        """The answer of a request that ended for the scheduler's `reason`: stop_token, length, or stopped, by a stop
        string or as a runaway.
        """
        match = self._stop_matches.pop(request_id, None)
        logprobs = self._logprobs.pop(request_id, None)
        self._stop_checkers.pop(request_id, None)
        ended_by_token = match is None and reason == "stop_token"
        text = None
        if self._decode is not None:
            text = final_text(self._decode, token_ids, stop_token_at_end=ended_by_token, stop_match=match)
        stop_reason: str | int | None = match.stop if match is not None else None
        if ended_by_token and token_ids[-1] in params.stop_token_ids:
            stop_reason = token_ids[-1]
        return CompletionOutput(
            index=choice,
            text=text,
            token_ids=token_ids,
            finish_reason=_finish_reason(reason, has_match=match is not None),
            stop_reason=stop_reason,
            logprobs=None if logprobs is None else tuple(logprobs),
        )

    def drop(self, request_id: int) -> None:
        """Forget a request that was cancelled."""
        self._stop_checkers.pop(request_id, None)
        self._stop_matches.pop(request_id, None)
        self._logprobs.pop(request_id, None)


def _finish_reason(reason: str, *, has_match: bool) -> FinishReason:
    if has_match or reason == "stop_token":
        return "stop"
    return "repetition" if reason == "stopped" else "length"


def token_logprobs(
    token_ids: NDArray[np.int32], logprobs: Logprobs, num_top: NDArray[np.int32] | None = None
) -> Iterator[TokenLogprob]:
    """Each of the tokens [R] with its log-probability and its `num_top` [R] most likely ones; None: all there are."""
    counts = [None] * len(token_ids) if num_top is None else num_top.tolist()
    rows = zip(token_ids.tolist(), *(column.tolist() for column in logprobs), counts, strict=True)
    for token_id, chosen, top_ids, top_logprobs, count in rows:
        yield TokenLogprob(token_id, chosen, tuple(zip(top_ids[:count], top_logprobs[:count], strict=True)))
