"""A batch job of token ids whose every answer is known before it runs, and the stand-in for a model that gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blendserve import StepPlan
from numpy.typing import NDArray

VOCAB_SIZE = 32_000
CONTEXT_LEN = 4096
_CHUNK_REQUESTS = 10_000


@dataclass(frozen=True)
class StubJob:
    """n requests, half of them behind one of `num_prefixes` shared prefixes; request i is named r<i>.

    max_tokens: int64 [n], what each must generate; the last token of its prompt decides which.
    """

    prompt_lens: NDArray[np.int64]
    last_tokens: NDArray[np.int64]
    max_tokens: NDArray[np.int64]

    @classmethod
    def write(cls, path: Path, num_requests: int, seed: int = 0) -> StubJob:
        """Makes the input file; prompts of 64 to 128 tokens, answers of 4 to 16."""
        rng = np.random.default_rng(seed)
        prefixes = rng.integers(0, VOCAB_SIZE, (max(1, num_requests // 1000), 48))
        parts = []
        with path.open("wb") as file:
            for first in range(0, num_requests, _CHUNK_REQUESTS):
                count = min(_CHUNK_REQUESTS, num_requests - first)
                lens, max_tokens = rng.integers(64, 129, count), rng.integers(4, 17, count)
                prompts = rng.integers(0, VOCAB_SIZE, (count, 128))
                shared = np.flatnonzero(rng.random(count) < 0.5)
                prompts[shared, :48] = prefixes[rng.integers(0, len(prefixes), len(shared))]
                file.writelines(_lines(first, prompts, lens, max_tokens))
                parts.append((lens, prompts[np.arange(count), lens - 1], max_tokens))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def check(self, results: Path) -> None:
        """Raises AssertionError unless every request has its one answer, of the right tokens, and nothing else."""
        num_requests = len(self.max_tokens)
        is_answered = np.zeros(num_requests, np.bool_)
        for row in _rows(results):
            index = int(row["custom_id"].removeprefix("r"))
            assert row["error"] is None, row
            body = row["response"]["body"]
            assert not is_answered[index], f"{row['custom_id']} is answered twice"
            is_answered[index] = True
            assert body["usage"]["prompt_tokens"] == self.prompt_lens[index]
            (choice,) = body["choices"]
            assert choice["finish_reason"] == "length"
            assert choice["token_ids"] == self.answer(index), row["custom_id"]
        assert is_answered.all(), f"{num_requests - is_answered.sum()} requests have no answer"

    def answer(self, index: int) -> list[int]:
        token, position = int(self.last_tokens[index]), int(self.prompt_lens[index]) - 1
        answer = []
        for _ in range(int(self.max_tokens[index])):
            token = (31 * token + 7 * position + 1) % VOCAB_SIZE
            position += 1
            answer.append(token)
        return answer


def next_tokens(plan: StepPlan) -> NDArray[np.int32]:
    """What the stand-in says after a token at a position: some other token, which both of them decide."""
    tokens, positions = plan.token_ids[plan.logit_rows], plan.positions[plan.logit_rows]
    return (31 * tokens + 7 * positions + 1) % np.int32(VOCAB_SIZE)


def _lines(
    first: int, prompts: NDArray[np.int64], lens: NDArray[np.int64], max_tokens: NDArray[np.int64]
) -> Iterator[bytes]:
    for i, (prompt, length, limit) in enumerate(zip(prompts.tolist(), lens.tolist(), max_tokens.tolist(), strict=True)):
        body = {
            "model": "stub",
            "prompt": prompt[:length],
            "max_tokens": limit,
            "temperature": 0,
            "ignore_eos": True,
        }
        row = {"custom_id": f"r{first + i}", "method": "POST", "url": "/v1/completions", "body": body}
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _rows(results: Path) -> Iterator[Any]:
    with results.open("rb") as file:
        yield from map(orjson.loads, file)
