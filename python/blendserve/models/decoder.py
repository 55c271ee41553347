"""The decoder of Llama and its relatives on packed tokens: no batch dimension, no cache of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from blendserve.models.config import Activation, ModelConfig
from blendserve.models.rotary import Rotation, inverse_frequencies, rotate_, rotation_at
from blendserve.models.weights import Checkpoint

if TYPE_CHECKING:
    from blendserve.attention.base import AttentionBackend

__all__ = ["Decoder", "DecoderLayer", "Linear"]


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
    """A norm is None where the family has none (`ModelConfig.qk_norm`, `post_norms`)."""

    attention_norm: torch.Tensor  # [hidden]
    qkv: Linear  # [(num_heads + 2 * num_kv_heads) * head_dim, hidden]: all of Q, then K, then V
    q_norm: torch.Tensor | None  # [head_dim]
    k_norm: torch.Tensor | None  # [head_dim]
    attention_output: Linear  # [hidden, num_heads * head_dim]
    post_attention_norm: torch.Tensor | None  # [hidden]
    mlp_norm: torch.Tensor  # [hidden]
    gate_up: Linear  # [2 * intermediate, hidden]: gate, then up
    down: Linear  # [hidden, intermediate]
    post_mlp_norm: torch.Tensor | None  # [hidden]


class Decoder:
    """Weights on one device, in one dtype. `forward` changes nothing but the attention backend's KV cache."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        loader = _Loader(config, checkpoint, dtype, device)
        self.config = config
        self.dtype = dtype
        self.device = device
        self._embedding = loader.tensor("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        self._embedding_scale = torch.tensor(config.embedding_scale, dtype=dtype).item()
        self._layers = [loader.layer(index) for index in range(config.num_layers)]
        self._final_norm = loader.norm("model.norm", config.hidden_size)
        self._lm_head = self._embedding
        if not config.tie_word_embeddings:
            self._lm_head = loader.tensor("lm_head.weight", config.vocab_size, config.hidden_size)
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
            q, k, v = self._heads(layer, hidden, rotations[config.rope_of(index)])
            attended = attention.forward(index, q, k, v).flatten(1)
            self._add_(hidden, layer.attention_output, attended, layer.post_attention_norm)

            gate, up = layer.gate_up(self._norm(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            self._add_(hidden, layer.down, self._activate(gate).mul_(up), layer.post_mlp_norm)
        logits = F.linear(self._norm(hidden[logit_rows], self._final_norm), self._lm_head).float()
        return _softcapped(logits, config.final_softcap) if config.final_softcap else logits

    def _heads(self, layer: DecoderLayer, hidden: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, ...]:
        """The rotated queries and keys, and the values: [T, heads, head_dim] each."""
        config = self.config
        heads = layer.qkv(self._norm(hidden, layer.attention_norm)).view(len(hidden), -1, config.head_dim)
        q, k, v = torch.split(heads, [config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q.copy_(self._norm(q, layer.q_norm))
            k.copy_(self._norm(k, layer.k_norm))
        rotate_(heads[:, : config.num_heads + config.num_kv_heads], rotation)
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


def _softcapped(logits: torch.Tensor, cap: float) -> torch.Tensor:
    return logits.div_(cap).tanh_().mul_(cap)


# They may write to what they are given.
_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": partial(F.silu, inplace=True),
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


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

    def norm(self, name: str, size: int) -> torch.Tensor:
        """Offset + weight; in float32 if there is an offset, because a 16-bit sum would lose the weight's last bits."""
        if not self.config.norm_offset:
            return self.tensor(f"{name}.weight", size)
        weight = torch.empty(size, dtype=torch.float32, device=self.device)
        self.checkpoint.read_into(weight, f"{name}.weight")
        return weight.add_(self.config.norm_offset)

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
        # With post norms "post_attention_layernorm" is one; without it stands in front of the MLP.
        mlp_norm = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
        return DecoderLayer(
            attention_norm=self.norm(f"{prefix}.input_layernorm", config.hidden_size),
            qkv=self.linear(
                {f"{attention}.q_proj": q_size, f"{attention}.k_proj": kv_size, f"{attention}.v_proj": kv_size},
                config.hidden_size,
                bias=config.qkv_bias,
            ),
            q_norm=self.norm(f"{attention}.q_norm", config.head_dim) if config.qk_norm else None,
            k_norm=self.norm(f"{attention}.k_norm", config.head_dim) if config.qk_norm else None,
            attention_output=self.linear({f"{attention}.o_proj": config.hidden_size}, q_size, bias=config.output_bias),
            post_attention_norm=self._post_norm(f"{prefix}.post_attention_layernorm"),
            mlp_norm=self.norm(f"{prefix}.{mlp_norm}", config.hidden_size),
            gate_up=self.linear(
                {f"{mlp}.gate_proj": config.intermediate_size, f"{mlp}.up_proj": config.intermediate_size},
                config.hidden_size,
                bias=config.mlp_bias,
            ),
            down=self.linear({f"{mlp}.down_proj": config.hidden_size}, config.intermediate_size, bias=config.mlp_bias),
            post_mlp_norm=self._post_norm(f"{prefix}.post_feedforward_layernorm"),
        )

    def _post_norm(self, name: str) -> torch.Tensor | None:
        return self.norm(name, self.config.hidden_size) if self.config.post_norms else None
