"""What a job has written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from blendserve.batch.progress import JobSummary
from blendserve.engine import Engine
from blendserve.io.batch_input import RowError
from blendserve.io.batch_output import error_row
from blendserve.io.result_writer import ResultWriter

__all__ = ["Tally"]


class Tally:
    """Writes rows and counts them."""

    def __init__(self, writer: ResultWriter) -> None:
        self._writer = writer
        self.num_answered = 0
        self.num_failed = 0

    def answered(self, rows: Sequence[bytes]) -> None:
        if rows:
            self._writer.write(b"".join(rows))
            self.num_answered += len(rows)

    def failed(self, errors: Iterable[RowError]) -> None:
        for error in errors:
            self._writer.write(error_row(error))
            self.num_failed += 1

    def summary(self, engine: Engine | None, *, setup_s: float, run_s: float, stage_s: dict[str, float]) -> JobSummary:
        """As `JobSummary.of`."""
        num_kept = self._writer.num_completed
        counts = {"num_answered": self.num_answered, "num_failed": self.num_failed, "num_kept": num_kept}
        num_rows = sum(counts.values())
        return JobSummary.of(engine, num_rows=num_rows, **counts, setup_s=setup_s, run_s=run_s, stage_s=stage_s)
