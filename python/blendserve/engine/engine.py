"""The engine: requests in, finished answers out, one step at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blendserve._core import SchedulerStats, StepPlan, StepScheduler
from blendserve.engine.answers import Answers, token_logprobs
from blendserve.engine.arrivals import num_logprobs
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.engine.pacing import Pacing
from blendserve.engine.repetitions import RUNAWAY_TOKENS, RepetitionWatch
from blendserve.engine.schedulers import Schedulers
from blendserve.engine.step_executor import StepExecutor
from blendserve.engine.window import Window, WindowMaker
from blendserve.engine.window_planner import WindowPlanner
from blendserve.engine.window_queue import QueuedWindow, WindowQueue
from blendserve.errors import RequestError
from blendserve.outputs import CompletionOutput, FinishedRequest, TokenLogprob
from blendserve.recording import RunRecorder, StageClock
from blendserve.resources import ResolvedConfig
from blendserve.runner import LogitEdits, ModelRunner, PromptScores, SampledTokens, Sampler, SamplingTable
from blendserve.sampling_params import SamplingParams
from blendserve.text.detokenizer import Decode

__all__ = ["Engine"]


_NOBODY: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(slots=True)
class _ActiveRequest:
    """A request and its `n` choices, which are the scheduler's requests first_id, first_id + 1, ...

    Its answer is that of all requests in `indices`, copied for all but the first.
    """

    indices: list[int]
    request: EngineRequest
    first_id: int
    choices: dict[int, CompletionOutput] = field(default_factory=dict)


class Engine:
    """Drives one model. `step()` is the whole of it: schedule, run, sample, update. With `config.async_scheduling` a
    step runs in a thread of its own, while the next one is planned and the answers of the last one are put together.

    `decode` turns token ids into text, None for a model without a tokenizer. What is added together is a window: it
    starts when nothing of those before it waits, or when it can run at once beside them. With a `planner`, which the
    planned schedules need, a window that finds the engine idle follows its plan, and has a scheduler of its own, which
    goes on with what is cached; one that comes while another runs waits until that has ended, unless a step has room
    for all of it: then it needs no plan. One thread at a time may use an engine, but any may make windows and add them.
    `pacing` is told what every step takes, and corrects by it what later ones are paced by. `clock` has where the time
    of its steps went, `step_clock` that of the thread that runs them; a `recorder`, if one is set, is told of every
    step.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: ResolvedConfig,
        eos_token_ids: Sequence[int],
        decode: Decode | None,
        planner: WindowPlanner | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self._runner = runner
        self._config = config
        self._limits = RequestLimits.of(
            runner.model_config, kv_capacity=config.kv_capacity, has_tokenizer=decode is not None
        )
        self._maker = WindowMaker(tuple(eos_token_ids), config.seed, planner)
        self._windows = WindowQueue()
        self._num_windows = 0
        self._num_duplicates = 0
        self._planning_s = 0.0
        self._schedulers = Schedulers(config, follows_plans=planner is not None)
        self._sampling = SamplingTable()
        self._sampler = Sampler(self._sampling)
        self._prompt_scores = PromptScores(config.kv_capacity, config.block_size, runner.model_config.vocab_size)
        self._answers = Answers(decode)
        self._repetitions = RepetitionWatch()
        self._num_runaways = 0
        self._active: dict[int, _ActiveRequest] = {}  # by scheduler request id; the choices of a request share one
        self._executor = StepExecutor(in_background=config.async_scheduling)
        self._ended = _NOBODY  # since the step in flight was planned
        self._settled: list[FinishedRequest] = []  # finished in a step that was waited for between two calls of step()
        self.clock = StageClock()
        self.step_clock = StageClock()
        self.pacing = pacing or Pacing()
        self.recorder: RunRecorder | None = None

    @property
    def limits(self) -> RequestLimits:
        return self._limits

    @property
    def scheduler(self) -> StepScheduler:
        return self._schedulers.current

    @property
    def stats(self) -> SchedulerStats:
        """Counts since construction."""
        return self._schedulers.stats

    @property
    def num_windows(self) -> int:
        """Windows that have started."""
        return self._num_windows

    @property
    def num_duplicates(self) -> int:
        """Requests of these windows whose answer is another one's."""
        return self._num_duplicates

    @property
    def num_runaways(self) -> int:
        """Answers that were ended because they repeated themselves."""
        return self._num_runaways

    @property
    def planning_s(self) -> float:
        """Seconds spent on the plans of these windows."""
        return self._planning_s

    @property
    def has_waiting(self) -> bool:
        """Whether there is work that has not started yet: another window would only wait behind it."""
        return len(self._windows) > 0 or self._num_waiting > 0

    def make_window(self, requests: Sequence[EngineRequest], max_new_tokens: Sequence[int]) -> Window:
        """Requests as a window to add, with what `limits` allow each to generate. Any thread may make one."""
        return self._maker.make(requests, max_new_tokens)

    def add_window(self, window: Window, *, priority: float = 0, deadline: float | None = None) -> range:
        """Queue a window; returns the indices by which its requests are known when they finish. Any thread may add.

        Windows start by priority, the highest first, then by deadline, the earliest first, then as they come.
        """
        return self._windows.put(window, priority=priority, deadline=deadline)

    def add(self, requests: Sequence[EngineRequest]) -> range:
        """`make_window` and `add_window`.

        Raises:
            RequestError: one of them can't be answered.
        """
        max_new_tokens = []
        for outcome in self._limits.max_new_tokens(requests):
            if isinstance(outcome, RequestError):
                raise outcome
            max_new_tokens.append(outcome)
        return self.add_window(self.make_window(requests, max_new_tokens))

    def step(self) -> list[FinishedRequest] | None:
        """Run one step. Returns the requests that finished in it, or None when there is nothing left to run.

        If the model fails, the error is raised and every request of the step waits to be run again.
        """
        self.clock.start()
        if self._executor.plan is None:
            self._start_next(None)
        plan = self._executor.plan
        if plan is None:
            return self._take_settled() or None
        following = self.scheduler.schedule() if self._config.async_scheduling else None
        self.clock.mark("schedule")
        sample_ids, sampled, finished = self._finish_step(plan)
        if self.scheduler.num_unfinished > 0 and self._config.async_scheduling:
            self._start_next(following)
        elif following is not None:  # whoever it is for has ended
            self.scheduler.abort_step(following)
        self.clock.mark("schedule")
        outputs = self._answer(sample_ids, sampled, finished)
        self.clock.mark("answers")
        return self._take_settled() + outputs

    def _start_next(self, plan: StepPlan | None) -> None:
        """Start the step that was planned ahead, else the next one. Windows start while no step runs; one with a
        scheduler of its own when besides all answers of the last one are taken.
        """
        self._start_due_windows()
        self._ended = _NOBODY
        plan = plan or self.scheduler.schedule()
        if plan is not None:
            self._executor.start(plan, self._run)

    def _finish_step(self, plan: StepPlan) -> tuple[NDArray[np.int32], SampledTokens, NDArray[np.int32]]:
        """The requests that got a token, these tokens, and the requests that finished."""
        try:
            sampled, seconds = self._executor.result()
        except BaseException:
            self.scheduler.abort_step(plan)
            raise
        self.clock.mark("step")
        finished = self.scheduler.update(plan, sampled.token_ids)
        if self.pacing.stepped(plan, seconds):
            self._schedulers.correct_times(self.pacing.correction)
        if self.recorder is not None:
            self.recorder.stepped(self.scheduler, plan)
        sample_ids = plan.sample_ids
        if self._config.async_scheduling and np.any(is_late := np.isin(sample_ids, self._ended)):
            sample_ids, sampled = sample_ids[~is_late], sampled.only(~is_late)
        self._sampling.accept(sample_ids, sampled.token_ids)
        self.clock.mark("update")
        return sample_ids, sampled, finished

    def _answer(
        self, sample_ids: NDArray[np.int32], sampled: SampledTokens, finished: NDArray[np.int32]
    ) -> list[FinishedRequest]:
        matched = self._answers.accept(sample_ids, sampled, self._ended_by_token)
        ended = _with(finished, matched)
        runaways = self._repetitions.accept(sample_ids, ended, self.scheduler.output_tokens)
        self._num_runaways += len(runaways)
        for request_id in matched + runaways:
            self.scheduler.stop(request_id)
        self._ended = _with(ended, runaways)
        return self._collect(self._ended)

    def _ended_by_token(self, request_id: int) -> bool:
        return self.scheduler.finish_reason(request_id) == "stop_token"

    def _settle(self) -> None:
        """Wait for the step that runs in the background."""
        plan = self._executor.plan
        if plan is not None:
            self._settled += self._answer(*self._finish_step(plan))

    def _take_settled(self) -> list[FinishedRequest]:
        settled, self._settled = self._settled, []
        return settled

    @property
    def _num_waiting(self) -> int:
        return self.scheduler.num_unfinished - self.scheduler.num_running

    def _start_due_windows(self) -> None:
        while (queued := self._windows.take(self._is_due)) is not None:
            self._start(queued)

    def _is_due(self, window: Window) -> bool:
        num_unfinished = self.scheduler.num_unfinished
        if num_unfinished == 0:
            return True
        num_rows = window.arrivals.num_rows
        if self._schedulers.is_worn or (window.plan is not None and num_rows > self._config.max_batch_requests):
            return False
        return self._num_waiting == 0 or num_unfinished + num_rows <= self._config.max_batch_requests

    def _start(self, queued: QueuedWindow) -> None:
        window = queued.window
        if self.scheduler.num_unfinished == 0 and (window.plan is not None or self._schedulers.is_worn):
            self._schedulers.replace(window.plan)
        first_id = self.scheduler.num_requests
        arrivals = window.arrivals
        self._sampling.set(np.arange(first_id, first_id + arrivals.num_rows), **window.sampling)
        self.scheduler.add_requests(
            arrivals.tokens,
            arrivals.offsets,
            arrivals.max_new_tokens,
            arrivals.column(lambda params: self.scheduler.add_stop_set(self._maker.end_ids(params)), np.int32),
            arrivals.column(lambda params: num_logprobs(params.prompt_logprobs), np.int32),
        )
        for request, group in zip(window.requests, window.groups, strict=True):
            self._begin(_ActiveRequest([queued.indices[place] for place in group], request, first_id))
            first_id += request.params.n
        if self.recorder is not None:
            self.recorder.arrived(arrivals.tokens, arrivals.offsets, first_id=first_id - arrivals.num_rows)
        self._num_windows += 1
        self._num_duplicates += window.num_duplicates
        self._planning_s += window.planning_s
        if queued.cancelled:
            self.cancel(queued.cancelled)

    def _run(self, plan: StepPlan) -> SampledTokens:
        self.step_clock.start()
        if len(plan.prompt_logit_rows) == 0 and not self._sampling.needs_logits(plan.sample_ids):
            sampled = SampledTokens(self._runner.most_likely(plan), logprobs=None)
            self.step_clock.mark("model")
        else:
            logits = self._runner.run(plan)
            self.step_clock.mark("model")
            self._prompt_scores.store(plan, logits.prompt)
            sampled = self._sampler.sample(logits.sampled, plan.sample_ids, plan.sample_positions)
        self._prompt_scores.collect(plan)
        self.step_clock.mark("sampling")
        return sampled

    def cancel(self, indices: Iterable[int]) -> None:
        """End requests that are not finished; they return nothing."""
        self._settle()
        cancelled = set(indices)
        self._settled = [output for output in self._settled if output.index not in cancelled]
        self._windows.cancel(cancelled)
        for request_id, active in list(self._active.items()):
            if not cancelled.isdisjoint(active.indices):
                active.indices = [index for index in active.indices if index not in cancelled]
            if not active.indices:
                self._drop(request_id)

    def _drop(self, request_id: int) -> None:
        self.scheduler.stop(request_id)
        self.scheduler.forget(request_id)
        self._answers.drop(request_id)
        self._repetitions.finish(request_id)
        self._prompt_scores.finish(self._active.pop(request_id).first_id)
        self._sampling.edit(request_id, None)

    def _begin(self, active: _ActiveRequest) -> None:
        prompt, params = active.request.prompt_token_ids, active.request.params
        for request_id in range(active.first_id, active.first_id + params.n):
            self._active[request_id] = active
            self._answers.begin(request_id, params)
            self._repetitions.begin(request_id, self._repetition_limit(params), params.min_tokens)
            if params.edits_logits:
                self._sampling.edit(request_id, LogitEdits.of(params, prompt, self._maker.end_ids(params)))
        if params.prompt_logprobs is not None:
            self._prompt_scores.begin(active.first_id, len(prompt), params.prompt_logprobs)

    def _repetition_limit(self, params: SamplingParams) -> int:
        if params.max_repeated_tokens is not None:
            return params.max_repeated_tokens
        return RUNAWAY_TOKENS if self._config.stop_runaways else 0

    def _collect(self, finished: NDArray[np.int32]) -> list[FinishedRequest]:
        outputs = []
        answers = self.scheduler.take_answers(finished)
        for request_id, (token_ids, reason) in zip(finished.tolist(), answers, strict=True):
            active = self._active.pop(request_id)
            params, choice = active.request.params, request_id - active.first_id
            if self.recorder is not None:
                self.recorder.finished(request_id, len(token_ids))
            active.choices[choice] = self._answers.finish(request_id, params, choice, token_ids, reason)
            self._repetitions.finish(request_id)
            if request_id in self._sampling.edits:
                self._sampling.edit(request_id, None)
            if len(active.choices) == params.n:
                output = self._output(active)
                outputs += [output, *(output.copied_to(index) for index in active.indices[1:])]
        return outputs

    def _output(self, active: _ActiveRequest) -> FinishedRequest:
        return FinishedRequest(
            index=active.indices[0],
            prompt_token_ids=active.request.prompt_token_ids,
            outputs=tuple([active.choices[choice] for choice in range(active.request.params.n)]),
            num_cached_tokens=self.scheduler.num_cached_tokens(active.first_id),
            prompt_logprobs=self._prompt_logprobs(active),
        )

    def _prompt_logprobs(self, active: _ActiveRequest) -> tuple[TokenLogprob | None, ...] | None:
        scores = self._prompt_scores.finish(active.first_id)
        return None if scores is None else (None, *token_logprobs(active.request.prompt_token_ids[1:], scores))


def _with(ids: NDArray[np.int32], more: list[int]) -> NDArray[np.int32]:
    return np.union1d(ids, np.array(more, dtype=np.int32)) if more else np.sort(ids)
