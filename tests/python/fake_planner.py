"""A planner that reverses the requests, for tests of what lies around the planner."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FakeReport:
    num_requests: int
    prompt_tokens: int
    unique_prompt_tokens: int
    sharing_ratio_optimal: float = 0.5
    sharing_ratio_planned: float = 0.49
    density: float = 1.3
    num_nodes: int = 5
    num_splits: int = 1
    t_comp_s: float = 130.0
    t_mem_s: float = 100.0
    ideal_s: float = 130.0
    practical_s: float = 180.0
    preprocess_s: dict[str, float] = field(
        default_factory=lambda: {"tokenize": 0.0, "build": 0.1, "estimate": 0.2, "sort": 0.3, "split": 0.4}
    )


class FakePlan:
    def __init__(self, order: NDArray[np.int32], report: FakeReport) -> None:
        self.order, self.report, self.density = order, report, report.density

    def save(self, path: str) -> None:
        Path(path).write_bytes(b"a plan")

    def tree_view(self, which: str) -> str:
        return which


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
        return FakePlan(
            np.arange(num_requests, dtype=np.int32)[::-1], FakeReport(num_requests, len(tokens), len(tokens) // 2)
        )
