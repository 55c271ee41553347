"""One data-parallel replica: its part of the job, planned once and run under any schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blendserve import _core
from blendserve._core import CostModel, PrefixTree, SchedulerStats, Simulation
from blendserve.planning import plan
from blendserve.simulation.told_lengths import ToldLengths
from blendserve.specs import DeviceSpec, ModelSpec
from blendserve.traces import Trace

__all__ = ["BLOCK_SIZE", "Replica", "ReplicaRun", "RunSettings"]

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    schedule: str
    execution: str
    max_batch_tokens: int
    seed: int
    counts_scheduling: bool
    timeline_bins: int


@dataclass(frozen=True, slots=True)
class ReplicaRun:
    simulation: Simulation
    stats: SchedulerStats


class Replica:
    """A trace on one device, planned at once."""

    def __init__(
        self,
        trace: Trace,
        told: ToldLengths,
        model: ModelSpec,
        device: DeviceSpec,
        tree: PrefixTree | None = None,
    ) -> None:
        """`told` is of the trace's requests; `tree` of their prompts, if it is built already."""
        self._trace = trace
        self._told = told
        self._cost = CostModel(model, device)
        self.plan = plan(
            trace.tokens if tree is None else tree,
            trace.offsets if tree is None else None,
            told.lengths,
            model=model,
            device=device,
            evidence_weights=told.weights,
            max_new_tokens=np.zeros(trace.num_requests, dtype=np.int32),  # what is told cuts nothing off
        )

    @property
    def preprocess_s(self) -> float:
        """Seconds of planning; building the tree is part of it only if it was not given."""
        return sum(self.plan.report.preprocess_s.values())

    def run(self, settings: RunSettings) -> ReplicaRun:
        """Blend runs the length samples first; nothing limits the running requests but what a step computes."""
        scheduler = _core.StepScheduler(
            self.plan,
            num_blocks=self._cost.kv_capacity_tokens() // BLOCK_SIZE,
            block_size=BLOCK_SIZE,
            max_batch_tokens=settings.max_batch_tokens,
            max_batch_requests=settings.max_batch_tokens,
            schedule=settings.schedule,
            seed=settings.seed,
            stop_token_ids=[_core.SIMULATED_STOP_TOKEN],
            execution=settings.execution,
            first_rows=np.flatnonzero(self._told.is_first).tolist(),
        )
        simulation = _core.simulate(
            scheduler,
            self._cost,
            self._trace.output_lengths,
            execution=settings.execution,
            counts_scheduling=settings.counts_scheduling,
            timeline_bins=settings.timeline_bins,
        )
        return ReplicaRun(simulation, scheduler.stats)
