"""What callers of `LLM` pass, checked, as one token array and one set of parameters per prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.sampling_params import SamplingParams
from blendserve.text.tokenizer import Tokenizer

__all__ = ["Prompt", "check_conversations", "check_order", "params_per_prompt", "tokenize_prompts"]

Prompt = str | Sequence[int]

_INT32 = np.iinfo(np.int32)


def tokenize_prompts(prompts: Prompt | Sequence[Prompt], tokenizer: Tokenizer | None) -> list[NDArray[np.int32]]:
    """One int32 array [p] per prompt; a single string or list of token ids is a list of one."""
    prompts = _as_list(prompts)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if texts and tokenizer is None:
        raise UserError("a text prompt needs a tokenizer, and this model folder has none; pass token ids")
    encoded = iter(tokenizer.encode_batch(texts) if tokenizer is not None else ())
    return [
        np.array(next(encoded), dtype=np.int32) if isinstance(prompt, str) else _token_ids(index, prompt)
        for index, prompt in enumerate(prompts)
    ]


def params_per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, num_prompts: int
) -> Sequence[SamplingParams]:
    if params is None:
        params = SamplingParams()
    if isinstance(params, SamplingParams):
        return [params] * num_prompts
    if not isinstance(params, Sequence) or not all(isinstance(each, SamplingParams) for each in params):
        raise UserError(f"params is {_shown(params)}; it must be a SamplingParams or a list of them")
    if len(params) != num_prompts:
        raise UserError(f"there are {num_prompts} prompts, but params for {len(params)}; give one for each, or one")
    return params


def check_conversations(conversations: object) -> None:
    """What is in the messages is the chat template's matter."""
    if isinstance(conversations, str) or not isinstance(conversations, Sequence):
        raise UserError(f"conversations is {_shown(conversations)}; it must be a list of lists of messages")
    for index, messages in enumerate(conversations):
        if isinstance(messages, str) or not isinstance(messages, Sequence):
            raise UserError(
                f"conversations[{index}] is {_shown(messages)}, not a list of messages; one conversation alone is "
                "given as [messages]"
            )


def check_order(priority: object, deadline: object) -> None:
    """`deadline` may be None."""
    for name, value in {"priority": priority, "deadline": 0 if deadline is None else deadline}.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise UserError(f"{name} is {_shown(value)}; it must be a finite number")


def _as_list(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    if not isinstance(prompts, (Sequence, np.ndarray)):
        raise UserError(f"prompts is {_shown(prompts)}; it must be a string, a list of token ids, or a list of those")
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], (int, np.integer))):
        return [prompts]  # type: ignore[list-item]  # a single prompt, as the check has shown
    return prompts  # type: ignore[return-value]


def _token_ids(index: int, prompt: Sequence[int]) -> NDArray[np.int32]:
    try:
        ids = np.asarray(prompt)
    except ValueError:  # lists of different depths
        ids = np.empty((), dtype=object)
    if ids.ndim != 1 or (ids.size > 0 and not np.issubdtype(ids.dtype, np.integer)):
        raise UserError(f"prompts[{index}] is {_shown(prompt)}; it must be a string or a list of token ids")
    if ids.size > 0 and not (_INT32.min <= ids.min() and ids.max() <= _INT32.max):
        raise UserError(f"prompts[{index}] has a token id outside of 32 bits: {_shown(prompt)}")
    return ids.astype(np.int32)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
