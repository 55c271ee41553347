"""A file in the OpenAI Batch format as a trace: its prompts, and the output lengths that its rows tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blendserve.errors import UserError
from blendserve.models import resolve_model
from blendserve.plan_job.output_lengths import DEFAULT_OUTPUT_LEN, UNKNOWN
from blendserve.plan_job.prompts import JobPrompts
from blendserve.traces.trace import Trace

__all__ = ["read_batch_prompts"]


def read_batch_prompts(path: str, name: str, *, tokenizer: str | None, mean_output: float | None) -> Trace:
    """Every choice of every row is a request; rows that cannot be used are dropped and counted.

    tokenizer: the model folder whose tokenizer and chat template are used; None is the default model's.
    mean_output: the output length of a row that tells none, within its max_tokens; None is `DEFAULT_OUTPUT_LEN`.
    """
    prompts = _read(path, tokenizer, mean_output)
    num_requests = len(prompts.request_rows)
    if num_requests == 0:
        raise UserError(f"trace {path} has no row that can be used; the first one: {prompts.bad_rows[0].message}")
    is_known = prompts.output_lengths != UNKNOWN
    guessed = np.minimum(mean_output or DEFAULT_OUTPUT_LEN, prompts.max_output_lengths)
    lengths = np.maximum(np.rint(np.where(is_known, prompts.output_lengths, guessed)), 1)
    return Trace(
        tokens=prompts.tokens,
        offsets=prompts.offsets,
        output_lengths=lengths.astype(np.int32),
        is_known=is_known,
        sources=(name,),
        source=np.zeros(num_requests, dtype=np.int16),
        num_dropped=len(prompts.bad_rows),
    )


def _read(path: str, tokenizer: str | None, mean_output: float | None) -> JobPrompts:
    folder = resolve_model(tokenizer)
    try:
        from blendserve.plan_job.read_batch import read_batch
        from blendserve.text.tokenizer import Tokenizer
    except ModuleNotFoundError as error:
        raise UserError(f"tokenizing {path} needs {error.name}: pip install 'blendserve[engine]'") from None
    return read_batch(
        Path(path), path, Tokenizer.load(folder), mean_output=mean_output, on_progress=lambda _progress: None
    )
