"""How a job goes, and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from blendserve._core import SchedulerStats

__all__ = ["JobObserver", "JobProgress", "JobSummary"]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A moment of a running job. `work_done` of `total_work` tokens: prompt and possible output, 0 once given up."""

    num_answered: int
    num_requests: int
    work_done: int
    total_work: int
    num_running: int
    stats: SchedulerStats


class JobObserver(Protocol):
    """Is told how a job goes."""

    def phase(self, description: str) -> None: ...

    def progress(self, progress: JobProgress) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """How a job ended; docs/metrics.md defines every field. Seconds are of wall time, `run_s` of the step loop,
    `planning_s` a part of `setup_s`.
    """

    num_rows: int
    num_answered: int
    num_failed: int
    num_kept: int
    prompt_tokens: int
    cached_tokens: int
    joined_tokens: int
    output_tokens: int
    recomputed_tokens: int
    preemptions: int
    evicted_blocks: int
    dead_blocks: int
    steps: int
    sharing_ratio: float
    throughput_tok_s: float
    setup_s: float
    planning_s: float
    run_s: float

    @classmethod
    def of(
        cls,
        stats: SchedulerStats | None,
        *,
        num_rows: int,
        num_answered: int,
        num_failed: int,
        num_kept: int,
        setup_s: float,
        planning_s: float,
        run_s: float,
    ) -> JobSummary:
        """`stats` is None for a job in which nothing had to run."""
        prompt_tokens = stats.num_prompt_tokens if stats else 0
        output_tokens = stats.num_output_tokens if stats else 0
        cached_tokens = stats.num_cached_tokens if stats else 0
        return cls(
            num_rows=num_rows,
            num_answered=num_answered,
            num_failed=num_failed,
            num_kept=num_kept,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            joined_tokens=stats.num_joined_tokens if stats else 0,
            output_tokens=output_tokens,
            recomputed_tokens=stats.num_recomputed_tokens if stats else 0,
            preemptions=stats.num_preemptions if stats else 0,
            evicted_blocks=stats.num_evicted_blocks if stats else 0,
            dead_blocks=stats.num_dead_blocks if stats else 0,
            steps=stats.num_steps if stats else 0,
            sharing_ratio=cached_tokens / prompt_tokens if prompt_tokens else 0.0,
            throughput_tok_s=(prompt_tokens + output_tokens) / run_s if stats else 0.0,
            setup_s=setup_s,
            planning_s=planning_s,
            run_s=run_s,
        )
