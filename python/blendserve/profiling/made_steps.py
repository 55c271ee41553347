"""Steps of any shape, over blocks that lie in no order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blendserve.attention import StepTensors

__all__ = ["BLOCK_SIZE", "made_step"]

BLOCK_SIZE = 16


def made_step(qo_lens: Sequence[int], kv_lens: Sequence[int]) -> StepTensors:
    """Sequences with `qo_lens` new tokens at the end of `kv_lens` positions each; no block is shared."""
    num_blocks = [-(-kv_len // BLOCK_SIZE) for kv_len in kv_lens]
    block_indptr = np.concatenate([[0], np.cumsum(num_blocks)]).astype(np.int32)
    table = np.random.default_rng(1).permutation(block_indptr[-1]).astype(np.int32)
    rows = np.repeat(np.arange(len(qo_lens)), qo_lens)
    positions = np.concatenate(
        [np.arange(kv_len - qo_len, kv_len) for qo_len, kv_len in zip(qo_lens, kv_lens, strict=True)]
    ).astype(np.int32)
    blocks = table[block_indptr[rows] + positions // BLOCK_SIZE].astype(np.int64)
    return StepTensors(
        qo_indptr=np.concatenate([[0], np.cumsum(qo_lens)]).astype(np.int32),
        kv_lens=np.array(kv_lens, np.int32),
        block_indptr=block_indptr,
        block_table=table,
        slot_mapping=blocks * BLOCK_SIZE + positions % BLOCK_SIZE,
        positions=positions,
    )
