"""`LLM`: a model, ready to answer lists of prompts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blendserve._core import SchedulerStats
from blendserve.config import PLANNED_SCHEDULES, Attention, Device, Dtype, EngineConfig, KvDtype, Schedule, WeightDtype
from blendserve.engine import Engine, EngineRequest, SharedEngine, WindowPlanner, check_forward, pacing_of
from blendserve.errors import RequestError, UserError
from blendserve.models import load_model, read_config, resolve_model
from blendserve.outputs import RequestOutput
from blendserve.prompts import Prompt, check_conversations, check_order, params_per_prompt, tokenize_prompts
from blendserve.resources import ResolvedConfig, resolve
from blendserve.runner import ModelRunner
from blendserve.sampling_params import SamplingParams
from blendserve.specs import DeviceSpec
from blendserve.submission import Submission
from blendserve.text.tokenizer import Tokenizer
from blendserve.text.tokenizer_check import check_chat_template, check_tokenizer_size

__all__ = ["LLM", "Prompt", "Submission"]

_SOME_TEXT = "The capital of France is Paris, and the capital of Germany is Berlin."


class LLM:
    """Loads a model and answers prompts with it.

    Args:
        model: a folder in the Hugging Face format, a .gguf file, or None for the default model.
        self_check: whether to check first that this machine computes the model, and that tokenizer, chat template and
            model belong together; what may be intended is a warning.
        The others are the fields of `EngineConfig`. Under a planned schedule the prompts of a call have a plan of their
        own, unless they come while others run and are few enough to run at once: at most max_batch_requests sequences.

    Any thread may use it, while others do.

    Raises:
        UserError: an argument or the model can't be used, or fails the self-check.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        schedule: Schedule = "blend",
        device: Device = "auto",
        dtype: Dtype = "auto",
        weight_dtype: WeightDtype = "auto",
        kv_memory: int | str | None = None,
        kv_dtype: KvDtype = "auto",
        max_batch_tokens: int | None = None,
        max_batch_requests: int | None = None,
        attention: Attention = "auto",
        block_size: int = 16,
        seed: int = 0,
        async_scheduling: bool = False,
        stop_runaways: bool = False,
        hardware: str | Path | DeviceSpec | None = None,
        deterministic_schedule: bool = False,
        schedule_log: str | Path | None = None,
        replay_schedule: str | Path | None = None,
        self_check: bool = True,
    ) -> None:
        config = EngineConfig(
            schedule=schedule,
            device=device,
            dtype=dtype,
            weight_dtype=weight_dtype,
            kv_memory=kv_memory,
            kv_dtype=kv_dtype,
            max_batch_tokens=max_batch_tokens,
            max_batch_requests=max_batch_requests,
            attention=attention,
            block_size=block_size,
            seed=seed,
            async_scheduling=async_scheduling,
            stop_runaways=stop_runaways,
            hardware=hardware,
            deterministic_schedule=deterministic_schedule,
            schedule_log=schedule_log,
            replay_schedule=replay_schedule,
        )
        model_dir = resolve_model(None if model is None else str(model))
        self._setup(model_dir, config, Tokenizer.load(model_dir), None)
        if self_check:
            for warning in self.self_check(chats=True):
                warnings.warn(warning, stacklevel=2)

    @classmethod
    def for_job(
        cls, model_dir: Path, config: EngineConfig, tokenizer: Tokenizer | None, *, kv_tokens_needed: int | None
    ) -> LLM:
        """For a job: an automatic KV cache is no larger than it can use, in tokens, where that is known."""
        llm = cls.__new__(cls)
        llm._setup(model_dir, config, tokenizer, kv_tokens_needed)
        return llm

    def _setup(
        self, model_dir: Path, config: EngineConfig, tokenizer: Tokenizer | None, kv_tokens_needed: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.model_config = read_config(model_dir)
        self.config: ResolvedConfig = resolve(config, self.model_config, kv_tokens_needed=kv_tokens_needed)
        is_planned = self.config.schedule in PLANNED_SCHEDULES
        planner = WindowPlanner.of(model_dir, self.model_config, self.config) if is_planned else None
        pacing = pacing_of(model_dir, config, self.config, planner)
        model = load_model(
            model_dir,
            self.model_config,
            dtype=self.config.dtype,
            device=self.config.device,
            attention=self.config.attention,
            weight_dtype=self.config.weight_dtype,
        )
        decode = None if tokenizer is None else tokenizer.decode
        self._runner = ModelRunner(model, self.config)
        self.engine = Engine(self._runner, self.config, self.model_config.eos_token_ids, decode, planner, pacing)
        self._shared = SharedEngine(self.engine)

    def self_check(self, *, chats: bool) -> list[str]:
        """Before the first request. Returns warnings; `chats`: also about the chat template.

        Raises:
            UserError: answers would be nonsense, or requests have run: the check would overwrite what they have cached.
        """
        if self.engine.num_windows > 0:
            raise UserError("self_check comes after the first request; call it before, or on an LLM of its own")
        if self.tokenizer is None:
            check_forward(self._runner, self.config)
            return []
        found = check_tokenizer_size(self.tokenizer, self.model_config.vocab_size)
        check_forward(self._runner, self.config, () if found else self.tokenizer.encode(_SOME_TEXT))
        return found + (check_chat_template(self.tokenizer, self.model_config.eos_token_ids) if chats else [])

    @property
    def stats(self) -> SchedulerStats:
        """Counts since construction."""
        return self.engine.stats

    def generate(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[RequestOutput]:
        """Answer every prompt; returns the results in the order of the prompts.

        Args:
            prompts: strings or lists of token ids; one alone is a list of one.
            params: for all prompts, or one per prompt; None is `SamplingParams()`.

        Raises:
            UserError: a prompt or its params can't be used; nothing is run.
        """
        return sorted(self.stream(prompts, params), key=lambda output: output.index)

    def stream(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> Iterator[RequestOutput]:
        """Like `generate`, but each result comes as soon as it is finished; `index` is its place in `prompts`.

        Ending the iteration early cancels what is not finished.
        """
        return self._stream(*self._requests(prompts, params))

    def submit(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priority: float = 0,
        deadline: float | None = None,
    ) -> Submission:
        """Queue prompts and return at once, also while other threads wait for answers; errors are those of `generate`.

        The prompts of one call are planned together, and start when nothing that started before them waits any more.
        Of the submissions that wait, the one of the highest priority is next; of these the one of the earliest
        deadline; of these the first to come.

        Args:
            priority: any finite number.
            deadline: seconds from now by which the answers are wanted: it orders submissions, and nothing ends by it.
        """
        requests, max_new_tokens = self._requests(prompts, params)
        check_order(priority, deadline)
        due = None if deadline is None else time.monotonic() + deadline
        window = self.engine.make_window(requests, max_new_tokens)
        return Submission(self._shared, self._shared.add(window, priority=priority, deadline=due))

    def chat(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **template_kwargs: Any,
    ) -> list[RequestOutput]:
        """Answer conversations, each a list of {"role", "content"} messages, through the model's chat template."""
        if self.tokenizer is None:
            raise UserError("chat needs a tokenizer, and this model folder has none; use generate with token ids")
        check_conversations(conversations)
        prompts = []
        for index, messages in enumerate(conversations):
            try:
                prompts.append(self.tokenizer.encode_chat(messages, template_kwargs))
            except RequestError as error:
                raise _placed(error, f"conversations[{index}]") from None
        return self.generate(prompts, params)

    def _stream(self, requests: Sequence[EngineRequest], max_new_tokens: Sequence[int]) -> Iterator[RequestOutput]:
        indices = self._shared.add(self.engine.make_window(requests, max_new_tokens))
        unfinished = set(indices)
        try:
            while unfinished and (finished := self._shared.take_finished(unfinished)):
                for output in finished:
                    unfinished.remove(output.index)
                    yield output.at(output.index - indices.start)
        finally:
            self._shared.cancel(unfinished)

    def _requests(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None
    ) -> tuple[list[EngineRequest], list[int]]:
        """What is asked, and how many tokens each answer may have."""
        token_ids = tokenize_prompts(prompts, self.tokenizer)
        requests = [
            EngineRequest(prompt, prompt_params, name=str(index))
            for index, (prompt, prompt_params) in enumerate(
                zip(token_ids, params_per_prompt(params, len(token_ids)), strict=True)
            )
        ]
        max_new_tokens = []
        for index, outcome in enumerate(self.engine.limits.max_new_tokens(requests)):
            if isinstance(outcome, RequestError):
                raise _placed(outcome, f"prompts[{index}]")
            max_new_tokens.append(outcome)
        return requests, max_new_tokens


def _placed(error: RequestError, place: str) -> RequestError:
    return RequestError(f"{place}: {error}", code=error.code, param=error.param)
