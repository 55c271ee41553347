"""The step loop: scheduler, model runner and sampler, and what becomes of their tokens."""

from __future__ import annotations

from blendserve.engine.engine import Engine
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.engine.forward_check import check_forward
from blendserve.engine.job_planner import JobPlanner
from blendserve.engine.pacing import Pacing, pacing_of
from blendserve.engine.run_recording import run_recorder
from blendserve.engine.shared_engine import SharedEngine
from blendserve.engine.window import Window

__all__ = [
    "Engine",
    "EngineRequest",
    "JobPlanner",
    "Pacing",
    "RequestLimits",
    "SharedEngine",
    "Window",
    "check_forward",
    "pacing_of",
    "run_recorder",
]
