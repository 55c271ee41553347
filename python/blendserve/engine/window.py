"""Windows: requests that come together, are planned together, and start together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from blendserve.engine.arrivals import Arrivals
from blendserve.engine.engine_request import EngineRequest
from blendserve.engine.equal_requests import group_equal
from blendserve.engine.window_planner import WindowPlan, WindowPlanner
from blendserve.sampling_params import SamplingParams

__all__ = ["Window", "WindowMaker"]


@dataclass(frozen=True, slots=True)
class Window:
    """`num_requests` requests as the scheduler takes them.

    requests: those that are computed; all others have the answer of one of them.
    groups: for each, the places of all requests with its answer, itself the first.
    sampling: the columns of a `SamplingTable`, by row of `arrivals`.
    plan: None under a schedule that follows none.
    """

    num_requests: int
    requests: Sequence[EngineRequest]
    groups: Sequence[Sequence[int]]
    arrivals: Arrivals
    sampling: dict[str, NDArray[Any]]
    plan: WindowPlan | None
    planning_s: float

    @property
    def num_duplicates(self) -> int:
        return self.num_requests - len(self.requests)


@dataclass(frozen=True, slots=True)
class WindowMaker:
    """Makes windows for one engine, in any thread. `planner` is None under a schedule that follows no plan."""

    eos_token_ids: tuple[int, ...]
    seed: int
    planner: WindowPlanner | None

    def make(self, requests: Sequence[EngineRequest], max_new_tokens: Sequence[int]) -> Window:
        """`max_new_tokens`: what each request may generate."""
        groups = group_equal(requests)
        computed = [requests[group[0]] for group in groups]
        arrivals = Arrivals.of(computed, [max_new_tokens[group[0]] for group in groups])
        started = time.perf_counter()
        plan = None if self.planner is None or not computed else self.planner.plan(arrivals)
        return Window(
            num_requests=len(requests),
            requests=computed,
            groups=groups,
            arrivals=arrivals,
            sampling=arrivals.sampling_columns(computed, self.seed),
            plan=plan,
            planning_s=0.0 if plan is None else time.perf_counter() - started,
        )

    def end_ids(self, params: SamplingParams) -> list[int]:
        """The tokens that end an answer."""
        return sorted({*(() if params.ignore_eos else self.eos_token_ids), *params.stop_token_ids})
