"""A progress bar on a terminal; a line every few seconds elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from blendserve.batch import JobProgress

__all__ = ["ProgressDisplay"]

_LINE_INTERVAL_S = 10.0


class ProgressDisplay:
    """Shows a job's phases and progress on `console`. A `JobObserver`."""

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

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, cause: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def phase(self, description: str) -> None:
        self._bar.update(self._task, description=description, refresh=True)
        if not self._console.is_terminal:
            self._console.print(f"{description} ...")
        self._phase_at = self._line_at = time.monotonic()

    def progress(self, progress: JobProgress) -> None:
        now = time.monotonic()
        seconds = now - self._phase_at
        figures = self._figures(progress, seconds)
        self._bar.update(self._task, total=progress.total_work, completed=progress.work_done, figures=figures)
        if not self._console.is_terminal and now - self._line_at >= _LINE_INTERVAL_S:
            self._line_at = now
            left = timedelta(seconds=int(seconds * (progress.total_work / max(progress.work_done, 1) - 1)))
            line = f"{progress.work_done / progress.total_work:4.0%} {figures}, ETA {left}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _figures(self, progress: JobProgress, seconds: float) -> str:
        stats = progress.stats
        num_tokens = stats.num_prompt_tokens + stats.num_output_tokens
        cached = stats.num_cached_tokens / stats.num_prompt_tokens if stats.num_prompt_tokens else 0.0
        return (
            f"{progress.num_answered}/{progress.num_requests} answered, {progress.num_running} running, "
            f"{num_tokens / max(seconds, 1e-9):,.0f} tokens/s, {cached:.0%} of prompts cached"
        )
