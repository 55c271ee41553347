"""A batch job from its first row to its last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from blendserve.batch.answering import Answering, PreparedWindow, prepare_window
from blendserve.batch.garbage import rare_collections
from blendserve.batch.progress import JobObserver, JobSummary
from blendserve.batch.tally import Tally
from blendserve.batch.tokenize import kv_tokens_needed, tokenize_rows
from blendserve.batch.windows import OneAhead, RowWindow, row_windows
from blendserve.config import DEFAULT_WINDOW, PLANNED_SCHEDULES, EngineConfig
from blendserve.engine import run_recorder
from blendserve.errors import UserError
from blendserve.io.batch_input import BatchRequest, RowError, read_requests, require_rows, row_ids
from blendserve.io.paths import STANDARD_STREAM, check_paths, input_file
from blendserve.io.result_writer import ResultWriter
from blendserve.io.resume import outdated_path
from blendserve.llm import LLM
from blendserve.models import read_config, resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME
from blendserve.recording import StageClock
from blendserve.resources import ResolvedConfig, resolve
from blendserve.text.tokenizer import Tokenizer

__all__ = ["BatchJob"]


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What to run: an input file, an output file ("-" is stdin and stdout) and a model folder or name.

    `window` rows at a time are held in memory and planned, and as many read ahead. `records`: whether the summary has a
    report of the run. `self_check`: whether to check model and tokenizer first.
    """

    input: str
    output: str
    model: str | None
    config: EngineConfig
    resume: bool
    window: int = DEFAULT_WINDOW
    records: bool = False
    self_check: bool = True

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"window is {self.window}; it must be at least 1 row")

    def run(self, observer: JobObserver) -> JobSummary:
        """Answer every row; bad rows become error rows.

        Raises:
            UserError: the job can't start: a path, the model or the configuration can't be used.
        """
        started = time.monotonic()
        clock = StageClock()
        check_paths(self.input, self.output)
        model_dir = resolve_model(self.model)
        model_config = read_config(model_dir)
        job_key = _job_key(model_dir, resolve(self.config, model_config))
        observer.phase("reading requests")
        with rare_collections(), input_file(self.input) as path, path.open("rb") as source:
            rows = require_rows(read_requests(source, job_key), self.input)
            tokenizer = Tokenizer.load(model_dir)
            with ResultWriter(self.output, resume=self.resume, job=self._row_ids(path, job_key)) as writer:
                if writer.num_outdated:
                    observer.warning(_outdated_text(writer.num_outdated, self.output))
                tally = Tally(writer)
                observer.phase("tokenizing")
                stopped = threading.Event()
                windows = row_windows(tokenize_rows(_to_answer(rows, writer), tokenizer), self.window, stopped)
                first = _first_to_answer(windows, tally)
                clock.mark("reading")
                if first is None:
                    return tally.summary(None, setup_s=time.monotonic() - started, run_s=0.0, stage_s=clock.seconds)
                observer.phase("loading the model")
                needed = kv_tokens_needed(first.rows, model_config, self.config.block_size) if first.is_last else None
                llm = LLM.for_job(model_dir, self.config, tokenizer, kv_tokens_needed=needed)
                clock.mark("loading")
                if self.records:
                    llm.engine.recorder = run_recorder(model_dir, model_config, llm.config)
                if self.self_check:
                    for warning in llm.self_check(chats=any(row.messages is not None for row, _ in first.rows)):
                        observer.warning(warning)
                    clock.mark("checking")
                windows = chain((first,), windows)
                del first  # it is not to outlive its answers
                size = path.stat().st_size
                prepared = (
                    prepare_window(llm.engine, window, 1.0 if window.is_last else source.tell() / size)
                    for window in windows
                )
                answering = Answering(llm, tally, observer, self._model_name(model_dir))
                with OneAhead(prepared, stopped) as ahead:
                    run_s = self._answer(ahead, answering, observer, clock)
                setup_s = time.monotonic() - started - run_s
                return tally.summary(llm.engine, setup_s=setup_s, run_s=run_s, stage_s=clock.seconds)

    def _answer(
        self, windows: OneAhead[PreparedWindow], answering: Answering, observer: JobObserver, clock: StageClock
    ) -> float:
        """Returns the seconds from when the first window was ready."""
        if self.config.schedule in PLANNED_SCHEDULES:
            observer.phase("planning")
        windows.wait()
        clock.mark("planning")
        observer.phase("answering")
        started = time.monotonic()
        answering.run(windows)
        return time.monotonic() - started

    def _row_ids(self, path: Path, job_key: str) -> dict[str, str] | None:
        """Of all rows of the input; None where no results of an earlier run are to be held against them."""
        if not self.resume or self.output == STANDARD_STREAM or not Path(self.output).is_file():
            return None
        with path.open("rb") as source:
            return row_ids(read_requests(source, job_key))

    def _model_name(self, model_dir: Path) -> str:
        """What a row that names no model is told."""
        return DEFAULT_MODEL_NAME if self.model in (None, DEFAULT_MODEL_NAME) else model_dir.resolve().name


def _job_key(model_dir: Path, settings: ResolvedConfig) -> str:
    """What besides its own line decides a row's answer: results of another model or seed are not resumed."""
    weights = "" if settings.weight_dtype == "auto" else f" {settings.weight_dtype} weights"
    cache = "" if settings.kv_dtype == settings.dtype else f" {settings.kv_dtype_name} KV"
    runaways = " without runaways" if settings.stop_runaways else ""
    return f"{model_dir.resolve()} {settings.dtype} {settings.seed}{weights}{cache}{runaways}"


def _outdated_text(count: int, output: str) -> str:
    return (
        f"{count:,} answer{'s' if count > 1 else ''} of an earlier run in {output} will be computed again: the row, "
        "the model, its precision, --seed or --stop-runaways is another now; what they were is kept in "
        f"{outdated_path(Path(output))}"
    )


def _to_answer(rows: Iterable[BatchRequest | RowError], writer: ResultWriter) -> Iterator[BatchRequest | RowError]:
    return (row for row in rows if isinstance(row, RowError) or not writer.is_completed(row))


def _first_to_answer(windows: Iterator[RowWindow], tally: Tally) -> RowWindow | None:
    """The first window with a row that may be answered; those before it are written."""
    for window in windows:
        if window.rows:
            return window
        tally.failed(window.errors)
    return None
