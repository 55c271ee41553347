"""The figures of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["PlanReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """docs/metrics.md defines every field. Times are seconds on the planned device, `preprocess_s` on this machine."""

    num_requests: int
    prompt_tokens: int
    unique_prompt_tokens: int
    sharing_ratio_optimal: float
    sharing_ratio_planned: float
    density: float
    compute_s: float
    memory_s: float
    num_nodes: int
    num_scan_units: int
    num_splits: int
    num_copied_tokens: int
    num_split_rounds: int
    split_stop: str
    t_comp_s: float
    t_mem_s: float
    ideal_s: float
    practical_s: float
    preprocess_s: dict[str, float]

    @classmethod
    def of(cls, summary: dict[str, Any]) -> PlanReport:
        """`summary` as the core gives it. Tokenizing is not part of `bs.plan`: 0 until someone who did it says more."""
        return cls(**{**summary, "preprocess_s": {"tokenize": 0.0, **summary["preprocess_s"]}})
