"""The weights of a decoder of Llama's kin, read from a checkpoint; fused matrices are filled part by part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from blendserve.models.config import ModelConfig
from blendserve.models.weights import Checkpoint

__all__ = ["LayerWeights", "Linear", "WeightLoader"]


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
class LayerWeights:
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


class WeightLoader:
    """Allocates tensors in one dtype on one device and fills them from the checkpoint."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device

    def embedding(self) -> torch.Tensor:
        return self._tensor("model.embed_tokens.weight", self.config.vocab_size, self.config.hidden_size)

    def final_norm(self) -> torch.Tensor:
        return self._norm("model.norm", self.config.hidden_size)

    def lm_head(self) -> torch.Tensor:
        """Of a model whose embeddings are not tied."""
        return self._tensor("lm_head.weight", self.config.vocab_size, self.config.hidden_size)

    def _tensor(self, name: str, *shape: int) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=self.dtype, device=self.device)
        self.checkpoint.read_into(tensor, name)
        return tensor

    def _norm(self, name: str, size: int) -> torch.Tensor:
        """Offset + weight; in float32 if there is an offset, because a 16-bit sum would lose the weight's last bits."""
        if not self.config.norm_offset:
            return self._tensor(f"{name}.weight", size)
        weight = torch.empty(size, dtype=torch.float32, device=self.device)
        self.checkpoint.read_into(weight, f"{name}.weight")
        return weight.add_(self.config.norm_offset)

    def _linear(self, parts: dict[str, int], num_inputs: int, *, bias: bool) -> Linear:
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

    def layer(self, index: int) -> LayerWeights:
        config = self.config
        prefix = f"model.layers.{index}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        # With post norms "post_attention_layernorm" is one; without it stands in front of the MLP.
        mlp_norm = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
        return LayerWeights(
            attention_norm=self._norm(f"{prefix}.input_layernorm", config.hidden_size),
            qkv=self._linear(
                {f"{attention}.q_proj": q_size, f"{attention}.k_proj": kv_size, f"{attention}.v_proj": kv_size},
                config.hidden_size,
                bias=config.qkv_bias,
            ),
            q_norm=self._norm(f"{attention}.q_norm", config.head_dim) if config.qk_norm else None,
            k_norm=self._norm(f"{attention}.k_norm", config.head_dim) if config.qk_norm else None,
            attention_output=self._linear({f"{attention}.o_proj": config.hidden_size}, q_size, bias=config.output_bias),
            post_attention_norm=self._post_norm(f"{prefix}.post_attention_layernorm"),
            mlp_norm=self._norm(f"{prefix}.{mlp_norm}", config.hidden_size),
            gate_up=self._linear(
                {f"{mlp}.gate_proj": config.intermediate_size, f"{mlp}.up_proj": config.intermediate_size},
                config.hidden_size,
                bias=config.mlp_bias,
            ),
            down=self._linear({f"{mlp}.down_proj": config.hidden_size}, config.intermediate_size, bias=config.mlp_bias),
            post_mlp_norm=self._post_norm(f"{prefix}.post_feedforward_layernorm"),
        )

    def _post_norm(self, name: str) -> torch.Tensor | None:
        return self._norm(name, self.config.hidden_size) if self.config.post_norms else None
