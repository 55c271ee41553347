"""Records the steps of an engine as they run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve import _core
from blendserve._core import CostModel, PrefixTree, StepPlan, StepScheduler, TimeCorrection
from blendserve.recording.run_report import RunReport
from blendserve.simulation.workload_sums import TraceSums, reachable_tokens

__all__ = ["RunRecorder"]

_MAX_BINS = 512


class RunRecorder:
    """Every step's time beside the one that the performance model predicts, and the workload that the steps answered.

    For an engine that has run nothing yet. A step lasts from the end of the one before, the first from when its
    requests start to wait for it, so the steps add up to the run. Keeps all prompts, for the bound, and a timeline of
    fixed size.
    """

    def __init__(
        self, cost: CostModel, *, execution: str, block_size: int, kv_capacity_tokens: int, settings: Mapping[str, Any]
    ) -> None:
        self._cost = cost
        self._execution = execution
        self._block_size = block_size
        self._kv_capacity_tokens = kv_capacity_tokens
        self._settings = settings
        self._steps = _core.RunRecorder(_MAX_BINS)
        self._prompts: list[NDArray[np.int32]] = []
        self._prompt_lens: list[NDArray[np.int64]] = []
        self._output_lens: list[int] = []  # of all sequences
        self._sequence_of_id_0 = 0
        self._at: float | None = None

    def arrived(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, first_id: int) -> None:
        """A scheduler was given sequences, with ids from first_id on. Those of all schedulers before it have ended."""
        self._sequence_of_id_0 = len(self._output_lens) - first_id
        self._prompts.append(tokens)
        self._prompt_lens.append(np.diff(offsets))
        self._output_lens += [0] * (len(offsets) - 1)
        self._at = self._at or time.perf_counter()

    def stepped(self, scheduler: StepScheduler, plan: StepPlan) -> None:
        """`scheduler` was updated with `plan`."""
        predicted = self._cost.step_time(_core.batch_of(plan), self._execution)
        now = time.perf_counter()
        self._steps.add(scheduler, plan, predicted, now - (self._at or now))
        self._at = now

    def finished(self, sequence_id: int, output_len: int) -> None:
        """A sequence of the scheduler that was last given some."""
        self._output_lens[self._sequence_of_id_0 + sequence_id] = output_len

    def report(
        self, correction: TimeCorrection, *, stage_s: Mapping[str, float], step_stage_s: Mapping[str, float]
    ) -> RunReport | None:
        """After the last step, which was paced by `correction`; None if there was none. Builds the prefix tree of all
        prompts, for the bound.
        """
        cost, timeline = self._cost, self._steps.timeline
        if len(timeline["steps"]) == 0:
            return None
        tree = PrefixTree.build(np.concatenate(self._prompts), _offsets(np.concatenate(self._prompt_lens)))
        output_lens = np.array(self._output_lens, dtype=np.int32)
        sums = TraceSums.of(tree, np.maximum(output_lens, 1))  # to the performance model every request has an answer
        total = {name: float(column.sum()) for name, column in timeline.items()}
        names = {"version": _core.__version__, "model": cost.model.name, "device": cost.device.name}
        return RunReport(
            settings={**names, **self._settings},
            num_sequences=sums.num_requests,
            prompt_tokens=sums.prompt_tokens,
            output_tokens=int(output_lens.sum()),
            density=sums.density(cost),
            sharing_ratio=total["cached_tokens"] / sums.prompt_tokens,
            sharing_ratio_reachable=reachable_tokens(tree, self._block_size) / sums.prompt_tokens,
            kv_capacity_tokens=self._kv_capacity_tokens,
            bound=sums.bound(cost),
            total_s=total["duration_s"],
            predicted_s=total["predicted_s"],
            compute_s=total["compute_s"],
            memory_s=total["memory_s"],
            correction=correction,
            steps=int(total["steps"]),
            preemptions=int(total["preemptions"]),
            stage_s=dict(stage_s),
            step_stage_s=dict(step_stage_s),
            timeline=timeline,
        )


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
