"""What a job costs, worked out from a naive trie by the formulas of docs/performance_model.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blendserve import DeviceSpec, ModelSpec
from numpy.typing import NDArray
from planning.naive_trie import NaiveTrie, Prompt


@dataclass(frozen=True)
class Rates:
    """Seconds a token (t_tok), a square token of prefill (t_attn), a KV token read (t_kv), and the weights (w)."""

    t_tok: float
    t_attn: float
    t_kv: float
    w: float

    @classmethod
    def of(cls, model: ModelSpec, device: DeviceSpec) -> Rates:
        compute, bandwidth = device.flops_2_byte * device.tp, device.bandwidth * device.tp
        return cls(
            t_tok=2 * model.num_params / compute,
            t_attn=4 * model.attention_width * model.num_layers / compute,
            t_kv=2 * 2 * model.kv_width * model.num_layers / bandwidth,
            w=2 * model.num_params / bandwidth,
        )


@dataclass(frozen=True)
class JobCosts:
    """The figures of a plan's report, from prompts and output lengths."""

    compute_s: float
    memory_s: float
    t_comp_s: float
    t_mem_s: float
    ideal_s: float
    practical_s: float

    @classmethod
    def of(
        cls,
        prompts: Sequence[Prompt],
        output_lengths: Sequence[float],
        model: ModelSpec,
        device: DeviceSpec,
        capacity: int,
    ) -> JobCosts:
        rates, trie = Rates.of(model, device), NaiveTrie(prompts)
        d = np.asarray(output_lengths, np.float64)
        steps = np.maximum(d - 1, 0)
        own_reads = np.maximum(d * (d - 1), 0) / 2  # of a request's own output
        p = np.array([len(prompt) for prompt in prompts], np.float64)
        own_len = np.array([num_own_tokens(trie, row) for row in range(len(prompts))], np.float64)
        if model.cascade_attention:
            prompt_reads, prompt_reads_exact = reads_once_a_step(trie, d), reads_once_a_step(trie, steps)
        else:
            prompt_reads, prompt_reads_exact = float(p @ d), float(p @ steps)
        t_comp_s = rates.t_tok * (trie.num_tokens + steps.sum()) + rates.t_attn * trie.sum_squares
        t_mem_s = rates.t_kv * (prompt_reads_exact + own_reads.sum())
        unshared_reads = float(own_len @ steps + own_reads.sum())
        shortest, longest = sorted((t_comp_s, t_mem_s))
        num_steps = max(unshared_reads / capacity, d.max() - 1)
        return cls(
            compute_s=rates.t_tok * (trie.num_tokens + d.sum()) + rates.t_attn * trie.sum_squares,
            memory_s=rates.t_kv * (prompt_reads + float(d @ d) / 2),
            t_comp_s=t_comp_s,
            t_mem_s=t_mem_s,
            ideal_s=longest,
            practical_s=max(longest + device.beta * shortest, num_steps * rates.w + t_mem_s),
        )

    @property
    def density(self) -> float:
        return self.compute_s / self.memory_s if self.memory_s else float("inf")


def num_own_tokens(trie: NaiveTrie, row: int) -> int:
    prompt = trie.prompts[row]
    return sum(len(trie.requests[tuple(prompt[:length])]) == 1 for length in range(1, len(prompt) + 1))


def reads_once_a_step(trie: NaiveTrie, steps: NDArray[np.float64]) -> float:
    """Every token of the trie is read as long as the longest request below it runs."""
    return sum(float(steps[rows].max()) for rows in trie.requests.values())
