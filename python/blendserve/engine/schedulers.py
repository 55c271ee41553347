"""The schedulers of an engine, one after the other."""

from __future__ import annotations

from blendserve._core import SchedulerStats, StepScheduler, TimeCorrection
from blendserve.engine.window_planner import WindowPlan
from blendserve.resources import ResolvedConfig

__all__ = ["EXECUTION", "Schedulers"]

EXECUTION = "sequential"  # how the engine runs a step: one operator after the other

_MAX_ROWS = 2**17  # that a scheduler is given in its life: it keeps their prompts


class Schedulers:
    """Only the current one has requests. With `follows_plans` one that has no plan goes by arrival."""

    def __init__(self, config: ResolvedConfig, *, follows_plans: bool) -> None:
        self._config = config
        self._schedule_without_plan = "fcfs" if follows_plans else config.schedule
        self._correction = TimeCorrection()
        self._current = self._scheduler_of(None)
        self._past_stats = SchedulerStats()

    @property
    def current(self) -> StepScheduler:
        return self._current

    @property
    def stats(self) -> SchedulerStats:
        """Counts of all of them."""
        return self._past_stats + self._current.stats

    @property
    def is_worn(self) -> bool:
        """Whether the current one is to be given no more requests."""
        return self._current.num_requests >= _MAX_ROWS

    def replace(self, planned: WindowPlan | None) -> None:
        """When all requests have ended: by a scheduler of `planned`, which goes on with what is cached."""
        past, self._current = self._current, self._scheduler_of(planned)
        self._current.take_over_cache(past)
        self._past_stats += past.stats

    def correct_times(self, correction: TimeCorrection) -> None:
        """For the steps to come, of this scheduler and of those after it."""
        self._correction = correction
        self._current.correct_times(correction)

    def _scheduler_of(self, planned: WindowPlan | None) -> StepScheduler:
        config = self._config
        scheduler = StepScheduler(
            None if planned is None else planned.plan,
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            max_batch_tokens=config.max_batch_tokens,
            max_batch_requests=config.max_batch_requests,
            max_prompt_logits=config.max_prompt_logits,
            schedule=self._schedule_without_plan if planned is None else config.schedule,
            seed=config.seed % 2**64,
            execution=EXECUTION,
            first_rows=[] if planned is None else planned.first_rows,
            adds_requests=False,
            max_steps_in_flight=2 if config.async_scheduling else 1,
        )
        scheduler.correct_times(self._correction)
        return scheduler
