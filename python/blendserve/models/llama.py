"""The Llama decoder on packed tokens: no batch dimension, no cache of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from blendserve.models.config import ModelConfig
from blendserve.models.rotary import inverse_frequencies, rotate_, rotation_at
from blendserve.models.weights import Checkpoint

if TYPE_CHECKING:
    from blendserve.attention.base import AttentionBackend

__all__ = ["LlamaModel"]


@dataclass(frozen=True, slots=True)
class Linear:
    """weight [out, in], bias [out] or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    def add_to_(self, residual: torch.Tensor, x: torch.Tensor) -> None:
        """residual += linear(x), in place."""
        residual.addmm_(x, self.weight.t())
        if self.bias is not None:
            residual.add_(self.bias)


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    attention_norm: torch.Tensor  # [hidden]
    qkv: Linear  # [(num_heads + 2 * num_kv_heads) * head_dim, hidden]: all of Q, then K, then V
    attention_output: Linear  # [hidden, num_heads * head_dim]
    mlp_norm: torch.Tensor  # [hidden]
    gate_up: Linear  # [2 * intermediate, hidden]: gate, then up
    down: Linear  # [hidden, intermediate]


class LlamaModel:
    """Weights on one device, in one dtype. `forward` changes nothing but the attention backend's KV cache."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        loader = _Loader(config, checkpoint, dtype, device)
        self.config = config
        self.dtype = dtype
        self.device = device
        self._embedding = loader.tensor("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        self._layers = [loader.layer(index) for index in range(config.num_layers)]
        self._final_norm = loader.tensor("model.norm.weight", config.hidden_size)
        self._lm_head = self._embedding
        if not config.tie_word_embeddings:
            self._lm_head = loader.tensor("lm_head.weight", config.vocab_size, config.hidden_size)
        self._frequencies = inverse_frequencies(config.rope, config.head_dim).to(device)

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
        num_rotated = config.num_heads + config.num_kv_heads
        rotation = rotation_at(positions, self._frequencies, self.dtype)
        hidden = F.embedding(token_ids, self._embedding)
        for index, layer in enumerate(self._layers):
            heads = layer.qkv(self._norm(hidden, layer.attention_norm)).view(len(token_ids), -1, config.head_dim)
            rotated, v = heads[:, :num_rotated], heads[:, num_rotated:]
            rotate_(rotated, rotation)
            attended = attention.forward(index, rotated[:, : config.num_heads], rotated[:, config.num_heads :], v)
            layer.attention_output.add_to_(hidden, attended.flatten(1))

            gate, up = layer.gate_up(self._norm(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            layer.down.add_to_(hidden, F.silu(gate, inplace=True).mul_(up))
        return F.linear(self._norm(hidden[logit_rows], self._final_norm), self._lm_head).float()

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)


class _Loader:
    """Allocates the model's tensors and fills them from the checkpoint, fused ones part by part."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=self.dtype, device=self.device)
        self.checkpoint.read_into(tensor, name)
        return tensor

    def linear(self, parts: dict[str, int], num_inputs: int, *, bias: bool) -> Linear:
        """One matrix from the named ones stacked; `parts` gives the outputs of each."""
        weight = torch.empty(sum(parts.values()), num_inputs, dtype=self.dtype, device=self.device)
        self._fill(weight, parts, "weight")
        if not bias:
            return Linear(weight, None)
        biases = torch.empty(sum(parts.values()), dtype=self.dtype, device=self.device)
        self._fill(biases, parts, "bias")
        return Linear(weight, biases)

    def _fill(self, stacked: torch.Tensor, parts: dict[str, int], suffix: str) -> None:
        for name, rows in zip(parts, torch.split(stacked, list(parts.values())), strict=True):
            self.checkpoint.read_into(rows, f"{name}.{suffix}")

    def layer(self, index: int) -> DecoderLayer:
        config = self.config
        prefix = f"model.layers.{index}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        return DecoderLayer(
            attention_norm=self.tensor(f"{prefix}.input_layernorm.weight", config.hidden_size),
            qkv=self.linear(
                {f"{attention}.q_proj": q_size, f"{attention}.k_proj": kv_size, f"{attention}.v_proj": kv_size},
                config.hidden_size,
                bias=config.attention_bias,
            ),
            attention_output=self.linear(
                {f"{attention}.o_proj": config.hidden_size}, q_size, bias=config.attention_bias
            ),
            mlp_norm=self.tensor(f"{prefix}.post_attention_layernorm.weight", config.hidden_size),
            gate_up=self.linear(
                {f"{mlp}.gate_proj": config.intermediate_size, f"{mlp}.up_proj": config.intermediate_size},
                config.hidden_size,
                bias=config.mlp_bias,
            ),
            down=self.linear({f"{mlp}.down_proj": config.hidden_size}, config.intermediate_size, bias=config.mlp_bias),
        )
