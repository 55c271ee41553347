"""How a job goes, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from blendserve._core import SchedulerStats, TimeCorrection
from blendserve.recording import RunReport

if TYPE_CHECKING:
    from blendserve.engine import Engine

__all__ = ["JobObserver", "JobProgress", "JobSummary"]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A moment of a running job: of the `num_requests` rows read so far, and of its work in tokens, prompt and possible
    output, 0 once given up; `total_work` is estimated as far as the input is not read. `num_running` counts sequences:
    a row with `n` choices is up to n of them.
    """

    num_answered: int
    num_requests: int
    work_done: int
    total_work: int
    num_running: int
    correction: TimeCorrection
    stats: SchedulerStats


class JobObserver(Protocol):
    """Is told how a job goes."""

    def phase(self, description: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def progress(self, progress: JobProgress) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """How a job ended; docs/metrics.md defines every field. Seconds are of wall time, `run_s` of the step loop.

    report: if the job was recorded and anything ran.
    """

    num_rows: int
    num_answered: int
    num_failed: int
    num_kept: int
    windows: int
    duplicates: int
    runaways: int
    prompt_tokens: int
    cached_tokens: int
    joined_tokens: int
    output_tokens: int
    wasted_tokens: int
    recomputed_tokens: int
    preemptions: int
    evicted_blocks: int
    dead_blocks: int
    steps: int
    compute_correction: float
    memory_correction: float
    num_corrections: int
    sharing_ratio: float
    throughput_tok_s: float
    setup_s: float
    planning_s: float
    run_s: float
    stage_s: dict[str, float]
    step_stage_s: dict[str, float]
    report: RunReport | None = field(repr=False)

    def figures(self) -> dict[str, Any]:
        """All but the report, as `--metrics` writes it."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "report"}

    @classmethod
    def of(
        cls,
        engine: Engine | None,
        *,
        num_rows: int,
        num_answered: int,
        num_failed: int,
        num_kept: int,
        setup_s: float,
        run_s: float,
        stage_s: dict[str, float],
    ) -> JobSummary:
        """`engine` is None for a job in which nothing had to run. `stage_s`: up to the step loop."""
        stats = SchedulerStats() if engine is None else engine.stats
        if engine is not None:
            stage_s = {**stage_s, **engine.clock.seconds}
        step_stage_s = {} if engine is None else engine.step_clock.seconds
        pacing = None if engine is None else engine.pacing
        correction = TimeCorrection() if pacing is None else pacing.correction
        recorder = None if engine is None else engine.recorder
        prompt_tokens, output_tokens = stats.num_prompt_tokens, stats.num_output_tokens
        return cls(
            num_rows=num_rows,
            num_answered=num_answered,
            num_failed=num_failed,
            num_kept=num_kept,
            windows=0 if engine is None else engine.num_windows,
            duplicates=0 if engine is None else engine.num_duplicates,
            runaways=0 if engine is None else engine.num_runaways,
            prompt_tokens=prompt_tokens,
            cached_tokens=stats.num_cached_tokens,
            joined_tokens=stats.num_joined_tokens,
            output_tokens=output_tokens,
            wasted_tokens=stats.num_wasted_tokens,
            recomputed_tokens=stats.num_recomputed_tokens,
            preemptions=stats.num_preemptions,
            evicted_blocks=stats.num_evicted_blocks,
            dead_blocks=stats.num_dead_blocks,
            steps=stats.num_steps,
            compute_correction=correction.compute,
            memory_correction=correction.memory,
            num_corrections=0 if pacing is None else pacing.num_changes,
            sharing_ratio=stats.num_cached_tokens / prompt_tokens if prompt_tokens else 0.0,
            throughput_tok_s=(prompt_tokens + output_tokens) / run_s if engine is not None else 0.0,
            setup_s=setup_s,
            planning_s=0.0 if engine is None else engine.planning_s,
            run_s=run_s,
            stage_s=stage_s,
            step_stage_s=step_stage_s,
            report=None
            if recorder is None
            else recorder.report(correction, stage_s=stage_s, step_stage_s=step_stage_s),
        )
