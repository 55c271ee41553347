"""Where steps run: in the caller's thread, or in one of their own while the caller plans the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from blendserve._core import StepPlan
from blendserve.runner import SampledTokens

__all__ = ["StepExecutor"]


class StepExecutor:
    """Runs one step at a time with `run`."""

    def __init__(self, run: Callable[[StepPlan], SampledTokens], *, in_background: bool) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blendserve-steps") if in_background else None
        self._plan: StepPlan | None = None
        self._sampled: Future[SampledTokens] | None = None

    @property
    def plan(self) -> StepPlan | None:
        """The step that has started and whose result was not asked for."""
        return self._plan

    def start(self, plan: StepPlan) -> None:
        self._plan = plan
        if self._thread is not None:
            self._sampled = self._thread.submit(self._run, plan)

    def result(self) -> SampledTokens:
        """What the step that was started sampled; raises what the model raised."""
        plan, self._plan = self._plan, None
        assert plan is not None
        return self._run(plan) if self._sampled is None else self._sampled.result()
