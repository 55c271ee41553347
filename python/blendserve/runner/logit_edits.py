"""What changes a request's logits before its next token is chosen: logit bias, penalties, a minimum length.

Only the logits of the tokens concerned are touched, each by itself in float32, so that neither the rows beside a row
nor their order can change a bit of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve.runner.token_penalties import TokenPenalties, penalised
from blendserve.sampling_params import SamplingParams

__all__ = ["LogitEdits", "apply_edits_"]


@dataclass(frozen=True, slots=True)
class LogitEdits:
    """Of one request. `end_ids` are not chosen at output positions below `min_tokens`; `penalties` have counted all
    output tokens before the position that is to be filled.
    """

    bias_ids: NDArray[np.int32]
    bias: NDArray[np.float32]
    penalties: TokenPenalties | None
    min_tokens: int
    end_ids: NDArray[np.int32]

    @classmethod
    def of(
        cls, params: SamplingParams, prompt_token_ids: NDArray[np.int32], end_ids: Iterable[int]
    ) -> LogitEdits | None:
        """None for a request whose logits stay as they are. `end_ids` are the tokens that end its answer."""
        if not params.edits_logits:
            return None
        bias = dict(params.logit_bias)
        return cls(
            bias_ids=np.array(list(bias), np.int32),
            bias=np.array(list(bias.values()), np.float32),
            penalties=TokenPenalties.of(params, prompt_token_ids),
            min_tokens=params.min_tokens,
            end_ids=np.array(list(end_ids), np.int32),
        )


def apply_edits_(logits: torch.Tensor, edits: Sequence[LogitEdits | None], positions: NDArray[np.int32]) -> None:
    """Edits `logits` [R, V] float32 in place, each row for the output position [R] that it is to fill.

    In this order: bias, then penalties, then what would end the answer too early is out.
    """
    rows = [(row, each) for row, each in enumerate(edits) if each is not None]
    biased = [(row, each.bias_ids, each.bias) for row, each in rows if len(each.bias_ids) > 0]
    if biased:
        cells = _cells(logits, [(row, ids) for row, ids, _ in biased])
        logits[cells] += _on(logits, [bias for _, _, bias in biased])

    counted = [(row, each.penalties) for row, each in rows if each.penalties is not None]
    if counted:
        cells = _cells(logits, [(row, penalties.used()[0]) for row, penalties in counted])
        logits[cells] = penalised(logits[cells], _on(logits, [penalties.terms() for _, penalties in counted]))

    too_early = [(row, each.end_ids) for row, each in rows if positions[row] < each.min_tokens]
    if too_early:
        logits[_cells(logits, too_early)] = -torch.inf


def _cells(
    logits: torch.Tensor, ids_of_rows: Sequence[tuple[int, NDArray[np.int32]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of every row's logits of its ids, one row after the other."""
    rows = [np.full(len(ids), row, np.int64) for row, ids in ids_of_rows]
    columns = [ids.astype(np.int64) for _, ids in ids_of_rows]
    return _on(logits, rows), _on(logits, columns)


def _on(logits: torch.Tensor, parts: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    """The parts end to end, beside the logits."""
    return torch.from_numpy(np.concatenate(parts, axis=-1)).to(logits.device)
