"""A recorder for an engine."""

from __future__ import annotations

from pathlib import Path

from blendserve._core import CostModel
from blendserve.engine.schedulers import EXECUTION
from blendserve.engine.window_planner import engine_specs
from blendserve.models import ModelShape
from blendserve.recording import RunRecorder
from blendserve.resources import ResolvedConfig

__all__ = ["run_recorder"]


def run_recorder(model_dir: Path, shape: ModelShape, config: ResolvedConfig) -> RunRecorder:
    return RunRecorder(
        CostModel(*engine_specs(model_dir, shape, config)),
        execution=EXECUTION,
        block_size=config.block_size,
        kv_capacity_tokens=config.kv_capacity,
        settings={
            "schedule": config.schedule,
            "dtype": str(config.dtype).removeprefix("torch."),
            "kv_dtype": config.kv_dtype_name,
            "max_batch_tokens": config.max_batch_tokens,
            "seed": config.seed,
        },
    )
