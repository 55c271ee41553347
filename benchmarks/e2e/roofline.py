"""The least time that the steps of a run can take on a machine, and the time that they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from blendserve import LLM, StepPlan
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
    model: ModelConfig,
    qo_lens: NDArray[np.int64],
    kv_lens: NDArray[np.int64],
    *,
    num_shared: int,
    num_logit_rows: int,
    itemsize: int,
) -> Work:
    """A step of sequences with `qo_lens` new tokens each, at the end of `kv_lens`, `num_shared` of them seen before in
    the same step; weights and KV have `itemsize`.

    Every weight is read once, and every token's keys and values. Embedding, norms and activations are not counted.
    """
    attention_size, kv_size = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    layer_weights = model.hidden_size * (2 * attention_size + 2 * kv_size + 3 * model.intermediate_size)
    head_weights = model.hidden_size * model.vocab_size
    num_visible = int((qo_lens * kv_lens - qo_lens * (qo_lens - 1) // 2).sum())
    layer_flops = 2 * layer_weights * int(qo_lens.sum()) + 4 * attention_size * num_visible
    layer_elements = layer_weights + 2 * kv_size * (int(kv_lens.sum()) - num_shared)
    return Work(
        flops=model.num_layers * layer_flops + 2 * head_weights * num_logit_rows,
        num_bytes=itemsize * (model.num_layers * layer_elements + (head_weights if num_logit_rows else 0)),
    )


class StepMeter:
    """The work of every step that `llm` runs inside `watching()`, and the seconds in its model."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._steps: list[Work] = []
        self._model_s = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The two ways in which a `ModelRunner` runs a step."""
        with (
            mock.patch.object(ModelRunner, "run", self._metered(ModelRunner.run)),
            mock.patch.object(ModelRunner, "most_likely", self._metered(ModelRunner.most_likely)),
        ):
            yield
        assert len(self._steps) == self._llm.stats.num_steps

    def report(self, seconds: float, rates: Rates) -> dict[str, float]:
        """Of a run that took `seconds` in all."""
        stats = self._llm.stats
        floor_s = sum(step.floor_s(rates) for step in self._steps)
        return {
            "num_steps": len(self._steps),
            "sharing_ratio": stats.num_cached_tokens / stats.num_prompt_tokens,
            "flops": sum(step.flops for step in self._steps),
            "num_bytes": sum(step.num_bytes for step in self._steps),
            "floor_s": floor_s,
            "share_of_floor": floor_s / seconds,
            "share_outside_model": 1 - self._model_s / seconds,
        }

    def _metered(self, run: Callable[[ModelRunner, StepPlan], Any]) -> Callable[[ModelRunner, StepPlan], Any]:
        def metered(runner: ModelRunner, plan: StepPlan) -> Any:
            started = time.perf_counter()
            result = run(runner, plan)
            self._model_s += time.perf_counter() - started
            self._steps.append(self._work(plan))
            return result

        return metered

    def _work(self, plan: StepPlan) -> Work:
        num_shared_blocks = len(plan.block_table) - len(np.unique(plan.block_table))  # only full blocks are shared
        return step_work(
            self._llm.model_config,
            np.diff(plan.qo_indptr).astype(np.int64),
            plan.kv_lens.astype(np.int64),
            num_shared=num_shared_blocks * self._llm.config.block_size,
            num_logit_rows=len(plan.logit_rows),
            itemsize=self._llm.config.dtype.itemsize,
        )
