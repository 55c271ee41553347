"""The sampling settings of all requests, ready to be gathered for a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blendserve.runner.logit_edits import LogitEdits

__all__ = ["SamplingTable"]

_FLOAT32 = np.finfo(np.float32)


class SamplingTable:
    """A structure of arrays, indexed by the scheduler's request id. Rows never set hold nothing of meaning.

    temperature float32 (0 is greedy), top_p float32, top_k int32 (0 is off), min_p float32 (0 is off), key uint64
    (`random_keys.stream_key`), num_logprobs int32 (-1: none asked for), is_plain bool: greedy and without log-probs,
    is_edited bool: whether the request's logits are changed before a token is chosen. `edits` holds how, for those
    only.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.temperature: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.top_p: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.top_k: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.min_p: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.key: NDArray[np.uint64] = np.zeros(capacity, np.uint64)
        self.num_logprobs: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.is_plain: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.is_edited: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.edits: dict[int, LogitEdits] = {}

    def set(
        self,
        ids: int | NDArray[np.integer[Any]],
        *,
        key: ArrayLike,
        temperature: ArrayLike = 1.0,
        top_p: ArrayLike = 1.0,
        top_k: ArrayLike = 0,
        min_p: ArrayLike = 0.0,
        num_logprobs: ArrayLike = -1,
    ) -> None:
        """Sets one request or many; each setting is one value for all or an array as long as `ids`.

        A temperature below the smallest normal float32 counts as 0, one above the largest as the largest.
        """
        self._reserve(int(np.max(ids, initial=-1)) + 1)
        temperature = np.minimum(np.asarray(temperature, np.float64), float(_FLOAT32.max))
        self.temperature[ids] = np.where(temperature < float(_FLOAT32.tiny), 0.0, temperature)
        self.top_p[ids] = top_p
        self.top_k[ids] = top_k
        self.min_p[ids] = min_p
        self.key[ids] = np.asarray(key, np.uint64)
        self.num_logprobs[ids] = num_logprobs
        self.is_plain[ids] = (self.temperature[ids] == 0) & (self.num_logprobs[ids] < 0)
        self.is_edited[ids] = False

    def edit(self, request_id: int, edits: LogitEdits | None) -> None:
        """How the logits of a request that has been set are changed: from now on, or with None no longer."""
        self.is_edited[request_id] = edits is not None
        if edits is not None:
            self.edits[request_id] = edits
        else:
            self.edits.pop(request_id, None)

    def accept(self, request_ids: NDArray[np.int32], token_ids: NDArray[np.int32]) -> None:
        """The answers of `request_ids` [M] went on with `token_ids` [M]."""
        if not self.edits:
            return
        for row in np.flatnonzero(self.is_edited[request_ids]).tolist():
            penalties = self.edits[int(request_ids[row])].penalties
            if penalties is not None:
                penalties.add(int(token_ids[row]))

    def needs_logits(self, request_ids: NDArray[np.int32]) -> bool:
        """Whether a step's rows need more of their logits than which one is largest."""
        if not np.all(self.is_plain[request_ids]):
            return True
        return bool(self.edits) and bool(np.any(self.is_edited[request_ids]))

    def _reserve(self, size: int) -> None:
        capacity = len(self.key)
        if size <= capacity:
            return
        more = (0, max(size, 2 * capacity) - capacity)
        self.temperature = np.pad(self.temperature, more)
        self.top_p = np.pad(self.top_p, more)
        self.top_k = np.pad(self.top_k, more)
        self.min_p = np.pad(self.min_p, more)
        self.key = np.pad(self.key, more)
        self.num_logprobs = np.pad(self.num_logprobs, more)
        self.is_plain = np.pad(self.is_plain, more)
        self.is_edited = np.pad(self.is_edited, more)
