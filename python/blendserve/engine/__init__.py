"""The step loop: scheduler, model runner and sampler, and what becomes of their tokens."""

from __future__ import annotations

from blendserve.engine.engine import Engine
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.engine.forward_check import check_forward
from blendserve.engine.pacing import Pacing, pacing_of
from blendserve.engine.run_recording import run_recorder
from blendserve.engine.shared_engine import SharedEngine
from blendserve.engine.window import Window
from blendserve.engine.window_planner import WindowPlanner

__all__ = [
    "Engine",
    "EngineRequest",
    "Pacing",
    "RequestLimits",
    "SharedEngine",
    "Window",
    "WindowPlanner",
    "check_forward",
    "pacing_of",
    "run_recorder",
]
