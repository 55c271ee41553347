"""The slow, obvious reference: gathers each sequence's K and V and attends by the definition. Any device."""

from __future__ import annotations

import torch

from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.kv_elements import as_cached, as_indexable, from_cached
from blendserve.attention.rotation import Rotation, rotate_

__all__ = ["TorchReferenceAttention"]


class TorchReferenceAttention:
    name = "torch_ref"

    def __init__(self, spec: AttentionSpec) -> None:
        self.spec = spec
        self.kv_cache = torch.zeros((spec.num_layers, *spec.layer_shape), dtype=spec.dtype, device=spec.device)
        self._step: StepTensors | None = None

    def plan(self, step: StepTensors) -> None:
        self._step = step

    def forward(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: Rotation | None = None
    ) -> torch.Tensor:
        if self._step is None:
            raise RuntimeError("forward() before plan(): call plan(step) once per step")
        step = self._step
        rotate_(q, rotation)
        rotate_(k, rotation)
        kv = as_indexable(self.kv_cache[layer])
        blocks = torch.tensor(step.slot_mapping // self.spec.block_size, device=kv.device)
        offsets = torch.tensor(step.slot_mapping % self.spec.block_size, device=kv.device)
        for side, (x, scale) in enumerate(zip((k, v), self.spec.kv_scale(layer), strict=True)):
            kv[blocks, side, :, offsets] = as_indexable(as_cached(x, self.spec.dtype, scale))
        out = torch.empty_like(q)
        for s, kv_len in enumerate(step.kv_lens.tolist()):
            tokens = slice(int(step.qo_indptr[s]), int(step.qo_indptr[s + 1]))
            table = torch.tensor(step.block_table[step.block_indptr[s] : step.block_indptr[s + 1]], device=kv.device)
            keys_values = self._keys_and_values(layer, kv[table.long()], kv_len)
            out[tokens] = self._attend(q[tokens], keys_values, self.spec.window(layer))
        return out

    def _keys_and_values(self, layer: int, blocks: torch.Tensor, kv_len: int) -> torch.Tensor:
        """[2, num_kv_heads, kv_len, head_dim] in float32, of a sequence's blocks [n, 2, num_kv_heads, block_size,
        head_dim].
        """
        cached = blocks.view(self.spec.dtype).permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :kv_len]
        scales = self.spec.kv_scale(layer)
        return torch.stack([from_cached(x, torch.float32, scale) for x, scale in zip(cached, scales, strict=True)])

    def _attend(self, q: torch.Tensor, kv: torch.Tensor, window: int) -> torch.Tensor:
        """q [qo_len, num_heads, head_dim], the sequence's keys and values."""
        kv_len = kv.shape[2]
        k, v = kv.repeat_interleave(self.spec.num_heads // self.spec.num_kv_heads, dim=1)
        scores = torch.einsum("thd,hpd->htp", q.float(), k) * self.spec.scale
        if self.spec.softcap:
            scores = self.spec.softcap * torch.tanh(scores / self.spec.softcap)
        last_position = torch.arange(kv_len - len(q), kv_len, device=q.device)[:, None]
        positions = torch.arange(kv_len, device=q.device)
        hidden = positions > last_position
        if window:
            hidden |= positions <= last_position - window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        return torch.einsum("htp,hpd->thd", weights, v).to(q.dtype)
