"""The slow, obvious attention backend: every sequence keeps its keys and values as one tensor per layer."""

from __future__ import annotations

import math

import torch
from blendserve.attention.rotation import Rotation, rotate_


class DenseAttention:
    name = "dense"

    def __init__(self, num_layers: int) -> None:
        self._cache: list[dict[int, tuple[torch.Tensor, torch.Tensor]]] = [{} for _ in range(num_layers)]
        self._spans: list[tuple[int, int]] = []

    def plan(self, spans: list[tuple[int, int]]) -> None:
        """spans: (sequence, number of new tokens), in the order in which they are packed."""
        self._spans = spans

    def forward(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: Rotation | None = None
    ) -> torch.Tensor:
        rotate_(q, rotation)
        rotate_(k, rotation)
        outputs, start = [], 0
        for sequence, length in self._spans:
            rows = slice(start, start + length)
            start += length
            keys, values = self._append(layer, sequence, k[rows], v[rows])
            outputs.append(_causal_attention(q[rows], keys, values))
        return torch.cat(outputs)

    def _append(self, layer: int, sequence: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._cache[layer].get(sequence, (k[:0], v[:0]))
        self._cache[layer][sequence] = torch.cat((keys, k)), torch.cat((values, v))
        return self._cache[layer][sequence]


def _causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q [qo_len, num_heads, head_dim]; k, v [kv_len, num_kv_heads, head_dim]; the last query sees every key."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k).float() / math.sqrt(q.shape[-1])
    first = k.shape[0] - q.shape[0]
    hidden = torch.arange(k.shape[0])[None, :] > torch.arange(first, k.shape[0])[:, None]
    weights = scores.masked_fill(hidden, -math.inf).softmax(dim=-1).to(q.dtype)
    return torch.einsum("hqk,khd->qhd", weights, v)
