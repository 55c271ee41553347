"""What was recorded of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blendserve._core import TimeCorrection
from blendserve.simulation.results import BoundFigures, Timeline

__all__ = ["RunReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The step loop of a job: of the sequences that finished in it. docs/metrics.md defines every field.

    total_s: wall seconds. stage_s: of the thread that drives the engine, by stage; step_stage_s: of the one that runs
    the steps, which may be the same. predicted_s, compute_s, memory_s: of its steps by the performance model; bound:
    what no order can do without, on the same device. correction: of these times, by which the last step was paced.
    settings: the names of model and device, and what the job was run with.
    """

    settings: dict[str, Any]
    num_sequences: int
    prompt_tokens: int
    output_tokens: int
    density: float
    sharing_ratio: float
    sharing_ratio_reachable: float
    kv_capacity_tokens: int
    bound: BoundFigures
    total_s: float
    predicted_s: float
    compute_s: float
    memory_s: float
    correction: TimeCorrection
    steps: int
    preemptions: int
    stage_s: dict[str, float]
    step_stage_s: dict[str, float]
    timeline: Timeline = field(repr=False)

    @property
    def throughput_tok_s(self) -> float:
        return (self.prompt_tokens + self.output_tokens) / self.total_s

    @property
    def practical_optimal_fraction(self) -> float:
        """Above 1 where the device does more than its figures say."""
        return self.bound.practical_s / self.total_s

    @property
    def sharing_fraction_of_optimal(self) -> float:
        return self.sharing_ratio / self.sharing_ratio_reachable if self.sharing_ratio_reachable else 1.0
