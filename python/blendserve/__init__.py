"""blendserve: offline batch inference that blends compute-heavy and memory-heavy requests.

`import blendserve` needs numpy only. The engine (`LLM`) is imported at first use and needs `blendserve[engine]`.
"""

from __future__ import annotations

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
    "TreeView",
    "UserError",
    "__version__",
    "choose_samples",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name != "LLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    let_idle_threads_sleep()
    try:
        from blendserve.llm import LLM
    except ModuleNotFoundError as error:
        raise ImportError(f"blendserve.LLM needs {error.name}: pip install 'blendserve[engine]'") from error
    return LLM
