"""The decoder of Llama and its relatives on the CPU: packed weights, one C++ call a layer (csrc/model)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from blendserve import _core
from blendserve.attention.native_cpu import NativeCpuAttention
from blendserve.models.config import ModelConfig
from blendserve.models.decoder import Decoder
from blendserve.models.decoder_weights import LayerWeights, Linear, WeightLoader
from blendserve.models.model import Model
from blendserve.models.rotary import inverse_frequencies
from blendserve.models.weights import Checkpoint

if TYPE_CHECKING:
    from blendserve.attention import AttentionBackend
    from blendserve.config import WeightDtype

__all__ = ["PackedDecoder"]


class PackedDecoder(Model):
    """Twin of `Decoder` that computes in float32, whatever it keeps its weights in: the matrices of the layers in
    `weight_dtype` (auto: `dtype`), the others in `dtype`.

    A row of its logits is a function of the tokens before it alone, bit for bit, whatever the batch, the chunks, the
    schedule and the number of threads.
    """

    def __init__(
        self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, weight_dtype: WeightDtype = "auto"
    ) -> None:
        loader = WeightLoader(config, checkpoint, dtype, torch.device("cpu"))
        self.config: ModelConfig = config
        self._checkpoint = checkpoint
        self._embedding = None if config.tie_word_embeddings else loader.embedding()
        self._embedding_scale = torch.tensor(config.embedding_scale, dtype=dtype).item()
        ropes = {config.rope_of(layer) for layer in range(config.num_layers)}
        tables = {rope: _core.RotaryTable(inverse_frequencies(rope, config.head_dim).numpy()) for rope in ropes}
        # One rounding, from what the checkpoint has.
        as_read = dtype if weight_dtype == "auto" else torch.float32
        layers = WeightLoader(config, checkpoint, as_read, torch.device("cpu"))
        self._layers = [
            _layer(config, index, layers.layer(index), tables[config.rope_of(index)], weight_dtype)
            for index in range(config.num_layers)
        ]
        self._head = _core.LmHead(
            norm=_floats(loader.final_norm()),
            linear=_packed(Linear(loader.embedding() if config.tie_word_embeddings else loader.lm_head(), None)),
            rms_norm_eps=config.rms_norm_eps,
            softcap=config.final_softcap,
        )
        self._buffers = _core.LayerBuffers()

    @torch.inference_mode()
    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002 (those of the planned step)
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        """As that of `Decoder`, with native_cpu attention."""
        hidden = self._hidden(token_ids, attention)
        return torch.from_numpy(self._head.logits(hidden, logit_rows.int().numpy()))

    @torch.inference_mode()
    def most_likely(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002 (those of the planned step)
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        """The arg-max is taken block by block: the logits are never written."""
        hidden = self._hidden(token_ids, attention)
        return torch.from_numpy(self._head.most_likely(hidden, logit_rows.int().numpy()))

    def reference(self) -> Model:
        """In float32, as the checkpoint has the weights; read again, layer by layer, when it runs."""
        return Decoder(self.config, self._checkpoint, torch.float32, torch.device("cpu"), streams_layers=True)

    def _hidden(self, token_ids: torch.Tensor, attention: AttentionBackend) -> NDArray[np.float32]:
        """The states [T, hidden_size] behind the last layer."""
        if not isinstance(attention, NativeCpuAttention):
            raise TypeError(f"attention is {attention.name}; packed weights run with native_cpu")
        states = self._embedded(token_ids)
        step = attention.layer_step
        for layer, kv in zip(self._layers, attention.layers, strict=True):
            layer.forward(states, step, kv, self._buffers)
        return states

    def _embedded(self, token_ids: torch.Tensor) -> NDArray[np.float32]:
        if self._embedding is None:
            states = self._head.embed(token_ids.int().numpy())
        else:
            states = _floats(F.embedding(token_ids, self._embedding))
        if self._embedding_scale != 1.0:
            states *= np.float32(self._embedding_scale)
        return states


def _layer(
    config: ModelConfig, index: int, weights: LayerWeights, rotary: _core.RotaryTable, weight_dtype: WeightDtype
) -> _core.DecoderLayer:
    return _core.DecoderLayer(
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        rms_norm_eps=config.rms_norm_eps,
        activation=config.activation,
        attention_scale=config.attention_scale,
        attention_softcap=config.attention_softcap,
        window=config.windows[index],
        rotary=rotary,
        attention_norm=_floats(weights.attention_norm),
        qkv=_packed(weights.qkv, weight_dtype),
        q_norm=_floats_or_none(weights.q_norm),
        k_norm=_floats_or_none(weights.k_norm),
        attention_output=_packed(weights.attention_output, weight_dtype),
        post_attention_norm=_floats_or_none(weights.post_attention_norm),
        mlp_norm=_floats(weights.mlp_norm),
        gate_up=_packed(weights.gate_up, weight_dtype),
        down=_packed(weights.down, weight_dtype),
        post_mlp_norm=_floats_or_none(weights.post_mlp_norm),
    )


def _packed(linear: Linear, weight_dtype: WeightDtype = "auto") -> _core.PackedLinear:
    dtype = str(linear.weight.dtype).removeprefix("torch.") if weight_dtype == "auto" else weight_dtype
    return _core.PackedLinear(_core.PackedMatrix(linear.weight, dtype), _floats_or_none(linear.bias))


def _floats(tensor: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.float().numpy()
    return values


def _floats_or_none(tensor: torch.Tensor | None) -> NDArray[np.float32] | None:
    return None if tensor is None else _floats(tensor)
