"""Whether a model computes the same logits packed in a step, over a paged KV cache, as for each sequence by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.torch_ref import TorchReferenceAttention
from blendserve.models.model import Model
from blendserve.models.shape import ModelShape

__all__ = ["paged_logits_error", "reference_logits"]

# Two sequences in two steps, (first, end) positions each: a longer and a shorter prefill chunk, a decode and a chunk.
_STEPS = [[(0, 6), (0, 3)], [(6, 7), (3, 8)]]
_BLOCK_SIZE = 4
_BLOCKS_EACH = 2


def paged_logits_error(model: Model, expected: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> float:
    """The norm of the logits' difference over that of the right ones, which `expected` gives for a sequence."""
    shape = model.config
    ends = [end for _, end in _STEPS[-1]]
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(shape.vocab_size, (end,), generator=generator).to(device) for end in ends]
    wanted = torch.cat([expected(sequence) for sequence in sequences])
    attention = _reference_attention(shape, _BLOCKS_EACH * len(sequences), device)
    parts: list[list[torch.Tensor]] = [[] for _ in sequences]
    for spans in _STEPS:
        step = _step(spans)
        attention.plan(step)
        tokens = torch.cat([sequence[slice(*span)] for sequence, span in zip(sequences, spans, strict=True)])
        positions = torch.from_numpy(step.positions.astype(np.int64)).to(device)
        logits = model.forward(tokens, positions, attention, torch.arange(len(tokens), device=device))
        for part, rows in zip(parts, torch.split(logits, [end - first for first, end in spans]), strict=True):
            part.append(rows)
    got = torch.cat([rows for part in parts for rows in part])
    return float((got - wanted).norm() / wanted.norm())


def reference_logits(model: Model, sequence: NDArray[np.int32], device: torch.device) -> torch.Tensor:
    """Logits [T, vocab_size] behind every token of a sequence [T], computed in one step with torch_ref attention."""
    num_blocks = -(-len(sequence) // _BLOCK_SIZE)
    attention = _reference_attention(model.config, num_blocks, device)
    positions = np.arange(len(sequence))
    attention.plan(
        StepTensors(
            qo_indptr=np.array([0, len(sequence)], dtype=np.int32),
            kv_lens=np.array([len(sequence)], dtype=np.int32),
            block_indptr=np.array([0, num_blocks], dtype=np.int32),
            block_table=np.arange(num_blocks, dtype=np.int32),
            slot_mapping=positions,
            positions=positions.astype(np.int32),
        )
    )
    tokens, rows = (torch.from_numpy(values.astype(np.int64)).to(device) for values in (sequence, positions))
    return model.forward(tokens, rows, attention, rows)


def _reference_attention(shape: ModelShape, num_blocks: int, device: torch.device) -> TorchReferenceAttention:
    return TorchReferenceAttention(
        AttentionSpec(
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            num_blocks=num_blocks,
            block_size=_BLOCK_SIZE,
            dtype=torch.float32,
            device=device,
            scale=shape.attention_scale,
            windows=shape.windows,
            softcap=shape.attention_softcap,
        )
    )


def _step(spans: list[tuple[int, int]]) -> StepTensors:
    """Sequence s lies in the blocks from _BLOCKS_EACH * s on."""
    positions = [np.arange(first, end) for first, end in spans]
    slots = [_BLOCK_SIZE * _BLOCKS_EACH * s + each for s, each in enumerate(positions)]
    return StepTensors(
        qo_indptr=np.cumsum([0, *map(len, positions)], dtype=np.int32),
        kv_lens=np.array([end for _, end in spans], dtype=np.int32),
        block_indptr=_BLOCKS_EACH * np.arange(len(spans) + 1, dtype=np.int32),
        block_table=np.arange(_BLOCKS_EACH * len(spans), dtype=np.int32),
        slot_mapping=np.concatenate(slots).astype(np.int64),
        positions=np.concatenate(positions).astype(np.int32),
    )
