"""Calls of the layers of a decoder, and of their attention alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from blendserve import _core
from blendserve.attention import AttentionSpec, StepTensors
from blendserve.attention.native_cpu import NativeCpuAttention
from blendserve.models.packed_decoder import PackedDecoder
from blendserve.profiling.made_steps import BLOCK_SIZE

__all__ = ["LayerCalls"]


class LayerCalls:
    """With a KV cache that has room for `num_tokens`."""

    def __init__(self, decoder: PackedDecoder, kv_dtype: torch.dtype, num_tokens: int) -> None:
        config = decoder.config
        self._decoder = decoder
        self._attention = NativeCpuAttention(
            AttentionSpec(
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                num_blocks=-(-num_tokens // BLOCK_SIZE),
                block_size=BLOCK_SIZE,
                dtype=kv_dtype,
                device=torch.device("cpu"),
                scale=config.attention_scale,
                softcap=config.attention_softcap,
            )
        )
        for layer in self._attention.layers:
            layer[:] = 0.01  # what was never written may be no number

    def layers(self, step: StepTensors) -> Callable[[], object]:
        """All that the layers do in a step."""
        positions = torch.from_numpy(step.positions.astype(np.int64))
        token_ids, no_rows = torch.zeros_like(positions), torch.empty(0, dtype=torch.int64)

        def run() -> None:
            self._attention.plan(step)
            self._decoder.most_likely(token_ids, positions, self._attention, no_rows)

        return run

    def attention(self, step: StepTensors) -> Callable[[], object]:
        """Of that, attention."""
        spec = self._attention.spec
        q = np.ones((len(step.positions), spec.num_heads, spec.head_dim), np.float32)
        out = np.empty_like(q)
        indices = (step.qo_indptr, step.kv_lens, step.block_indptr, step.block_table)

        def attend() -> None:
            for layer in self._attention.layers:
                _core.paged_attention(q, layer, out, *indices, spec.scale, softcap=spec.softcap)

        return attend
