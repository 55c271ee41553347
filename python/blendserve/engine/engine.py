"""The engine: requests in, finished answers out, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blendserve._core import SchedulerStats, StepPlan, StepScheduler
from blendserve.engine.answers import Answers, token_logprobs
from blendserve.engine.arrivals import Arrivals, num_logprobs
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.engine.job_planner import JobPlanner, PlannedJob
from blendserve.outputs import CompletionOutput, RequestOutput, TokenLogprob
from blendserve.resources import ResolvedConfig
from blendserve.runner import LogitEdits, ModelRunner, PromptScores, SampledTokens, Sampler, SamplingTable
from blendserve.sampling_params import SamplingParams
from blendserve.text.detokenizer import Decode

__all__ = ["Engine"]


@dataclass(slots=True)
class _Job:
    """A request and its `n` choices, which are the scheduler's requests first_id, first_id + 1, ..."""

    index: int
    request: EngineRequest
    first_id: int
    choices: dict[int, CompletionOutput] = field(default_factory=dict)


class Engine:
    """Drives one model. `step()` is the whole of it: schedule, run, sample, update.

    `decode` turns token ids into text, None for a model without a tokenizer. With a `planner`, which the planned
    schedules need, the requests that an idle engine is given are a job: it is planned, and has a scheduler, and so a
    prefix cache, of its own. Requests that come while it runs are answered after it. One thread at a time may use it.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: ResolvedConfig,
        eos_token_ids: Sequence[int],
        decode: Decode | None,
        planner: JobPlanner | None = None,
    ) -> None:
        self._runner = runner
        self._config = config
        self._eos_token_ids = tuple(eos_token_ids)
        self._limits = RequestLimits.of(
            runner.model_config, kv_capacity=config.kv_capacity, has_tokenizer=decode is not None
        )
        self._planner = planner
        self._planning_s = 0.0
        self._scheduler = self._scheduler_of(None)
        self._past_stats = SchedulerStats()
        self._sampling = SamplingTable()
        self._sampler = Sampler(self._sampling)
        self._prompt_scores = PromptScores(config.kv_capacity, config.block_size, runner.model_config.vocab_size)
        self._answers = Answers(decode)
        self._jobs: dict[int, _Job] = {}  # by scheduler request id; the choices of a request share one
        self._num_jobs = 0

    @property
    def limits(self) -> RequestLimits:
        return self._limits

    @property
    def scheduler(self) -> StepScheduler:
        return self._scheduler

    @property
    def stats(self) -> SchedulerStats:
        """Counts since construction."""
        return self._past_stats + self._scheduler.stats

    @property
    def planning_s(self) -> float:
        """Seconds spent on plans since construction."""
        return self._planning_s

    def add(self, requests: Sequence[EngineRequest]) -> range:
        """Queue requests; returns their indices, by which their `RequestOutput`s are known.

        Raises:
            RequestError: one of them can't be answered; none is queued.
        """
        arrivals = Arrivals.of(requests, self._limits)
        end_ids = [self._end_ids(request.params) for request in requests]
        if self._planner is not None and requests and not self._jobs:
            self._begin_planned_job(self._planner, arrivals)
        first_id = self._scheduler.num_requests
        row_ids = np.arange(first_id, first_id + arrivals.num_rows)
        self._sampling.set(row_ids, **arrivals.sampling_columns(requests, self._config.seed))
        self._scheduler.add_requests(
            arrivals.tokens,
            arrivals.offsets,
            arrivals.max_new_tokens,
            arrivals.by_row((self._scheduler.add_stop_set(ids) for ids in end_ids), np.int32),
            arrivals.by_row((num_logprobs(request.params.prompt_logprobs) for request in requests), np.int32),
        )
        indices = range(self._num_jobs, self._num_jobs + len(requests))
        self._num_jobs += len(requests)
        for index, request, ids in zip(indices, requests, end_ids, strict=True):
            self._begin(_Job(index, request, first_id), ids)
            first_id += request.params.n
        return indices

    def step(self) -> list[RequestOutput] | None:
        """Run one step. Returns the requests that finished in it, or None when there is nothing left to run.

        If the model fails, the error is raised and every request of the step waits to be run again.
        """
        plan = self._scheduler.schedule()
        if plan is None:
            return None
        try:
            sampled = self._run(plan)
        except BaseException:
            self._scheduler.abort_step(plan)
            raise
        finished = self._scheduler.update(plan, sampled.token_ids)
        self._sampling.accept(plan.sample_ids, sampled.token_ids)
        ended_by_token = np.array(
            [id_ for id_ in finished.tolist() if self._scheduler.finish_reason(id_) == "stop_token"], dtype=np.int32
        )
        matched = self._answers.accept(plan.sample_ids, sampled, ended_by_token)
        for request_id in matched:
            self._scheduler.stop(request_id)
        return self._collect(np.union1d(finished, np.array(matched, dtype=np.int32)))

    def _begin_planned_job(self, planner: JobPlanner, arrivals: Arrivals) -> None:
        """The scheduler's next requests are `arrivals`."""
        started = time.perf_counter()
        scheduler = self._scheduler_of(planner.plan(arrivals))
        self._planning_s += time.perf_counter() - started
        self._past_stats += self._scheduler.stats
        self._scheduler = scheduler

    def _scheduler_of(self, job: PlannedJob | None) -> StepScheduler:
        config = self._config
        return StepScheduler(
            None if job is None else job.plan,
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            max_batch_tokens=config.max_batch_tokens,
            max_batch_requests=config.max_batch_requests,
            max_prompt_logits=config.max_prompt_logits,
            schedule="fcfs" if job is None and self._planner is not None else config.schedule,
            seed=config.seed % 2**64,
            execution="sequential",
            first_rows=[] if job is None else job.first_rows,
            adds_requests=False,
        )

    def _run(self, plan: StepPlan) -> SampledTokens:
        if len(plan.prompt_logit_rows) == 0 and not self._sampling.needs_logits(plan.sample_ids):
            sampled = SampledTokens(self._runner.most_likely(plan), logprobs=None)
        else:
            logits = self._runner.run(plan)
            self._prompt_scores.store(plan, logits.prompt)
            sampled = self._sampler.sample(logits.sampled, plan.sample_ids, plan.sample_positions)
        self._prompt_scores.collect(plan)
        return sampled

    def cancel(self, indices: Iterable[int]) -> None:
        """End requests that are not finished; they return nothing."""
        cancelled = set(indices)
        for request_id, job in list(self._jobs.items()):
            if job.index in cancelled:
                self._scheduler.stop(request_id)
                self._scheduler.forget(request_id)
                self._answers.drop(request_id)
                self._prompt_scores.finish(request_id)
                self._sampling.edit(request_id, None)
                del self._jobs[request_id]

    def _begin(self, job: _Job, end_ids: Sequence[int]) -> None:
        prompt, params = job.request.prompt_token_ids, job.request.params
        for request_id in range(job.first_id, job.first_id + params.n):
            self._jobs[request_id] = job
            self._answers.begin(request_id, params)
            self._sampling.edit(request_id, LogitEdits.of(params, prompt, end_ids))
        if params.prompt_logprobs is not None:
            self._prompt_scores.begin(job.first_id, len(prompt), params.prompt_logprobs)

    def _end_ids(self, params: SamplingParams) -> list[int]:
        """The tokens that end an answer."""
        return sorted({*(() if params.ignore_eos else self._eos_token_ids), *params.stop_token_ids})

    def _collect(self, finished: NDArray[np.int32]) -> list[RequestOutput]:
        outputs = []
        for request_id in finished.tolist():
            job = self._jobs.pop(request_id)
            choice = request_id - job.first_id
            reason = self._scheduler.finish_reason(request_id)
            token_ids = self._scheduler.output_tokens(request_id)
            job.choices[choice] = self._answers.finish(request_id, job.request.params, choice, token_ids, reason)
            self._scheduler.forget(request_id)
            self._sampling.edit(request_id, None)
            if len(job.choices) == job.request.params.n:
                outputs.append(self._output(job))
        return outputs

    def _output(self, job: _Job) -> RequestOutput:
        return RequestOutput(
            index=job.index,
            prompt_token_ids=tuple(job.request.prompt_token_ids.tolist()),
            outputs=tuple(job.choices[choice] for choice in range(job.request.params.n)),
            num_cached_tokens=self._scheduler.num_cached_tokens(job.first_id),
            prompt_logprobs=self._prompt_logprobs(job),
        )

    def _prompt_logprobs(self, job: _Job) -> tuple[TokenLogprob | None, ...] | None:
        scores = self._prompt_scores.finish(job.first_id)
        return None if scores is None else (None, *token_logprobs(job.request.prompt_token_ids[1:], scores))
