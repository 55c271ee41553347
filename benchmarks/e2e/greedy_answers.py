"""When greedy answers are right: they are the reference's, but rounding may decide between nearly equal tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import blendserve as bs
from blendserve.config import KvDtype
from mixed_requests import GreedyRequests

NUM_CHECKED, CHECKED_OUTPUT_LEN = 8, 24


def checked_requests(vocab_size: int) -> GreedyRequests:
    return GreedyRequests.mixed(NUM_CHECKED, vocab_size).shortened(CHECKED_OUTPUT_LEN)


@dataclass(frozen=True)
class ReferenceAnswers:
    """`gaps` say how much likelier, in log-probability, each token was than the second."""

    token_ids: list[list[int]]
    gaps: list[list[float]]

    @classmethod
    def of(cls, model: str, requests: GreedyRequests, *, kv_dtype: KvDtype = "auto") -> ReferenceAnswers:
        """Those of the slow reference attention, over a cache in `kv_dtype`."""
        llm = bs.LLM(model, attention="torch_ref", kv_memory="1GiB", kv_dtype=kv_dtype)
        answers = cls([], [])
        for output in llm.generate(requests.prompts, requests.params(logprobs=2)):
            assert output.logprobs is not None
            answers.token_ids.append(list(output.token_ids))
            answers.gaps.append([token.top[0][1] - token.top[1][1] for token in output.logprobs])
        return answers

    def num_equal_tokens(self, answers: Sequence[Sequence[int]], tolerance: float) -> int:
        """Raises AssertionError where an answer leaves the reference's at a gap of `tolerance` or more."""
        compared = zip(answers, self.token_ids, self.gaps, strict=True)
        return sum(_num_equal_tokens(*of_one, tolerance) for of_one in compared)


def _num_equal_tokens(got: Sequence[int], expected: Sequence[int], gaps: Sequence[float], tolerance: float) -> int:
    for position, (one, other, gap) in enumerate(zip(got, expected, gaps, strict=True)):
        if one != other:
            assert gap < tolerance, f"token {one} instead of {other} at {position}, where the gap is {gap:.3g}"
            return position
    return len(got)
