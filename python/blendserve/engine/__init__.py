"""The step loop: scheduler, model runner and sampler, and what becomes of their tokens."""

from __future__ import annotations

from blendserve.engine.engine import Engine
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.engine.job_planner import JobPlanner
from blendserve.engine.shared_engine import SharedEngine
from blendserve.engine.window import Window

__all__ = ["Engine", "EngineRequest", "JobPlanner", "RequestLimits", "SharedEngine", "Window"]
