"""A progress bar on a terminal; a line every few seconds elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from blendserve._core import TimeCorrection
from blendserve.report.units import correction_text

if TYPE_CHECKING:
    from types import TracebackType

    from blendserve.batch import JobProgress
    from blendserve.plan_job.read_batch import ReadProgress

__all__ = ["ProgressDisplay"]

_LINE_INTERVAL_S = 10.0


class ProgressDisplay:
    """Shows a job's phases and progress on `console`. A `JobObserver` and a `PlanObserver`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, figures="")
        self._phase_at = self._line_at = time.monotonic()
        self._line_work = 0

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, cause: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def phase(self, description: str) -> None:
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=None, figures="")
        self._bar.refresh()
        if not self._console.is_terminal:
            self._console.print(f"{description} ...")
        self._phase_at = self._line_at = time.monotonic()
        self._line_work = 0

    def warning(self, text: str) -> None:
        self._console.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)

    def progress(self, progress: JobProgress) -> None:
        self._show(progress.work_done, progress.total_work, self._answering(progress))

    def reading(self, progress: ReadProgress) -> None:
        self._show(progress.bytes_done, progress.total_bytes, self._tokenizing(progress))

    def _show(self, done: int, total: int, figures: str) -> None:
        now = time.monotonic()
        self._bar.update(self._task, total=total, completed=done, figures=figures)
        if not self._console.is_terminal and now - self._line_at >= _LINE_INTERVAL_S:
            self._print_line(done, total, figures, now - self._line_at)
            self._line_at, self._line_work = now, done

    def _print_line(self, done: int, total: int, figures: str, seconds: float) -> None:
        """The time left goes by the speed of the last `seconds`: prompts are faster than the answers after them."""
        per_second = (done - self._line_work) / seconds
        left = timedelta(seconds=int((total - done) / per_second)) if per_second else "?"
        self._console.print(f"{done / total:4.0%} {figures}, ETA {left}", highlight=False, soft_wrap=True)

    def _tokens_per_second(self, num_tokens: int) -> str:
        """Of the phase so far."""
        return f"{num_tokens / max(time.monotonic() - self._phase_at, 1e-9):,.0f} tokens/s"

    def _tokenizing(self, progress: ReadProgress) -> str:
        return f"{progress.num_rows:,} rows, {self._tokens_per_second(progress.num_tokens)}"

    def _answering(self, progress: JobProgress) -> str:
        stats = progress.stats
        num_tokens = stats.num_prompt_tokens + stats.num_output_tokens
        cached = stats.num_cached_tokens / stats.num_prompt_tokens if stats.num_prompt_tokens else 0.0
        is_corrected = progress.correction != TimeCorrection()
        paced = f", paced by {correction_text(progress.correction)}" if is_corrected else ""
        return (
            f"{progress.num_answered}/{progress.num_requests} rows answered, {progress.num_running} sequences running, "
            f"{self._tokens_per_second(num_tokens)}, {cached:.0%} of prompts cached{paced}"
        )
