"""A few tokens through the engine's own forward pass, beside the reference: does this machine compute this model?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve._core import StepScheduler
from blendserve.errors import UserError
from blendserve.models.paged_check import reference_logits
from blendserve.resources import ResolvedConfig
from blendserve.runner import ModelRunner

__all__ = ["check_forward"]

_NUM_OUTPUTS = 3
_PROMPT_LEN = 13
_STEP_TOKENS = 8  # the prompt takes two chunks

# Of the logits' size, each row's mean taken off, by the dtype that rounds most: of weights, activations or KV cache.
# With 8 bits it is that of a text: random tokens take a model where small causes have large effects.
_TOLERANCES = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05, "int8": 0.2, "fp8_e4m3": 0.2}
_8_BIT = {"int8", "fp8_e4m3"}


def check_forward(runner: ModelRunner, config: ResolvedConfig, text: Sequence[int] = ()) -> None:
    """Before the first request: uses blocks of the KV cache. A cache too small for the probe leaves nothing to check.

    text: tokens of some text; without it random ones are the probe, whose logits only have to be finite with 8 bits.

    Raises:
        UserError: the logits are not finite, or not those of the reference.
    """
    shape = runner.model_config
    room = min(shape.max_position_embeddings, config.kv_capacity) - _NUM_OUTPUTS
    if room < 1:
        return
    random = np.random.default_rng(0).integers(0, shape.vocab_size, _PROMPT_LEN)
    prompt = np.array(text or random, dtype=np.int32)[: min(room, _PROMPT_LEN)]
    tokens, logits = _generate(runner, config, prompt)
    if not torch.isfinite(logits).all():
        raise UserError(
            f"self-check: the model's logits are not finite in {_name(config.dtype)}: every answer would be nonsense; "
            "choose --dtype bfloat16 or float32 if it is another, else the weights are broken"
        )
    dtypes = {_name(config.dtype), config.weight_dtype, config.kv_dtype_name} - {"auto"}
    if dtypes & _8_BIT and not text:
        return
    sequence = np.concatenate([prompt, tokens[:-1]])
    expected = reference_logits(runner.model.reference(), sequence, config.device)[len(prompt) - 1 :]
    error = _relative_error(logits, expected)
    allowed = max(_TOLERANCES[dtype] for dtype in dtypes)
    if not error <= allowed:
        raise UserError(
            f"self-check: the logits of {config.attention} are off by {error:.2g} of their size, and {allowed:g} is "
            "what rounding may do: every answer would be wrong. Choose --attention torch_ref, and please report this; "
            "--no-self-check runs all the same"
        )


def _generate(
    runner: ModelRunner, config: ResolvedConfig, prompt: NDArray[np.int32]
) -> tuple[NDArray[np.int32], torch.Tensor]:
    """Greedy tokens and their logits, [_NUM_OUTPUTS, vocab_size], in steps as the engine runs them."""
    scheduler = StepScheduler(
        num_blocks=config.num_blocks,
        block_size=config.block_size,
        max_batch_tokens=_STEP_TOKENS,
        max_batch_requests=1,
        schedule="fcfs",
    )
    request_id = scheduler.add_request(prompt.tolist(), max_new_tokens=_NUM_OUTPUTS)
    rows = []
    while (plan := scheduler.schedule()) is not None:
        logits = runner.run(plan).sampled
        rows.append(logits.float())
        scheduler.update(plan, logits.argmax(dim=-1).int().cpu().numpy())
    return scheduler.output_tokens(request_id), torch.cat(rows)


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """A number added to all logits of a row changes no answer, nor may it hide an error."""
    got, expected = (logits - logits.mean(dim=-1, keepdim=True) for logits in (got, expected))
    return float((got - expected).norm() / expected.norm())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
