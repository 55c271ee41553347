"""A stand-in for a model with a paged KV cache: its next token is a formula of the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from blendserve import StepPlan, StepScheduler
from numpy.typing import NDArray

VOCAB_SIZE = 5


def next_token(tokens: Sequence[int]) -> int:
    """What the stand-in for a model answers: a function of the whole sequence."""
    return (sum((i + 1) * (token + 1) for i, token in enumerate(tokens)) * 7 + 3) % VOCAB_SIZE


def answer(prompt: Sequence[int], max_new_tokens: int, stop: int | None = None) -> list[int]:
    """What a request generates alone."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_new_tokens:
        tokens.append(next_token(tokens))
        if tokens[-1] == stop:
            break
    return tokens[len(prompt) :]


class PagedExecutor:
    """Runs plans as a model with a paged KV cache does: it knows of a sequence only what stands in its blocks."""

    def __init__(self, scheduler: StepScheduler, block_size: int) -> None:
        self.block_size = block_size
        self.slots = np.full(scheduler.num_blocks * block_size, -1)

    def run(self, plan: StepPlan) -> NDArray[np.int32]:
        self.slots[plan.slot_mapping] = plan.token_ids
        sampled = []
        for row, request_id in zip(plan.logit_rows, plan.sample_ids, strict=True):
            sequence = int(np.searchsorted(plan.qo_indptr, row, side="right")) - 1
            assert plan.request_ids[sequence] == request_id
            assert row == plan.qo_indptr[sequence + 1] - 1
            blocks = plan.block_table[plan.block_indptr[sequence] : plan.block_indptr[sequence + 1]]
            slots = blocks[:, None] * self.block_size + np.arange(self.block_size)
            tokens = self.slots[slots.ravel()[: plan.kv_lens[sequence]]]
            assert (tokens >= 0).all()
            assert plan.positions[row] == len(tokens) - 1
            sampled.append(next_token(tokens.tolist()))
        return np.array(sampled, np.int32)
