"""blendserve: offline batch inference that blends compute-heavy and memory-heavy requests.

`import blendserve` needs numpy only. The engine (`LLM`) is imported at first use and needs `blendserve[engine]`;
what reads, makes and simulates traces is imported at first use too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blendserve._core import PrefixTree, SchedulerStats, StepPlan, StepScheduler, __version__, choose_samples
from blendserve.config import EngineConfig
from blendserve.errors import BlendserveError, ModelError, RequestError, UserError
from blendserve.openmp import let_idle_threads_sleep
from blendserve.outputs import CompletionOutput, RequestOutput, TokenLogprob
from blendserve.planning import Plan, PlanReport, Shard, TreeView, plan
from blendserve.sampling_params import SamplingParams
from blendserve.specs import DeviceSpec, ModelSpec

if TYPE_CHECKING:
    from blendserve.llm import LLM
    from blendserve.simulation import simulate
    from blendserve.synthesis import synthesize
    from blendserve.traces import Trace, read_trace

__all__ = [
    "LLM",
    "BlendserveError",
    "CompletionOutput",
    "DeviceSpec",
    "EngineConfig",
    "ModelError",
    "ModelSpec",
    "Plan",
    "PlanReport",
    "PrefixTree",
    "RequestError",
    "RequestOutput",
    "SamplingParams",
    "SchedulerStats",
    "Shard",
    "StepPlan",
    "StepScheduler",
    "TokenLogprob",
    "Trace",
    "TreeView",
    "UserError",
    "__version__",
    "choose_samples",
    "plan",
    "read_trace",
    "simulate",
    "synthesize",
]

_AT_FIRST_USE = {
    "Trace": "blendserve.traces",
    "read_trace": "blendserve.traces",
    "simulate": "blendserve.simulation",
    "synthesize": "blendserve.synthesis",
}


def __getattr__(name: str) -> Any:
    if name in _AT_FIRST_USE:
        return getattr(import_module(_AT_FIRST_USE[name]), name)
    if name != "LLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    let_idle_threads_sleep()
    try:
        from blendserve.llm import LLM
    except ModuleNotFoundError as error:
        raise ImportError(f"blendserve.LLM needs {error.name}: pip install 'blendserve[engine]'") from error
    return LLM
