"""What transformers answers, and the only places where another answer may be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from blendserve import SamplingParams, TokenLogprob
from blendserve._core import random_uniforms
from transformers import AutoModelForCausalLM, PreTrainedModel

NEAR_TIE = 1e-3  # of the two largest logits: rounding may decide which one is taken
LOGPROB_TOLERANCE = 1e-4
NEAR_BOUNDARY = 1e-5  # of a uniform number to the border between two tokens


@dataclass(frozen=True)
class Reference:
    """A greedy answer: its tokens and the logits [num_tokens, vocab_size] each was taken from."""

    token_ids: list[int]
    logits: torch.Tensor

    def is_near_tie(self, position: int) -> bool:
        first, second = self.logits[position].topk(2).values.tolist()
        return first - second <= NEAR_TIE


def load_reference(model_dir: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()


def generate_greedily(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    *,
    eos_token_ids: list[int] | None = None,
    batch_size: int = 1,
) -> list[Reference]:
    """`model.generate`, for prompts padded on the left where more than one makes a batch."""
    references = []
    for start in range(0, len(prompts), batch_size):
        batch = [list(prompt) for prompt in prompts[start : start + batch_size]]
        width = max(map(len, batch))
        generated = model.generate(
            torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in batch]),
            attention_mask=torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch]),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=eos_token_ids,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits = torch.stack(generated.logits, dim=1)
        for row, tokens in enumerate(generated.sequences[:, width:].tolist()):
            ends = [i + 1 for i, token in enumerate(tokens) if token in (eos_token_ids or ())]
            length = ends[0] if ends else len(tokens)
            references.append(Reference(tokens[:length], logits[row, :length]))
    return references


def assert_same_tokens(answers: Sequence[Sequence[int]], references: Sequence[Reference]) -> None:
    """Every answer is the reference's, up to its first near tie at most; and almost all are so to the end."""
    num_cut_short = 0
    for index, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        expected = reference.token_ids
        differing = [i for i, (a, b) in enumerate(zip(answer, expected, strict=False)) if a != b]
        if not differing:
            assert len(answer) == len(expected), f"answer {index} has another length"
            continue
        position = differing[0]
        top_two = reference.logits[position].topk(2)
        assert reference.is_near_tie(position), (
            f"answer {index} differs at {position}: {answer[position]}, not {expected[position]}; {top_two.values}"
        )
        assert answer[position] in top_two.indices.tolist()
        num_cut_short += 1
    assert num_cut_short <= len(references) // 8, f"{num_cut_short} of {len(references)} answers met a near tie"


def assert_same_logprobs(logprobs: Sequence[TokenLogprob], reference: Reference, num_top: int) -> int:
    """Compares as long as the tokens are the same; returns how many positions that is.

    The id at each rank must have the log-probability of that rank, so that equals may change places.
    """
    compared = 0
    for logprob, token, logits in zip(logprobs, reference.token_ids, reference.logits, strict=False):
        if logprob.token_id != token:
            break
        expected = torch.log_softmax(logits.double(), dim=-1)
        ids = [token_id for token_id, _ in logprob.top]
        assert len(set(ids)) == num_top
        ranked = expected.topk(num_top).values
        torch.testing.assert_close(expected[ids], ranked, atol=LOGPROB_TOLERANCE, rtol=0)
        reported = torch.tensor([value for _, value in logprob.top], dtype=torch.float64)
        torch.testing.assert_close(reported, ranked, atol=LOGPROB_TOLERANCE, rtol=0)
        assert abs(logprob.logprob - float(expected[token])) <= LOGPROB_TOLERANCE
        compared += 1
    return compared


def assert_drawn(
    model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], params: SamplingParams, key: int
) -> None:
    """Each token of `answer` is what the inverse CDF of the reference's distribution gives for the key's numbers.

    It may be a neighbour where the number lies on the border between the two.
    """
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].double()
    uniforms = random_uniforms(np.full(len(answer), key, np.uint64), np.arange(len(answer)))
    for position, token in enumerate(answer):
        ids, begins, ends = _intervals(logits[position], params)
        (place,) = np.flatnonzero(ids == token) if token in ids else (None,)
        assert place is not None, f"token {token} at {position} is not among those that may be drawn"
        assert begins[place] - NEAR_BOUNDARY <= uniforms[position] <= ends[place] + NEAR_BOUNDARY, (
            f"token {token} at {position} is drawn for {begins[place]} to {ends[place]}, not for {uniforms[position]}"
        )


def _intervals(logits: torch.Tensor, params: SamplingParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens that may be drawn, and which uniform numbers give each."""
    probabilities = torch.softmax(logits / params.temperature, dim=-1).numpy()
    ids = np.arange(len(probabilities))
    if params.top_k or params.top_p < 1.0:
        ids = np.lexsort((ids, -probabilities))[: params.top_k or None]
        shares = probabilities[ids] / probabilities[ids].sum()
        ids = ids[np.cumsum(shares) - shares < params.top_p + NEAR_BOUNDARY]
    ends = np.cumsum(probabilities[ids])
    ends /= ends[-1]
    return ids, np.concatenate([[0.0], ends[:-1]]), ends
