"""Where steps run: in the caller's thread, or in one of their own while the caller plans the next."""

from __future__ import annotations

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
        self._sample: Callable[[], SampledTokens] | None = None

    @property
    def plan(self) -> StepPlan | None:
        """The step that has started and whose result was not asked for."""
        return self._plan

    def start(self, plan: StepPlan, run: Callable[[StepPlan], SampledTokens]) -> None:
        self._plan = plan
        self._sample = partial(run, plan) if self._thread is None else self._thread.submit(run, plan).result

    def result(self) -> SampledTokens:
        """What the step that was started sampled; raises what the model raised."""
        assert self._sample is not None
        self._plan = None
        return self._sample()
