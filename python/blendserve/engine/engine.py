"""The engine: requests in, finished answers out, one step at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blendserve._core import SchedulerStats, StepPlan, StepScheduler
from blendserve.engine.answers import Answers, token_logprobs
from blendserve.engine.engine_request import EngineRequest, RequestLimits
from blendserve.outputs import CompletionOutput, RequestOutput, TokenLogprob
from blendserve.random_keys import stream_key
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

    `decode` turns token ids into text, None for a model without a tokenizer. One thread at a time may use it.
    """

    def __init__(
        self, runner: ModelRunner, config: ResolvedConfig, eos_token_ids: Sequence[int], decode: Decode | None
    ) -> None:
        self._runner = runner
        self._config = config
        self._eos_token_ids = tuple(eos_token_ids)
        self._limits = RequestLimits.of(
            runner.model_config, kv_capacity=config.kv_capacity, has_tokenizer=decode is not None
        )
        self._scheduler = StepScheduler(
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            max_batch_tokens=config.max_batch_tokens,
            max_batch_requests=config.max_batch_requests,
            max_prompt_logits=config.max_prompt_logits,
            schedule=config.schedule,
            seed=config.seed % 2**64,
        )
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
        return self._scheduler.stats

    def add(self, requests: Sequence[EngineRequest]) -> range:
        """Queue requests; returns their indices, by which their `RequestOutput`s are known.

        Raises:
            RequestError: one of them can't be answered; none is queued.
        """
        max_new_tokens = [self._limits.max_new_tokens(request) for request in requests]
        end_ids = [self._end_ids(request.params) for request in requests]
        params = [request.params for request in requests]
        num_choices = np.array([each.n for each in params], dtype=np.int64)
        prompts = [request.prompt_token_ids for request in requests for _ in range(request.params.n)]
        first_id = self._scheduler.num_requests
        self._sampling.set(
            np.arange(first_id, first_id + len(prompts)),
            **_sampling_columns(requests, num_choices, self._config.seed),
        )
        self._scheduler.add_requests(
            np.concatenate([np.empty(0, np.int32), *prompts]).astype(np.int32, copy=False),
            np.cumsum([0, *map(len, prompts)], dtype=np.int64),
            np.repeat(np.array(max_new_tokens, dtype=np.int32), num_choices),
            np.repeat(np.array([self._scheduler.add_stop_set(ids) for ids in end_ids], dtype=np.int32), num_choices),
            np.repeat(np.array([_count(each.prompt_logprobs) for each in params], dtype=np.int32), num_choices),
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


def _count(num_logprobs: int | None) -> int:
    return -1 if num_logprobs is None else num_logprobs


def _sampling_columns(
    requests: Sequence[EngineRequest], num_choices: NDArray[np.int64], job_seed: int
) -> dict[str, NDArray[np.generic]]:
    """The columns of a `SamplingTable` for every choice of every request."""
    params = [request.params for request in requests]

    def column(values: Iterable[float], dtype: type[np.generic]) -> NDArray[np.generic]:
        return np.repeat(np.array(list(values), dtype=dtype), num_choices)

    keys = [
        stream_key(request_seed=request.params.seed, job_seed=job_seed, name=request.name, choice=choice)
        for request in requests
        for choice in range(request.params.n)
    ]
    return {
        "temperature": column((p.temperature for p in params), np.float32),
        "top_p": column((p.top_p for p in params), np.float32),
        "top_k": column((p.top_k for p in params), np.int32),
        "min_p": column((p.min_p for p in params), np.float32),
        "num_logprobs": column((_count(p.logprobs) for p in params), np.int32),
        "key": np.array(keys, dtype=np.uint64),
    }
