"""Prompts as one flat token buffer, made by numpy from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blendserve.traces.ragged import offsets_of
from numpy.typing import NDArray

VOCAB_SIZE = 128_000


@dataclass(frozen=True)
class Prompts:
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]  # request i has tokens[offsets[i]:offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, rows: NDArray[np.int64]) -> Prompts:
        parts = [self.tokens[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        return Prompts(np.concatenate(parts), offsets_of(np.array([len(part) for part in parts])))


def random_prompts(
    lengths: NDArray[np.int64], group: NDArray[np.int64], prefixes: list[NDArray[np.int32]], rng: np.random.Generator
) -> Prompts:
    """Random tokens; a request of group g >= 0 begins with prefixes[g], its length included in `lengths`."""
    offsets = offsets_of(lengths)
    tokens = rng.integers(0, VOCAB_SIZE, int(offsets[-1]), dtype=np.int32)
    for row in np.flatnonzero(group >= 0):
        prefix = prefixes[group[row]]
        tokens[offsets[row] : offsets[row] + len(prefix)] = prefix
    return Prompts(tokens, offsets)


def random_prefixes(lengths: list[int], rng: np.random.Generator) -> list[NDArray[np.int32]]:
    return [rng.integers(0, VOCAB_SIZE, length, dtype=np.int32) for length in lengths]


def half_shared(
    num_requests: int,
    *,
    prefix_len: int,
    tail_len: tuple[int, int],
    unique_len: tuple[int, int],
    num_prefixes: int = 57,
    seed: int = 0,
) -> Prompts:
    """Every other request begins with one of the prefixes and ends in a tail of its own; the rest share nothing."""
    rng = np.random.default_rng(seed)
    group = np.where(np.arange(num_requests) % 2 == 0, rng.integers(0, num_prefixes, num_requests), -1)
    tails = rng.integers(tail_len[0], tail_len[1] + 1, num_requests)
    uniques = rng.integers(unique_len[0], unique_len[1] + 1, num_requests)
    prefixes = random_prefixes([prefix_len] * num_prefixes, rng)
    return random_prompts(np.where(group >= 0, prefix_len + tails, uniques), group, prefixes, rng)


def one_prefix(num_requests: int, *, prefix_len: int, tail_len: tuple[int, int], seed: int = 0) -> Prompts:
    rng = np.random.default_rng(seed)
    lengths = prefix_len + rng.integers(tail_len[0], tail_len[1] + 1, num_requests)
    return random_prompts(lengths, np.zeros(num_requests, np.int64), random_prefixes([prefix_len], rng), rng)
