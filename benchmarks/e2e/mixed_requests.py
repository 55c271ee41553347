"""The requests of the end-to-end benchmarks: half long in and short out behind a shared prefix, half the reverse."""

from __future__ import annotations

from dataclasses import dataclass

import blendserve as bs
import numpy as np

SHARED_LEN = 400
LONG_LEN, SHORT_OUTPUT_LEN = 512, 32
SHORT_LEN, LONG_OUTPUT_LEN = 32, 512


@dataclass(frozen=True)
class GreedyRequests:
    """Token ids in; every request runs to its full length."""

    prompts: list[list[int]]
    max_tokens: list[int]

    @classmethod
    def mixed(cls, num_requests: int, vocab_size: int) -> GreedyRequests:
        """Long and short prompts take turns, so the first of them are a smaller workload of the same kind."""
        rng = np.random.default_rng(0)
        shared = rng.integers(0, vocab_size, SHARED_LEN).tolist()
        prompts = []
        for _ in range(num_requests // 2):
            prompts.append(shared + rng.integers(0, vocab_size, LONG_LEN - SHARED_LEN).tolist())
            prompts.append(rng.integers(0, vocab_size, SHORT_LEN).tolist())
        return cls(prompts, [SHORT_OUTPUT_LEN, LONG_OUTPUT_LEN] * (num_requests // 2))

    def first(self, num_requests: int) -> GreedyRequests:
        return GreedyRequests(self.prompts[:num_requests], self.max_tokens[:num_requests])

    def shortened(self, max_tokens: int) -> GreedyRequests:
        return GreedyRequests(self.prompts, [max_tokens] * len(self.prompts))

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.prompts)) + sum(self.max_tokens)

    def params(self, logprobs: int | None = None) -> list[bs.SamplingParams]:
        return [
            bs.SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, logprobs=logprobs)
            for max_tokens in self.max_tokens
        ]
