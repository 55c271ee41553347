"""The slow, obvious reference beside the prefix tree: one set entry for every prefix of every prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Prompt = Sequence[int]
Prefix = tuple[int, ...]

# Few different tokens, the ends of their range among them.
TOKENS = st.sampled_from([0, 1, 2, -(2**31), 2**31 - 1])


@st.composite
def prompt_lists(
    draw: st.DrawFn, min_size: int = 1, max_size: int = 14, min_len: int = 0, tokens: st.SearchStrategy[int] = TOKENS
) -> list[list[int]]:
    """Prompts that extend prefixes of one another; duplicates, and empty ones if `min_len` allows."""
    prompts: list[list[int]] = []
    edit = st.tuples(st.integers(0, 13), st.integers(0, 8), st.lists(tokens, max_size=4))
    for other, keep, suffix in draw(st.lists(edit, min_size=min_size, max_size=max_size)):
        prompt = [*(prompts[other % len(prompts)][:keep] if prompts else []), *suffix]
        prompts.append(prompt + [0] * (min_len - len(prompt)))
    return prompts


def arrays_of(prompts: Iterable[Prompt]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Tokens and offsets, as the package takes them."""
    prompts = list(prompts)
    tokens = np.array([token for prompt in prompts for token in prompt], np.int32)
    return tokens, np.cumsum([0, *map(len, prompts)], dtype=np.int64)


def common_prefix(a: Prompt, b: Prompt) -> Prefix:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return tuple(a[:length])


class NaiveTrie:
    """`requests[prefix]`: the rows of the prompts that begin with it, for every prefix but the empty one."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self.requests: dict[Prefix, list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            for length in range(1, len(prompt) + 1):
                self.requests[tuple(prompt[:length])].append(row)

    @property
    def num_tokens(self) -> int:
        return len(self.requests)

    @property
    def sum_squares(self) -> int:
        """Σ end² - begin² over all tokens, each of them a segment."""
        return sum(2 * len(prefix) - 1 for prefix in self.requests)

    @property
    def sharing_ratio(self) -> float:
        num_prompt_tokens = sum(map(len, self.prompts))
        return 1 - self.num_tokens / num_prompt_tokens if num_prompt_tokens else 0.0

    @property
    def places(self) -> set[Prefix]:
        """Where prompts part or end, and the root: the nodes of the compressed trie."""
        return self.shared_places | {tuple(prompt) for prompt in self.prompts}

    @property
    def shared_places(self) -> set[Prefix]:
        """Where requests part, or end above or beside others, and the root: inner nodes, with requests as leaves."""
        return {()} | {common_prefix(a, b) for row, a in enumerate(self.prompts) for b in self.prompts[row + 1 :]}
