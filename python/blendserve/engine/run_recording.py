"""A recorder for an engine."""

from __future__ import annotations

from pathlib import Path

from blendserve._core import CostModel
from blendserve.engine.job_planner import engine_specs
from blendserve.recording import RunRecorder
from blendserve.resources import ResolvedConfig

__all__ = ["run_recorder"]


def run_recorder(model_dir: Path, config: ResolvedConfig) -> RunRecorder:
    """Raises `ModelError` for a model that the performance model can't read."""
    return RunRecorder(
        CostModel(*engine_specs(model_dir, config)),
        block_size=config.block_size,
        kv_capacity_tokens=config.kv_capacity,
        settings={
            "schedule": config.schedule,
            "dtype": str(config.dtype).removeprefix("torch."),
            "max_batch_tokens": config.max_batch_tokens,
            "seed": config.seed,
        },
    )
