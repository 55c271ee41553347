"""Prompts of many lengths that share prefixes, for the vocabulary of `tiny_models`."""

from __future__ import annotations

from random import Random

from tiny_models import SPECIAL_TOKENS, VOCAB_SIZE


def random_tokens(rng: Random, length: int) -> list[int]:
    return [rng.randrange(len(SPECIAL_TOKENS), VOCAB_SIZE) for _ in range(length)]


def mixed_prompts() -> list[list[int]]:
    """Nine of 1 to 700 tokens: a document's beginnings, two questions about it, and three on their own."""
    rng = Random(7)
    document = random_tokens(rng, 700)
    return [
        document[:1],
        document[:16],
        document[:65],
        document[:300] + random_tokens(rng, 20),
        document[:300] + random_tokens(rng, 3),
        document,
        random_tokens(rng, 5),
        random_tokens(rng, 33),
        random_tokens(rng, 128),
    ]


def short_prompts(count: int, seed: int = 3) -> list[list[int]]:
    """Of 1 to 40 tokens; every second one begins like the first."""
    rng = Random(seed)
    shared = random_tokens(rng, 20)
    lengths = [rng.randint(1, 20) for _ in range(count)]
    return [(shared if i % 2 == 0 else []) + random_tokens(rng, length) for i, length in enumerate(lengths)]
