"""What a job will cost under which schedule: the real planner and scheduler on a clock of the performance model."""

from __future__ import annotations

from blendserve.simulation.results import SimulatedRun, SimulationReport, WorkloadFigures
from blendserve.simulation.simulator import DEFAULT_SCHEDULES, EXECUTIONS, SCHEDULES, simulate
from blendserve.simulation.told_lengths import LENGTHS
from blendserve.simulation.verdict import binding, verdict

__all__ = [
    "DEFAULT_SCHEDULES",
    "EXECUTIONS",
    "LENGTHS",
    "SCHEDULES",
    "SimulatedRun",
    "SimulationReport",
    "WorkloadFigures",
    "binding",
    "simulate",
    "verdict",
]
