"""From the logits of a step to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve._core import random_uniforms
from blendserve.runner.logit_edits import apply_edits_
from blendserve.runner.logprobs import Logprobs, chunks, packed_logprobs, unpacked
from blendserve.runner.sampling_table import SamplingTable
from blendserve.runner.token_choice import DrawSettings, draw_from_most_likely, draw_from_vocabulary

__all__ = ["LogprobRows", "SampledTokens", "Sampler", "SamplingTable"]

Choice = Callable[[torch.Tensor, DrawSettings], torch.Tensor]  # logits [R, V] and settings [R] to token ids [R]


@dataclass(frozen=True)
class LogprobRows:
    """Log-probabilities under the model's own distribution, for the R of a step's M rows that asked for them.

    `rows` [R] int32 are their places among the M, `num_top` [R] int32 how many most likely tokens each asked for (at
    most the vocabulary); `columns` [R] are of the sampled tokens, with the most that any row asked for.
    """

    rows: NDArray[np.int32]
    num_top: NDArray[np.int32]
    columns: Logprobs

    def only(self, keeps: NDArray[np.bool_]) -> LogprobRows:
        """Of those of the M rows for which `keeps` is true."""
        places = np.cumsum(keeps, dtype=np.int32) - 1
        kept = keeps[self.rows]
        chosen, top_ids, top_logprobs = self.columns
        columns = Logprobs(chosen[kept], top_ids[kept], top_logprobs[kept])
        return LogprobRows(places[self.rows[kept]], self.num_top[kept], columns)


@dataclass(frozen=True)
class SampledTokens:
    """One token per row of the step, [M] int32; `logprobs` is None when no row asked."""

    token_ids: NDArray[np.int32]
    logprobs: LogprobRows | None

    def only(self, keeps: NDArray[np.bool_]) -> SampledTokens:
        """Of the rows for which `keeps` [M] is true."""
        return SampledTokens(self.token_ids[keeps], None if self.logprobs is None else self.logprobs.only(keeps))


class Sampler:
    """Samples all rows of a step together. A row's result depends on its logits, its settings, its position and the
    tokens of its own request alone.
    """

    def __init__(self, table: SamplingTable) -> None:
        self._table = table

    @torch.inference_mode()
    def sample(
        self, logits: torch.Tensor, request_ids: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> SampledTokens:
        """`logits` [M, V] float32 on any device, the requests [M] of its rows and the output positions [M] they fill.

        Greedy rows take the most likely token, lowest id first among equals. Results reach the host in one transfer.
        """
        token_ids = logits.argmax(dim=-1)
        if self._table.needs_logits(request_ids):
            for choose, members in self._choices(request_ids):
                for rows in chunks(members, logits):
                    on_device = torch.from_numpy(rows).to(logits.device)
                    edited = self._edited(logits[on_device], request_ids[rows], positions[rows])
                    token_ids[on_device] = choose(edited, self._draw_settings(request_ids[rows], positions[rows]))

        num_logprobs = self._table.num_logprobs[request_ids]
        asked = np.flatnonzero(num_logprobs >= 0)
        if len(asked) == 0:
            return SampledTokens(token_ids.int().cpu().numpy(), None)
        return _with_logprobs(logits, token_ids, asked, np.minimum(num_logprobs[asked], logits.shape[1]))

    def _choices(self, ids: NDArray[np.int32]) -> Iterator[tuple[Choice, NDArray[np.intp]]]:
        """The rows that don't just take their most likely token, by how they choose."""
        table = self._table
        greedy = table.temperature[ids] == 0
        filtered = (table.top_k[ids] > 0) | (table.top_p[ids] < 1.0) | (table.min_p[ids] > 0.0)
        yield _most_likely, np.flatnonzero(greedy & table.is_edited[ids])
        yield draw_from_vocabulary, np.flatnonzero(~greedy & ~filtered)
        yield draw_from_most_likely, np.flatnonzero(~greedy & filtered)

    def _edited(self, logits: torch.Tensor, ids: NDArray[np.int32], positions: NDArray[np.int32]) -> torch.Tensor:
        """`logits`, a copy of the model's, after the edits its requests ask for."""
        if np.any(self._table.is_edited[ids]):
            apply_edits_(logits, [self._table.edits.get(request_id) for request_id in ids.tolist()], positions)
        return logits

    def _draw_settings(self, ids: NDArray[np.int32], positions: NDArray[np.int32]) -> DrawSettings:
        table = self._table
        uniform = random_uniforms(table.key[ids], positions.astype(np.int64))
        return DrawSettings(table.temperature[ids], table.top_p[ids], table.top_k[ids], table.min_p[ids], uniform)


def _most_likely(logits: torch.Tensor, _: DrawSettings) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _with_logprobs(
    logits: torch.Tensor, token_ids: torch.Tensor, asked: NDArray[np.intp], num_top: NDArray[np.int32]
) -> SampledTokens:
    most = int(num_top.max())
    packed = torch.cat([token_ids.int(), packed_logprobs(logits, asked, token_ids, most)]).cpu().numpy()
    logprobs = unpacked(packed[len(token_ids) :], most)
    return SampledTokens(packed[: len(token_ids)], LogprobRows(asked.astype(np.int32), num_top, logprobs))
