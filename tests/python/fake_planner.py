"""A planner that reverses the requests, for tests of what lies around the planner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from blendserve.planning import PlanReport
from numpy.typing import NDArray

REPORT = {
    "sharing_ratio_optimal": 0.5,
    "sharing_ratio_planned": 0.49,
    "density": 1.3,
    "compute_s": 130.0,
    "memory_s": 100.0,
    "num_nodes": 5,
    "num_scan_units": 2,
    "num_splits": 1,
    "num_copied_tokens": 0,
    "num_split_rounds": 1,
    "split_stop": "budget",
    "t_comp_s": 130.0,
    "t_mem_s": 100.0,
    "ideal_s": 130.0,
    "practical_s": 180.0,
    "preprocess_s": {"tokenize": 0.0, "build": 0.1, "estimate": 0.2, "sort": 0.3, "split": 0.4},
}


class FakePlan:
    def __init__(self, order: NDArray[np.int32], report: PlanReport) -> None:
        self.order, self.report, self.density = order, report, report.density

    def save(self, path: str) -> None:
        Path(path).write_bytes(b"a plan")


class FakePlanner:
    """`calls` keeps what each call of `plan` was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], output_lengths: Any = None, **settings: Any
    ) -> FakePlan:
        rows = [row.tolist() for row in np.split(tokens, offsets[1:-1])]
        self.calls.append({"rows": rows, "output_lengths": output_lengths.tolist(), **settings})
        num_requests = len(offsets) - 1
        counts = {"num_requests": num_requests, "prompt_tokens": len(tokens), "unique_prompt_tokens": len(tokens) // 2}
        return FakePlan(np.arange(num_requests, dtype=np.int32)[::-1], PlanReport(**counts, **REPORT))
