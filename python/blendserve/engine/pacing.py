"""What steps are paced by: times that are measured, those of an earlier run, or the performance model alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blendserve._core import CostModel, StepPlan, TimeCorrection, TimeCorrector, batch_of
from blendserve.config import EngineConfig
from blendserve.devices import device_fields
from blendserve.engine.schedulers import EXECUTION
from blendserve.engine.window_planner import WindowPlanner
from blendserve.recording import CorrectionChange, ScheduleLog, read_schedule_log
from blendserve.resources import ResolvedConfig

__all__ = ["Pacing", "pacing_of"]


class Pacing:
    """Counts an engine's steps, and says when the times that they are paced by change.

    By what steps take beside those of `measures`, a performance model, or by the changes that `replays` has; with
    neither they never do. A `log` is told of each.
    is_repeatable: whether another run is to have the same schedule, so that nothing may depend on when things happen.
    """

    def __init__(
        self,
        *,
        measures: CostModel | None = None,
        replays: Iterable[CorrectionChange] = (),
        log: ScheduleLog | None = None,
        is_repeatable: bool = False,
    ) -> None:
        self._corrector = None if measures is None else TimeCorrector(measures, EXECUTION)
        self._replayed = {change.after_steps: change.correction for change in replays}
        self._log = log
        self._num_steps = 0
        self.is_repeatable = is_repeatable
        self.correction = TimeCorrection()
        self.num_changes = 0

    def stepped(self, plan: StepPlan, seconds: float) -> bool:
        """A step ran, in so many seconds. Returns whether `correction` is another one for the steps to come."""
        self._num_steps += 1
        correction = self._next_correction(plan, seconds)
        if correction is None:
            return False
        self.correction = correction
        self.num_changes += 1
        if self._log is not None:
            self._log.add(CorrectionChange(self._num_steps, correction))
        return True

    def _next_correction(self, plan: StepPlan, seconds: float) -> TimeCorrection | None:
        if self._corrector is None:
            return self._replayed.get(self._num_steps)
        return self._corrector.correction if self._corrector.add(batch_of(plan), seconds) else None


def pacing_of(model_dir: Path, config: EngineConfig, resolved: ResolvedConfig, planner: WindowPlanner | None) -> Pacing:
    """As `config` asks for. Measured times change nothing but the pace of `blend`.

    Raises:
        UserError: a schedule log cannot be written, or replayed in this run.
    """
    settings = _settings(model_dir, resolved)
    replay, log = config.replay_schedule, config.schedule_log
    measures = resolved.schedule == "blend" and replay is None and not config.deterministic_schedule
    return Pacing(
        measures=CostModel(planner.model, planner.device) if planner is not None and measures else None,
        replays=() if replay is None else read_schedule_log(replay, settings),
        log=None if log is None else ScheduleLog(log, settings),
        is_repeatable=config.deterministic_schedule or replay is not None or log is not None,
    )


def _settings(model_dir: Path, config: ResolvedConfig) -> dict[str, Any]:
    """What besides its input decides the schedule of a run."""
    return {
        "model": model_dir.resolve().name,
        "dtype": str(config.dtype).removeprefix("torch."),
        "weight_dtype": config.weight_dtype,
        "kv_dtype": config.kv_dtype_name,
        "schedule": config.schedule,
        "seed": config.seed,
        "num_blocks": config.num_blocks,
        "block_size": config.block_size,
        "max_batch_tokens": config.max_batch_tokens,
        "max_batch_requests": config.max_batch_requests,
        "max_prompt_logits": config.max_prompt_logits,
        "async_scheduling": config.async_scheduling,
        "stop_runaways": config.stop_runaways,
        "hardware": device_fields(config.hardware),
    }
