"""Log-probabilities of prompts: scored where a prompt's rows are computed, kept where their K and V are.

The score of the token behind a position belongs to that position's slot in the KV cache. A block of the cache that a
scored request may read was computed by one that asked for as many most likely tokens (the scheduler sees to it), so
the scores of a shared prefix are there as long as its K and V are: a prefix is scored once, whoever shares it, and
there is nothing to keep, share or throw away besides the cache's own blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from blendserve._core import StepPlan
from blendserve.runner.logprobs import Logprobs, packed_logprobs, unpacked

__all__ = ["PromptScores"]


@dataclass(slots=True)
class _Prompt:
    """What a request has of its `num_scores` scores, which are of the tokens 1 and up."""

    num_scores: int
    scores: Logprobs  # room for them is made with the first: prompts that wait take none
    num_known: int = 0


class PromptScores:
    """The scores of a KV cache's slots, and of the prompts that ask for them. Costs nothing until one does."""

    def __init__(self, num_slots: int, block_size: int, vocab_size: int) -> None:
        self._num_slots = num_slots
        self._block_size = block_size
        self._vocab_size = vocab_size
        self._slots = _empty(0, 0)
        self._prompts: dict[int, _Prompt] = {}

    def begin(self, request_id: int, num_tokens: int, num_top: int) -> None:
        """A request whose prompt is to be scored with `num_top` most likely tokens, at most the vocabulary."""
        num_top = min(num_top, self._vocab_size)
        self._reserve(num_top)
        self._prompts[request_id] = _Prompt(num_tokens - 1, _empty(0, num_top))

    def collect(self, plan: StepPlan) -> None:
        """The step has run and its scores are stored: its prompts take theirs."""
        if self._prompts:
            for sequence, request_id in enumerate(plan.request_ids.tolist()):
                prompt = self._prompts.get(request_id)
                if prompt is not None and prompt.num_known < prompt.num_scores:
                    self._collect(prompt, plan, sequence)

    def finish(self, request_id: int) -> Logprobs | None:
        """The scores of tokens 1 and up of a request's prompt, and forget it; None if it didn't ask."""
        prompt = self._prompts.pop(request_id, None)
        return None if prompt is None else prompt.scores

    @torch.inference_mode()
    def store(self, plan: StepPlan, logits: torch.Tensor) -> None:
        """`logits` [P, V] are those of the step's `prompt_logit_rows`."""
        if len(logits) == 0:
            return
        num_top = self._slots.top_ids.shape[1]
        next_tokens = torch.from_numpy(plan.prompt_next_tokens.astype(np.int64)).to(logits.device)
        packed = packed_logprobs(logits, np.arange(len(logits)), next_tokens, num_top)
        slots = plan.slot_mapping[plan.prompt_logit_rows]
        for column, values in zip(self._slots, unpacked(packed.cpu().numpy(), num_top), strict=True):
            column[slots] = values

    def _collect(self, prompt: _Prompt, plan: StepPlan, sequence: int) -> None:
        """Read what has been scored since: by this step, or before by whoever computed the blocks that are shared."""
        num_top = prompt.scores.top_ids.shape[1]
        if prompt.num_known == 0:
            prompt.scores = _empty(prompt.num_scores, num_top)
        positions = np.arange(prompt.num_known, min(int(plan.kv_lens[sequence]), prompt.num_scores))
        blocks = plan.block_table[plan.block_indptr[sequence] : plan.block_indptr[sequence + 1]]
        slots = blocks[positions // self._block_size].astype(np.int64) * self._block_size + positions % self._block_size
        prompt.scores.chosen[positions] = self._slots.chosen[slots]
        prompt.scores.top_ids[positions] = self._slots.top_ids[slots, :num_top]
        prompt.scores.top_logprobs[positions] = self._slots.top_logprobs[slots, :num_top]
        prompt.num_known += len(positions)

    def _reserve(self, num_top: int) -> None:
        """Room for `num_top` most likely tokens in every slot; what is there stays."""
        num_slots, most = self._slots.top_ids.shape
        if num_slots == 0 or most < num_top:
            larger = _empty(self._num_slots, max(most, num_top))
            larger.chosen[:num_slots] = self._slots.chosen
            larger.top_ids[:num_slots, :most] = self._slots.top_ids
            larger.top_logprobs[:num_slots, :most] = self._slots.top_logprobs
            self._slots = larger


def _empty(num_tokens: int, num_top: int) -> Logprobs:
    shape = (num_tokens, num_top)
    return Logprobs(np.empty(num_tokens, np.float32), np.empty(shape, np.int32), np.empty(shape, np.float32))
