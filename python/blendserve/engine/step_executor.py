"""Where steps run: in the caller's thread, or in one of their own while the caller plans the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from blendserve._core import StepPlan
from blendserve.runner import SampledTokens

__all__ = ["StepExecutor"]


class StepExecutor:
    """Runs one step at a time."""

    def __init__(self, *, in_background: bool) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blendserve-steps") if in_background else None
        self._plan: StepPlan | None = None
        self._result: Callable[[], tuple[SampledTokens, float]] | None = None

    @property
    def plan(self) -> StepPlan | None:
        """The step that has started and whose result was not asked for."""
        return self._plan

    def start(self, plan: StepPlan, run: Callable[[StepPlan], SampledTokens]) -> None:
        self._plan = plan
        self._result = (
            partial(_timed, run, plan) if self._thread is None else self._thread.submit(_timed, run, plan).result
        )

    def result(self) -> tuple[SampledTokens, float]:
        """What the step that was started sampled, and the seconds that it ran; raises what the model raised."""
        assert self._result is not None
        result, self._plan, self._result = self._result, None, None  # a plan that nobody holds gives its memory back
        return result()


def _timed(run: Callable[[StepPlan], SampledTokens], plan: StepPlan) -> tuple[SampledTokens, float]:
    started = time.perf_counter()
    sampled = run(plan)
    return sampled, time.perf_counter() - started
