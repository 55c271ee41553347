"""A job's windows through the engine, and its answers to rows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from blendserve.batch.progress import JobObserver, JobProgress
from blendserve.batch.tally import Tally
from blendserve.batch.windows import OneAhead, RowWindow
from blendserve.engine import Engine, EngineRequest, Window
from blendserve.errors import RequestError
from blendserve.io.batch_input import BatchRequest, RowError
from blendserve.io.batch_output import success_row
from blendserve.io.choice_logprobs import TokenSpelling
from blendserve.llm import LLM
from blendserve.outputs import FinishedRequest
from blendserve.text.tokenizer import Tokenizer

__all__ = ["Answering", "PreparedWindow", "prepare_window"]


@dataclass(slots=True)
class _Queued:
    """A row that can be answered; `work` is the tokens of its prompt and of the longest answer, of all choices, or 0 if
    it gets a copy of another row's answer.
    """

    row: BatchRequest
    work: int


@dataclass(frozen=True, slots=True)
class PreparedWindow:
    """A window as the engine takes it, its rows in the same order, and the rows that can't be answered.

    `share_read` of the input has been read by then.
    """

    window: Window
    queued: list[_Queued]
    errors: list[RowError]
    share_read: float


def prepare_window(engine: Engine, rows: RowWindow, share_read: float) -> PreparedWindow:
    """Checks and plans; in any thread."""
    errors = list(rows.errors)
    requests: list[EngineRequest] = []
    max_new_tokens: list[int] = []
    queued: list[_Queued] = []
    outcomes = engine.limits.max_new_tokens([request for _, request in rows.rows])
    for (row, request), outcome in zip(rows.rows, outcomes, strict=True):
        if isinstance(outcome, RequestError):
            errors.append(row.failed(outcome))
        else:
            requests.append(request)
            max_new_tokens.append(outcome)
            queued.append(_Queued(row, request.params.n * (len(request.prompt_token_ids) + outcome)))
    window = engine.make_window(requests, max_new_tokens)
    for group in window.groups:
        for place in group[1:]:
            queued[place].work = 0
    return PreparedWindow(window, queued, errors, share_read)


class Answering:
    """Answers one window after the other; a row is forgotten once it is written."""

    def __init__(self, llm: LLM, tally: Tally, observer: JobObserver, default_model_name: str) -> None:
        self._llm = llm
        self._engine = llm.engine
        self._tally = tally
        self._observer = observer
        self._default_model_name = default_model_name
        self._spelling = _spelling(llm.tokenizer)
        self._queued: dict[int, _Queued] = {}
        self._num_requests = 0
        self._work = 0
        self._work_given_up = 0
        self._share_read = 1.0

    def run(self, windows: OneAhead[PreparedWindow]) -> None:
        """The next window is added as soon as nothing of the last one waits, and made meanwhile."""
        self._engine.clock.start()
        while self._add_next(windows):
            while not self._is_due(windows) and self._step():
                pass
        while self._step():
            pass

    def _is_due(self, windows: OneAhead[PreparedWindow]) -> bool:
        """Whether the next window is to be added now; a schedule that is to be repeatable waits for it."""
        return not self._engine.has_waiting and (windows.is_ready or self._engine.pacing.is_repeatable)

    def _add_next(self, windows: OneAhead[PreparedWindow]) -> bool:
        """False when there is no window left."""
        prepared = next(windows, None)
        self._engine.clock.mark("windows")
        if prepared is None:
            return False
        self._tally.failed(prepared.errors)
        self._engine.clock.mark("writing")
        indices = self._engine.add_window(prepared.window)
        self._queued.update(zip(indices, prepared.queued, strict=True))
        self._num_requests += len(indices)
        self._work += sum(queued.work for queued in prepared.queued)
        self._share_read = prepared.share_read
        return True

    def _step(self) -> bool:
        """Run one step and write what finished; False when there is nothing to run."""
        outputs = self._engine.step()
        if outputs is None:
            return False
        rows = []
        for output in outputs:
            queued = self._queued.pop(output.index)
            rows.append(self._result_row(queued.row, output))
            num_tokens = len(output.outputs) * len(output.prompt_token_ids) + output.num_output_tokens
            self._work_given_up += max(queued.work - num_tokens, 0)
        self._tally.answered(rows)
        self._engine.clock.mark("writing")
        self._observer.progress(self._progress())
        self._engine.clock.mark("progress")
        return True

    def _progress(self) -> JobProgress:
        stats = self._llm.stats
        return JobProgress(
            num_answered=self._tally.num_answered,
            num_requests=self._num_requests,
            work_done=stats.num_prompt_tokens + stats.num_output_tokens + self._work_given_up,
            total_work=int(self._work / self._share_read),
            num_running=self._engine.scheduler.num_running,
            correction=self._engine.pacing.correction,
            stats=stats,
        )

    def _result_row(self, row: BatchRequest, output: FinishedRequest) -> bytes:
        return success_row(
            row,
            output,
            created=int(time.time()),
            model=self._default_model_name,
            prompt_text=_prompt_text(row, output, self._llm.tokenizer) if row.echo else None,
            spelling=self._spelling,
        )


def _spelling(tokenizer: Tokenizer | None) -> TokenSpelling:
    if tokenizer is None:
        return TokenSpelling(None, None)
    return TokenSpelling(tokenizer.token_text, tokenizer.token_bytes)


def _prompt_text(row: BatchRequest, output: FinishedRequest, tokenizer: Tokenizer | None) -> str | None:
    """As the row gives it, or what its token ids spell."""
    if isinstance(row.prompt, str) or tokenizer is None:
        return row.prompt if isinstance(row.prompt, str) else None
    return tokenizer.decode(output.prompt_token_ids.tolist())
