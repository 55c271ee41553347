"""From the logits of a step to its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve._core import random_uniforms
from blendserve.runner.sampling_table import SamplingTable
from blendserve.runner.token_choice import DrawSettings, draw_from_most_likely, draw_from_vocabulary, most_likely_ids

__all__ = ["LogprobRows", "SampledTokens", "Sampler", "SamplingTable"]

# Logits worked on at once; each temporary takes 8 bytes for one. On a CPU they then come from memory the allocator
# keeps (larger ones are mapped and zeroed anew each time, 5 times slower); on a GPU they leave room for the KV cache.
_CPU_CHUNK_ELEMENTS = 2**20
_GPU_CHUNK_ELEMENTS = 2**24


@dataclass(frozen=True)
class LogprobRows:
    """Log-probabilities under the model's own distribution, for the R of a step's M rows that asked for them.

    `rows` [R] int32 are their places among the M, `num_top` [R] int32 how many most likely tokens each asked for (at
    most the vocabulary), `chosen` [R] float32 the sampled token's. `top_ids` int32 and `top_logprobs` float32 are
    [R, K], best first, lowest id first among equals; K is the most any row asked for.
    """

    rows: NDArray[np.int32]
    num_top: NDArray[np.int32]
    chosen: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class SampledTokens:
    """One token per row of the step, [M] int32; `logprobs` is None when no row asked."""

    token_ids: NDArray[np.int32]
    logprobs: LogprobRows | None


class Sampler:
    """Samples all rows of a step together. A row's result depends on its logits, its settings, its position alone."""

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
        sampled = np.flatnonzero(self._table.temperature[request_ids])
        if len(sampled) > 0:
            settings = self._draw_settings(request_ids[sampled], positions[sampled])
            filtered = settings.filtered
            for draw, chosen in ((draw_from_vocabulary, ~filtered), (draw_from_most_likely, filtered)):
                for part in _chunks(np.flatnonzero(chosen), logits):
                    rows = torch.from_numpy(sampled[part]).to(logits.device)
                    token_ids[rows] = draw(logits[rows], settings.take(part))

        num_logprobs = self._table.num_logprobs[request_ids]
        asked = np.flatnonzero(num_logprobs >= 0)
        if len(asked) == 0:
            return SampledTokens(token_ids.int().cpu().numpy(), None)
        num_top = np.minimum(num_logprobs[asked], logits.shape[1])
        return _with_logprobs(logits, token_ids, asked, num_top)

    def _draw_settings(self, ids: NDArray[np.int32], positions: NDArray[np.int32]) -> DrawSettings:
        table = self._table
        uniform = random_uniforms(table.key[ids], positions.astype(np.int64))
        return DrawSettings(table.temperature[ids], table.top_p[ids], table.top_k[ids], uniform)


def _chunks(rows: NDArray[np.intp], logits: torch.Tensor) -> Iterator[NDArray[np.intp]]:
    num_elements = _CPU_CHUNK_ELEMENTS if logits.device.type == "cpu" else _GPU_CHUNK_ELEMENTS
    size = max(1, num_elements // logits.shape[1])
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _with_logprobs(
    logits: torch.Tensor, token_ids: torch.Tensor, asked: NDArray[np.intp], num_top: NDArray[np.int32]
) -> SampledTokens:
    num_columns = int(num_top.max())
    parts = [token_ids.int()]
    for chunk in _chunks(asked, logits):
        rows = torch.from_numpy(chunk).to(logits.device)
        columns = _logprob_columns(logits[rows], token_ids[rows], num_columns)
        parts.append(columns.flatten())
    # One int32 vector: the token ids, then for each asking row its logprob, top ids and top logprobs (float bits).
    packed = torch.cat(parts).cpu().numpy()
    columns_of_row = packed[len(token_ids) :].reshape(len(asked), 1 + 2 * num_columns)
    ids, logprobs = columns_of_row[:, 1 : 1 + num_columns], columns_of_row.view(np.float32)
    return SampledTokens(
        token_ids=packed[: len(token_ids)],
        logprobs=LogprobRows(
            rows=asked.astype(np.int32),
            num_top=num_top,
            chosen=logprobs[:, 0],
            top_ids=ids,
            top_logprobs=logprobs[:, 1 + num_columns :],
        ),
    )


def _logprob_columns(logits: torch.Tensor, chosen: torch.Tensor, num_top: int) -> torch.Tensor:
    """[R, 1 + 2 * num_top] int32: the chosen token's logprob, the top ids, the top logprobs; floats as their bits."""
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen_logprob = logprobs.gather(1, chosen[:, None])
    if num_top == 0:
        return chosen_logprob.view(torch.int32)
    top_ids = most_likely_ids(logits, num_top)
    top_logprobs = logprobs.gather(1, top_ids)
    return torch.cat([chosen_logprob.view(torch.int32), top_ids.int(), top_logprobs.view(torch.int32)], dim=1)
