"""`LLM`: a model, ready to answer lists of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve._core import SchedulerStats
from blendserve.config import Device, Dtype, EngineConfig, Schedule
from blendserve.engine import Engine, EngineRequest
from blendserve.errors import RequestError, UserError
from blendserve.models import ModelConfig, load_model, resolve_model
from blendserve.outputs import RequestOutput
from blendserve.resources import ResolvedConfig, resolve
from blendserve.runner import ModelRunner
from blendserve.sampling_params import SamplingParams
from blendserve.text.tokenizer import Tokenizer

__all__ = ["LLM", "Prompt"]

Prompt = str | Sequence[int]


class LLM:
    """Loads a model folder and answers prompts with it.

    Args:
        model: a folder in the Hugging Face format, or None for the default model.
        The others are the fields of `EngineConfig`.

    Raises:
        UserError: an argument or the model folder can't be used.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        schedule: Schedule = "dfs",
        device: Device = "auto",
        dtype: Dtype = "auto",
        kv_memory: int | str | None = None,
        max_batch_tokens: int | None = None,
        max_batch_requests: int | None = None,
        attention: str = "auto",
        block_size: int = 16,
        seed: int = 0,
    ) -> None:
        config = EngineConfig(
            schedule=schedule,
            device=device,
            dtype=dtype,
            kv_memory=kv_memory,
            max_batch_tokens=max_batch_tokens,
            max_batch_requests=max_batch_requests,
            attention=attention,
            block_size=block_size,
            seed=seed,
        )
        model_dir = resolve_model(None if model is None else str(model))
        self._setup(model_dir, config, Tokenizer.load(model_dir), None)

    @classmethod
    def for_job(
        cls, model_dir: Path, config: EngineConfig, tokenizer: Tokenizer | None, *, kv_tokens_needed: int
    ) -> LLM:
        """For a job known up front: an automatic KV cache is no larger than the job can use, in tokens."""
        llm = cls.__new__(cls)
        llm._setup(model_dir, config, tokenizer, kv_tokens_needed)
        return llm

    def _setup(
        self, model_dir: Path, config: EngineConfig, tokenizer: Tokenizer | None, kv_tokens_needed: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.model_config = ModelConfig.from_dir(model_dir)
        self.config: ResolvedConfig = resolve(config, self.model_config, kv_tokens_needed=kv_tokens_needed)
        model = load_model(model_dir, self.model_config, dtype=self.config.dtype, device=self.config.device)
        decode = None if tokenizer is None else tokenizer.decode
        runner = ModelRunner(model, self.config)
        self.engine = Engine(runner, self.config, self.model_config.eos_token_ids, decode)

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
        requests = self._requests(prompts, params)
        return self._stream(requests)

    def chat(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **template_kwargs: Any,
    ) -> list[RequestOutput]:
        """Answer conversations, each a list of {"role", "content"} messages, through the model's chat template."""
        tokenizer = self._require_tokenizer("chat")
        return self.generate([tokenizer.encode_chat(messages, template_kwargs) for messages in conversations], params)

    def _stream(self, requests: Sequence[EngineRequest]) -> Iterator[RequestOutput]:
        indices = self.engine.add(requests)
        unfinished = set(indices)
        try:
            while unfinished and (outputs := self.engine.step()) is not None:
                for output in outputs:
                    unfinished.discard(output.index)
                    yield output.at(output.index - indices.start)
        finally:
            self.engine.cancel(unfinished)

    def _requests(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[EngineRequest]:
        token_ids = self._tokenize(_as_list(prompts))
        params_of = _params_per_prompt(params, len(token_ids))
        requests = [
            EngineRequest(prompt, prompt_params, name=str(index))
            for index, (prompt, prompt_params) in enumerate(zip(token_ids, params_of, strict=True))
        ]
        for index, request in enumerate(requests):
            try:
                self.engine.limits.max_new_tokens(request)
            except RequestError as error:
                raise RequestError(f"prompts[{index}]: {error}", code=error.code, param=error.param) from None
        return requests

    def _tokenize(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int32]]:
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        encoded = iter(self._require_tokenizer("a text prompt").encode_batch(texts) if texts else ())
        token_ids: list[NDArray[np.int32]] = []
        for index, prompt in enumerate(prompts):
            ids = next(encoded) if isinstance(prompt, str) else prompt
            array = np.asarray(ids)
            if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
                raise UserError(f"prompts[{index}] is {str(prompt)[:60]!r}; it must be a string or a list of token ids")
            token_ids.append(array.astype(np.int32))
        return token_ids

    def _require_tokenizer(self, purpose: str) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError(f"{purpose} needs a tokenizer, and this model folder has none; pass token ids")
        return self.tokenizer


def _as_list(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], (int, np.integer))):
        return [prompts]  # type: ignore[list-item]  # a single prompt, as the check has shown
    return prompts  # type: ignore[return-value]


def _params_per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, num_prompts: int
) -> Sequence[SamplingParams]:
    if params is None:
        params = SamplingParams()
    if isinstance(params, SamplingParams):
        return [params] * num_prompts
    if len(params) != num_prompts:
        raise UserError(f"there are {num_prompts} prompts, but params for {len(params)}; give one for each, or one")
    return params
