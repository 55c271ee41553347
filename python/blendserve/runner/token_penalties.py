"""How often a request has used each token, and what that takes off their logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve.sampling_params import SamplingParams

__all__ = ["TokenPenalties", "penalised"]

_FLOAT32 = np.finfo(np.float32)


class TokenPenalties:
    """Of one request, which counts the tokens of its answer. Nothing is counted, nor looked up in its prompt, before
    its first token is chosen: requests that wait hold no counts.
    """

    def __init__(self, params: SamplingParams, prompt_token_ids: NDArray[np.int32]) -> None:
        self._repetition = np.float32(np.clip(params.repetition_penalty, _FLOAT32.tiny, _FLOAT32.max))
        self._frequency = np.float32(params.frequency_penalty)
        self._presence = np.float32(params.presence_penalty)
        self._prompt = prompt_token_ids if params.repetition_penalty != 1.0 else np.empty(0, np.int32)
        self._used: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    @classmethod
    def of(cls, params: SamplingParams, prompt_token_ids: NDArray[np.int32]) -> TokenPenalties | None:
        """None for a request without penalties."""
        return cls(params, prompt_token_ids) if params.has_penalties else None

    def used(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The tokens used so far, int32 [u] ascending, and how often the answer has each, int32 [u]: 0 for tokens that
        only the prompt has, which are here where repetition is penalised.
        """
        if self._used is None:
            ids = np.unique(self._prompt)
            self._used = ids, np.zeros(len(ids), np.int32)
        return self._used

    def terms(self) -> NDArray[np.float32]:
        """[2, u]: for each token used the factor against repetition, and what the other two penalties take off."""
        ids, counts = self.used()
        subtracted = self._frequency * counts + self._presence * (counts > 0)
        return np.stack([np.full(len(ids), self._repetition), subtracted]).astype(np.float32)

    def add(self, token_id: int) -> None:
        """The answer went on with this token."""
        ids, counts = self.used()
        place = int(np.searchsorted(ids, token_id))
        if place < len(ids) and ids[place] == token_id:
            counts[place] += 1
        else:
            self._used = np.insert(ids, place, token_id), np.insert(counts, place, 1)


def penalised(values: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    """The logits `values` [u] after the penalties `terms` [2, u]; a factor above 1 makes a token less likely."""
    factor, subtracted = terms.unbind()
    return torch.where(values > 0, values / factor, values * factor).sub_(subtracted)
