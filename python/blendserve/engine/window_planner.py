"""The plan of a window: the planner's answer to the requests that an engine is given at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blendserve._core import CostModel, PrefixTree, choose_samples
from blendserve.devices import with_kv_memory
from blendserve.engine.arrivals import Arrivals
from blendserve.errors import ModelError
from blendserve.models import ModelShape
from blendserve.planning import Plan, plan
from blendserve.resources import ResolvedConfig
from blendserve.specs import DeviceSpec, ModelSpec

__all__ = ["WindowPlan", "WindowPlanner", "engine_specs"]

_COST_MODEL_BLOCK = 16  # tokens; the performance model counts the KV cache in blocks of so many


def engine_specs(model_dir: Path, shape: ModelShape, config: ResolvedConfig) -> tuple[ModelSpec, DeviceSpec]:
    """The model, of which the engine has read the shape, and the engine's device, which has the engine's KV cache."""
    model = _model_spec(model_dir, shape, config.dtype.itemsize, config.kv_dtype.itemsize)
    kv_tokens = max(config.kv_capacity, _COST_MODEL_BLOCK)
    kv_bytes = kv_tokens * CostModel(model, config.hardware).kv_bytes_per_token
    return model, with_kv_memory(config.hardware, kv_bytes)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """`first_rows`: the length samples, which `blend` runs first."""

    plan: Plan
    first_rows: list[int]


@dataclass(frozen=True, slots=True)
class WindowPlanner:
    """Plans windows for one model on one device, which has the engine's KV cache."""

    model: ModelSpec
    device: DeviceSpec
    step_tokens: int
    seed: int

    @classmethod
    def of(cls, model_dir: Path, shape: ModelShape, config: ResolvedConfig) -> WindowPlanner:
        """For the model in `model_dir`, whose shape the engine has read."""
        model, device = engine_specs(model_dir, shape, config)
        return cls(model, device, config.max_batch_tokens, config.seed % 2**64)

    def plan(self, arrivals: Arrivals) -> WindowPlan:
        """Hints are evidence for requests that share a prefix with theirs; lengths that are forced say nothing of
        others.
        """
        tree = PrefixTree.build(arrivals.tokens, arrivals.offsets)
        planned = plan(
            tree,
            output_lengths=arrivals.output_lengths,
            evidence_weights=arrivals.is_hinted.astype(np.float64),
            max_output_lengths=np.maximum(arrivals.max_new_tokens, 1),
            model=self.model,
            device=self.device,
            step_tokens=self.step_tokens,
        )
        samples, _ = choose_samples(tree, seed=self.seed)
        return WindowPlan(planned, samples[arrivals.output_lengths[samples] < 0].tolist())


def _model_spec(model_dir: Path, shape: ModelShape, weight_bytes: int, kv_bytes: int) -> ModelSpec:
    """A layout that the performance model does not know is taken for a dense one of its size."""
    try:
        return ModelSpec.from_hf(model_dir, weight_bytes=weight_bytes, kv_bytes=kv_bytes)
    except ModelError:
        return ModelSpec(
            name=model_dir.name,
            num_layers=shape.num_layers,
            attention_width=shape.num_heads * shape.head_dim,
            kv_width=shape.num_kv_heads * shape.head_dim,
            num_params=shape.num_parameters,
            weight_bytes=weight_bytes,
            kv_bytes=kv_bytes,
            max_context=shape.max_position_embeddings,
        )
