"""What requests cost by the closed forms of docs/performance_model.md, for arrays of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blendserve._core import CostModel

__all__ = ["Sums", "compute_s", "memory_s", "segment_s"]


@dataclass(frozen=True, slots=True)
class Sums:
    """Seconds, of some requests together: compute if nothing were shared, compute with every shared prefix once, and
    memory. They add up over sources, which share nothing with each other."""

    compute: float
    unique: float
    memory: float

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.compute + other.compute, self.unique + other.unique, self.memory + other.memory)

    def __sub__(self, other: Sums) -> Sums:
        return self + other * -1.0

    def __mul__(self, factor: float) -> Sums:
        return Sums(self.compute * factor, self.unique * factor, self.memory * factor)

    @property
    def density(self) -> float:
        return self.unique / self.memory

    @property
    def sharing(self) -> float:
        """By compute."""
        return 1.0 - self.unique / self.compute


def compute_s(cost: CostModel, prompt_lens: ArrayLike, output_lengths: ArrayLike) -> NDArray[np.float64]:
    """Seconds of compute of each request alone."""
    return segment_s(cost, prompt_lens) + (cost.t_tok + cost.t_head) * np.asarray(output_lengths, dtype=np.float64)


def memory_s(cost: CostModel, prompt_lens: ArrayLike, output_lengths: ArrayLike) -> NDArray[np.float64]:
    """Seconds of reading the KV cache, in all decode steps of each request."""
    p, d = np.asarray(prompt_lens, dtype=np.float64), np.asarray(output_lengths, dtype=np.float64)
    return cost.t_kv * (p * d + d * d / 2)


def segment_s(cost: CostModel, num_tokens: ArrayLike) -> NDArray[np.float64]:
    """Seconds of compute of the first `num_tokens` tokens of a prompt."""
    n = np.asarray(num_tokens, dtype=np.float64)
    return cost.t_tok * n + cost.t_attn * n * n
