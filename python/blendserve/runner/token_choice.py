"""Draws one token for each row of logits: temperature, then min-p, top-k and top-p, then the inverse CDF.

Probabilities become integers before anything is summed. Integer sums are exact, so neither the order of summation nor
the rows beside a row can change its token, no cumulative sum ever falls, and a token of weight 0 is never drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["DrawSettings", "draw_from_most_likely", "draw_from_vocabulary", "most_likely_ids"]

_UNIT_WEIGHT = 2.0**52  # of probability 1: a row's weights sum to less than 2**53, so float64 holds any sum exactly
_NUM_CANDIDATES = 256  # most likely tokens tried first; a row whose kept set may reach further is sorted whole
_ID_MASK = 2**32 - 1


@dataclass(frozen=True)
class DrawSettings:
    """One entry per row: temperature > 0, top_p in (0, 1], top_k >= 0 (0 is off), min_p in [0, 1] (0 is off), uniform
    float64 in [0, 1).
    """

    temperature: NDArray[np.float32]
    top_p: NDArray[np.float32]
    top_k: NDArray[np.int32]
    min_p: NDArray[np.float32]
    uniform: NDArray[np.float64]

    def on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The fields in order, as float64 columns [R] on the device; float64 holds each exactly."""
        columns = np.stack([getattr(self, field.name) for field in fields(self)]).astype(np.float64)
        return tuple(torch.from_numpy(columns).to(device))


def most_likely_ids(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Token ids [R, count] int64 of each row's largest logits, best first, lowest id first among equals."""
    return _lowest_ids(_rank_keys(_likelihood_gaps(logits)), count)


def draw_from_vocabulary(logits: torch.Tensor, settings: DrawSettings) -> torch.Tensor:
    """Token ids [R] int64 for logits [R, V] float32: the inverse CDF over all tokens in order of id."""
    temperature, *_, uniform = settings.on(logits.device)
    cumulative = _weights(_likelihood_gaps(logits), temperature).cumsum(dim=-1)
    return _invert(cumulative, cumulative[:, -1], uniform)


def draw_from_most_likely(logits: torch.Tensor, settings: DrawSettings) -> torch.Tensor:
    """Token ids [R] int64 for logits [R, V] float32: the inverse CDF over the tokens that min_p, top_k and then top_p
    keep, most likely first. top_p counts shares of what the other two kept.
    """
    vocab_size = logits.shape[1]
    temperature, top_p, top_k, min_p, uniform = settings.on(logits.device)
    top_k = torch.where(top_k == 0, vocab_size, top_k.clamp(max=vocab_size)).long()
    gaps = _likelihood_gaps(logits)
    weights = _weights(gaps, temperature)
    if np.any(settings.min_p > 0.0):
        top_k = torch.minimum(top_k, _num_likely(weights, min_p))
    rows = _RankedRows(_rank_keys(gaps), weights, top_k, top_p, uniform)
    token_ids, settled = _draw_ranked(rows, min(_NUM_CANDIDATES, vocab_size))
    if np.any((settings.top_k == 0) | (settings.top_k > _NUM_CANDIDATES)):
        rest = torch.nonzero(~settled).squeeze(1)
        if len(rest) > 0:
            token_ids[rest], _ = _draw_ranked(rows.take(rest), vocab_size)
    return token_ids


def _likelihood_gaps(logits: torch.Tensor) -> torch.Tensor:
    """How far each logit is below its row's largest: [R, V] float32, 0 for the most likely token."""
    return logits.amax(dim=-1, keepdim=True) - logits


def _rank_keys(gaps: torch.Tensor) -> torch.Tensor:
    """Integers [R, V] that ascend from the most likely token to the least, lowest id first among equals.

    A gap is not negative, so its bits ascend as it does; the token id is in the low 32 bits.
    """
    token_ids = torch.arange(gaps.shape[1], device=gaps.device)
    return gaps.view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(token_ids)


def _lowest_ids(keys: torch.Tensor, count: int) -> torch.Tensor:
    """The token ids of the `count` lowest keys of each row, ascending."""
    whole = count == keys.shape[1]
    lowest = keys.sort(dim=-1).values if whole else keys.topk(count, dim=-1, largest=False).values
    return lowest & _ID_MASK


def _weights(gaps: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Probabilities at the temperature, as integers [R, V]; those below 2**-52 are 0."""
    scaled = gaps / -temperature[:, None].float()
    return torch.softmax(scaled, dim=-1).mul_(_UNIT_WEIGHT).long()


def _num_likely(weights: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """How many tokens of each row are at least min_p times as likely as its most likely one: [R] int64, at least 1.

    They are its most likely ones, so min_p is a top_k that depends on the row.
    """
    threshold = min_p * weights.amax(dim=-1)
    return (weights >= threshold[:, None]).sum(dim=-1).clamp(min=1)


def _invert(cumulative: torch.Tensor, total: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first column whose cumulative weight exceeds uniform * total: [R] int64, always a valid column.

    The product may round up to the total, hence the minimum; rows of NaN have no right answer, hence the clamp.
    """
    target = torch.minimum((uniform * total).long(), total - 1)
    column = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)
    return column.clamp(max=cumulative.shape[1] - 1)


class _RankedRows(NamedTuple):
    keys: torch.Tensor  # [R, V] int64, of `_rank_keys`
    weights: torch.Tensor  # [R, V] int64, by token id
    top_k: torch.Tensor  # [R] int64, 1 to V
    top_p: torch.Tensor  # [R] float64
    uniform: torch.Tensor  # [R] float64

    def take(self, rows: torch.Tensor) -> _RankedRows:
        return _RankedRows(*(column[rows] for column in self))


def _draw_ranked(rows: _RankedRows, num_candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws from the kept part of each row's `num_candidates` most likely tokens.

    Returns token ids [R] and whether each row's kept set lies among the candidates; where it does not, the id is void.
    """
    keys, weights, top_k, top_p, uniform = rows
    candidates = _lowest_ids(keys, num_candidates)
    mass = weights.gather(1, candidates)
    cumulative = mass.cumsum(dim=-1)
    within = top_k <= num_candidates
    last = top_k.clamp(max=num_candidates) - 1
    eligible = torch.where(within, cumulative.gather(1, last[:, None]).squeeze(1), weights.sum(dim=-1))
    threshold = top_p * eligible
    rank = torch.arange(num_candidates, device=keys.device)
    kept = (cumulative - mass < threshold[:, None]) & (rank < top_k[:, None])
    kept_mass = torch.where(kept, mass, 0).sum(dim=-1)
    token_ids = candidates.gather(1, _invert(cumulative, kept_mass, uniform)[:, None]).squeeze(1)
    settled = within | ((top_k == weights.shape[1]) & (cumulative[:, -1] >= threshold))
    return token_ids, settled
