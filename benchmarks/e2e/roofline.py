"""The least time that the steps of a run can take on a machine, and the time that they took."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from blendserve import StepPlan
from blendserve.models.config import ModelConfig
from blendserve.runner import ModelRunner
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rates:
    """What the machine was measured to do."""

    flops: float  # a second, in a large matrix product
    bandwidth: float  # bytes a second, read


@dataclass(frozen=True)
class Work:
    flops: int
    num_bytes: int

    def floor_s(self, rates: Rates) -> float:
        return max(self.flops / rates.flops, self.num_bytes / rates.bandwidth)


def step_work(
    model: ModelConfig, qo_lens: NDArray[np.int64], kv_lens: NDArray[np.int64], num_logit_rows: int, itemsize: int
) -> Work:
    """A step of sequences with `qo_lens` new tokens each, at the end of `kv_lens`; weights and KV have `itemsize`.

    Every weight is read once, every sequence's keys and values once. Embedding, norms and activations are not counted.
    """
    attention_size, kv_size = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    layer_weights = model.hidden_size * (2 * attention_size + 2 * kv_size + 3 * model.intermediate_size)
    head_weights = model.hidden_size * model.vocab_size
    num_visible = int((qo_lens * kv_lens - qo_lens * (qo_lens - 1) // 2).sum())
    layer_flops = 2 * layer_weights * int(qo_lens.sum()) + 4 * attention_size * num_visible
    layer_elements = layer_weights + 2 * kv_size * int(kv_lens.sum())
    return Work(
        flops=model.num_layers * layer_flops + 2 * head_weights * num_logit_rows,
        num_bytes=itemsize * (model.num_layers * layer_elements + (head_weights if num_logit_rows else 0)),
    )


class StepMeter:
    """Work of every step that a model runs inside `watching()`, and the seconds in the model."""

    def __init__(self, model: ModelConfig, itemsize: int) -> None:
        self.steps: list[Work] = []
        self.model_s = 0.0
        self._model = model
        self._itemsize = itemsize

    def watching(self) -> AbstractContextManager[Any]:
        run = ModelRunner.run

        def metered(runner: ModelRunner, plan: StepPlan) -> Any:
            started = time.perf_counter()
            result = run(runner, plan)
            self.model_s += time.perf_counter() - started
            qo_lens, kv_lens = np.diff(plan.qo_indptr).astype(np.int64), plan.kv_lens.astype(np.int64)
            self.steps.append(step_work(self._model, qo_lens, kv_lens, len(plan.logit_rows), self._itemsize))
            return result

        return mock.patch.object(ModelRunner, "run", metered)

    def report(self, seconds: float, rates: Rates) -> dict[str, float]:
        floor_s = sum(step.floor_s(rates) for step in self.steps)
        return {
            "seconds": seconds,
            "num_steps": len(self.steps),
            "flops": sum(step.flops for step in self.steps),
            "floor_s": floor_s,
            "share_of_floor": floor_s / seconds,
            "model_s": self.model_s,
            "share_outside_model": 1 - self.model_s / seconds,
        }
