"""A batch job from its first row to its last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blendserve.batch.progress import JobObserver, JobProgress, JobSummary
from blendserve.batch.tokenize import TokenizedRow, kv_tokens_needed, tokenize_rows
from blendserve.config import PLANNED_SCHEDULES, EngineConfig
from blendserve.engine import EngineRequest, RequestLimits
from blendserve.errors import RequestError
from blendserve.io.batch_input import BatchRequest, RowError, read_requests, require_rows, row_ids
from blendserve.io.batch_output import error_row, success_row
from blendserve.io.paths import check_paths, open_input
from blendserve.io.result_writer import ResultWriter
from blendserve.llm import LLM
from blendserve.models import read_config, resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME
from blendserve.outputs import RequestOutput
from blendserve.resources import ResolvedConfig, resolve
from blendserve.text.tokenizer import Tokenizer

__all__ = ["BatchJob"]


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What to run: an input file, an output file ("-" is stdin and stdout) and a model folder or name."""

    input: str
    output: str
    model: str | None
    config: EngineConfig
    resume: bool

    def run(self, observer: JobObserver) -> JobSummary:
        """Answer every row; bad rows become error rows.

        Raises:
            UserError: the job can't start: a path, the model or the configuration can't be used.
        """
        started = time.monotonic()
        check_paths(self.input, self.output)
        model_dir = resolve_model(self.model)
        model_config = read_config(model_dir)
        settings = resolve(self.config, model_config)
        observer.phase("reading requests")
        with open_input(self.input) as source:
            rows = list(require_rows(read_requests(source, _job_key(model_dir, settings)), self.input))
        tokenizer = Tokenizer.load(model_dir)
        with ResultWriter(self.output, resume=self.resume, job=row_ids(rows)) as writer:
            tally = _Tally(writer)
            observer.phase("tokenizing")
            prepared = list(tally.without_errors(tokenize_rows(_to_answer(rows, writer), tokenizer)))
            llm = None
            run_started = time.monotonic()
            if prepared:
                observer.phase("loading the model")
                needed = kv_tokens_needed(prepared, model_config, self.config.block_size)
                llm = LLM.for_job(model_dir, self.config, tokenizer, kv_tokens_needed=needed)
                if self.config.schedule in PLANNED_SCHEDULES:
                    observer.phase("planning")
                queue = _queue(llm, prepared, tally)
                observer.phase("answering")
                run_started = time.monotonic()
                _answer(llm, queue, tally, observer, self._model_name(model_dir))
        return JobSummary.of(
            None if llm is None else llm.stats,
            num_rows=len(rows),
            num_answered=tally.num_answered,
            num_failed=tally.num_failed,
            num_kept=writer.num_completed,
            setup_s=run_started - started,
            planning_s=0.0 if llm is None else llm.engine.planning_s,
            run_s=time.monotonic() - run_started,
        )

    def _model_name(self, model_dir: Path) -> str:
        """What a row that names no model is told."""
        return DEFAULT_MODEL_NAME if self.model in (None, DEFAULT_MODEL_NAME) else model_dir.resolve().name


def _job_key(model_dir: Path, settings: ResolvedConfig) -> str:
    """What besides its own line decides a row's answer: results of another model or seed are not resumed."""
    weights = "" if settings.weight_dtype == "auto" else f" {settings.weight_dtype} weights"
    return f"{model_dir.resolve()} {settings.dtype} {settings.seed}{weights}"


class _Tally:
    """Writes rows and counts them."""

    def __init__(self, writer: ResultWriter) -> None:
        self._writer = writer
        self.num_answered = 0
        self.num_failed = 0

    def answered(self, row: bytes) -> None:
        self._writer.write(row)
        self.num_answered += 1

    def failed(self, error: RowError) -> None:
        self._writer.write(error_row(error))
        self.num_failed += 1

    def without_errors(self, items: Iterable[TokenizedRow | RowError]) -> Iterator[TokenizedRow]:
        """The requests; errors are written."""
        for item in items:
            if isinstance(item, RowError):
                self.failed(item)
            else:
                yield item


def _to_answer(rows: Iterable[BatchRequest | RowError], writer: ResultWriter) -> Iterator[BatchRequest | RowError]:
    return (row for row in rows if isinstance(row, RowError) or not writer.is_completed(row))


@dataclass(frozen=True, slots=True)
class _Queued:
    """A row that can be answered; `work` is the tokens of its prompt and of the longest answer, of all choices."""

    row: BatchRequest
    request: EngineRequest
    work: int


def _answerable(prepared: Iterable[TokenizedRow], limits: RequestLimits, tally: _Tally) -> Iterator[_Queued]:
    for row, request in prepared:
        try:
            max_new_tokens = limits.max_new_tokens(request)
        except RequestError as error:
            tally.failed(row.failed(error))
        else:
            yield _Queued(row, request, request.params.n * (len(request.prompt_token_ids) + max_new_tokens))


def _queue(llm: LLM, prepared: Sequence[TokenizedRow], tally: _Tally) -> list[_Queued]:
    """What the engine is given, in its order: all that can be answered, at once."""
    queue = list(_answerable(prepared, llm.engine.limits, tally))
    llm.engine.add([queued.request for queued in queue])
    return queue


def _answer(llm: LLM, queue: Sequence[_Queued], tally: _Tally, observer: JobObserver, default_model_name: str) -> None:
    total_work = sum(queued.work for queued in queue)
    work_given_up = 0
    while (outputs := llm.engine.step()) is not None:
        for output in outputs:
            queued = queue[output.index]
            tally.answered(_result_row(queued.row, output, llm.tokenizer, default_model_name))
            work_given_up += queued.work - _num_tokens(output)
        stats = llm.stats
        observer.progress(
            JobProgress(
                num_answered=tally.num_answered,
                num_requests=len(queue),
                work_done=stats.num_prompt_tokens + stats.num_output_tokens + work_given_up,
                total_work=total_work,
                num_running=llm.engine.scheduler.num_running,
                stats=stats,
            )
        )


def _result_row(
    row: BatchRequest, output: RequestOutput, tokenizer: Tokenizer | None, default_model_name: str
) -> bytes:
    return success_row(
        row,
        output,
        created=int(time.time()),
        model=default_model_name,
        prompt_text=_prompt_text(row, output, tokenizer) if row.echo else None,
        token_text=None if tokenizer is None else tokenizer.token_text,
        token_bytes=None if tokenizer is None else tokenizer.token_bytes,
    )


def _prompt_text(row: BatchRequest, output: RequestOutput, tokenizer: Tokenizer | None) -> str | None:
    """As the row gives it, or what its token ids spell."""
    if isinstance(row.prompt, str) or tokenizer is None:
        return row.prompt if isinstance(row.prompt, str) else None
    return tokenizer.decode(output.prompt_token_ids)


def _num_tokens(output: RequestOutput) -> int:
    """Prompt and output tokens of all choices."""
    return sum(len(output.prompt_token_ids) + len(choice.token_ids) for choice in output.outputs)
