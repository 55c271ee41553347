"""A StepPlan becomes tensors, tensors become logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve._core import StepPlan
from blendserve.attention import AttentionBackend, AttentionSpec, StepTensors, create_backend
from blendserve.models import Model, ModelShape
from blendserve.resources import ResolvedConfig

__all__ = ["ModelRunner", "StepLogits"]

_Forward = Callable[[torch.Tensor, torch.Tensor, AttentionBackend, torch.Tensor], torch.Tensor]  # of `Model`


class StepLogits(NamedTuple):
    """Float32 on the model's device: of the rows that get a token, and of those that score the prompt token behind."""

    sampled: torch.Tensor  # [M, vocab_size]
    prompt: torch.Tensor  # [P, vocab_size]


class ModelRunner:
    """One model with its KV cache and attention backend on one device."""

    def __init__(self, model: Model, config: ResolvedConfig) -> None:
        self._model = model
        self._device = config.device
        shape = model.config
        spec = AttentionSpec(
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            dtype=config.kv_dtype,
            device=config.device,
            scale=shape.attention_scale,
            windows=_binding_windows(shape, config),
            softcap=shape.attention_softcap,
        )
        self._attention = create_backend(config.attention, spec)

    @property
    def model(self) -> Model:
        return self._model

    @property
    def model_config(self) -> ModelShape:
        return self._model.config

    def run(self, plan: StepPlan) -> StepLogits:
        """Compute the step; returns the logits of `plan.logit_rows` and `plan.prompt_logit_rows`."""
        logits = self._compute(self._model.forward, plan, np.concatenate([plan.logit_rows, plan.prompt_logit_rows]))
        num_sampled = len(plan.logit_rows)
        return StepLogits(logits[:num_sampled], logits[num_sampled:])

    def most_likely(self, plan: StepPlan) -> NDArray[np.int32]:
        """In place of `run`: the most likely tokens [M] of `plan.logit_rows`."""
        token_ids: NDArray[np.int32] = self._compute(self._model.most_likely, plan, plan.logit_rows).int().cpu().numpy()
        return token_ids

    def _compute(self, forward: _Forward, plan: StepPlan, rows: NDArray[np.int32]) -> torch.Tensor:
        self._attention.plan(_step_tensors(plan))
        return forward(
            self._indices(plan.token_ids), self._indices(plan.positions), self._attention, self._indices(rows)
        )

    def _indices(self, values: NDArray[np.integer[Any]]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)


def _binding_windows(model: ModelShape, config: ResolvedConfig) -> tuple[int, ...]:
    """The model's windows without those that no sequence outgrows."""
    longest = min(model.max_position_embeddings, config.kv_capacity)
    return tuple(window if window < longest else 0 for window in model.windows)


def _step_tensors(plan: StepPlan) -> StepTensors:
    return StepTensors(
        qo_indptr=plan.qo_indptr,
        kv_lens=plan.kv_lens,
        block_indptr=plan.block_indptr,
        block_table=plan.block_table,
        slot_mapping=plan.slot_mapping,
        positions=plan.positions,
    )
