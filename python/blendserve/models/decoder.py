"""The decoder of Llama and its relatives on packed tokens: no batch dimension, no cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from blendserve.models.config import Activation, ModelConfig
from blendserve.models.decoder_weights import LayerWeights, Linear, WeightLoader
from blendserve.models.model import Model
from blendserve.models.rotary import inverse_frequencies, rotation_at
from blendserve.models.weights import Checkpoint

if TYPE_CHECKING:
    from blendserve.attention.base import AttentionBackend

__all__ = ["Decoder"]


class Decoder(Model):
    """Weights on one device, in one dtype. `forward` changes nothing but the attention backend's KV cache.

    If it streams its layers it reads them from the checkpoint in every pass, and holds one at a time.
    """

    def __init__(
        self,
        config: ModelConfig,
        checkpoint: Checkpoint,
        dtype: torch.dtype,
        device: torch.device,
        *,
        streams_layers: bool = False,
    ) -> None:
        loader = WeightLoader(config, checkpoint, dtype, device)
        self.config: ModelConfig = config
        self.dtype = dtype
        self.device = device
        self._embedding = loader.embedding()
        self._embedding_scale = torch.tensor(config.embedding_scale, dtype=dtype).item()
        self._layers = _StreamedLayers(loader) if streams_layers else list(_StreamedLayers(loader))
        self._final_norm = loader.final_norm()
        self._lm_head = self._embedding if config.tie_word_embeddings else loader.lm_head()
        ropes = {config.rope_of(layer) for layer in range(config.num_layers)}
        self._frequencies = {rope: inverse_frequencies(rope, config.head_dim).to(device) for rope in ropes}
        self._activate = _ACTIVATIONS[config.activation]

    @torch.inference_mode()
    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        """Logits [M, vocab_size] float32 of the rows `logit_rows` [M] of the packed `token_ids` [T], all int64.

        `attention` has been planned for this step. The q, k and v it gets are views into one buffer: the heads of a
        token are dense, tokens are (num_heads + 2 * num_kv_heads) * head_dim elements apart.
        """
        config = self.config
        rotations = {rope: rotation_at(positions, each, self.dtype) for rope, each in self._frequencies.items()}
        hidden = F.embedding(token_ids, self._embedding)
        if self._embedding_scale != 1.0:
            hidden.mul_(self._embedding_scale)
        for index, layer in enumerate(self._layers):
            q, k, v = self._heads(layer, hidden)
            attended = attention.forward(index, q, k, v, rotations[config.rope_of(index)]).flatten(1)
            self._add_(hidden, layer.attention_output, attended, layer.post_attention_norm)

            gate, up = layer.gate_up(self._norm(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            self._add_(hidden, layer.down, self._activate(gate).mul_(up), layer.post_mlp_norm)
        logits = F.linear(self._norm(hidden[logit_rows], self._final_norm), self._lm_head).float()
        return _softcapped(logits, config.final_softcap) if config.final_softcap else logits

    def _heads(self, layer: LayerWeights, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The queries and keys, before their rotation, and the values: [T, heads, head_dim] each."""
        config = self.config
        heads = layer.qkv(self._norm(hidden, layer.attention_norm)).view(len(hidden), -1, config.head_dim)
        q, k, v = torch.split(heads, [config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q.copy_(self._norm(q, layer.q_norm))
            k.copy_(self._norm(k, layer.k_norm))
        return q, k, v

    def _add_(self, residual: torch.Tensor, linear: Linear, x: torch.Tensor, norm: torch.Tensor | None) -> None:
        """residual += linear(x), normed first if there is a norm; in place."""
        if norm is None:
            linear.add_to_(residual, x)
        else:
            residual.add_(self._norm(linear(x), norm))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """In the dtype of the weight: of a norm with an offset it is float32."""
        return F.rms_norm(x.to(weight.dtype), weight.shape, weight, self.config.rms_norm_eps).to(x.dtype)


class _StreamedLayers:
    def __init__(self, loader: WeightLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[LayerWeights]:
        return map(self._loader.layer, range(self._loader.config.num_layers))


def _softcapped(logits: torch.Tensor, cap: float) -> torch.Tensor:
    return logits.div_(cap).tanh_().mul_(cap)


# They may write to what they are given.
_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": partial(F.silu, inplace=True),
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}
