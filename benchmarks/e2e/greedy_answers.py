"""When two engines' greedy answers are the same: rounding may decide between tokens that are nearly as likely."""

from __future__ import annotations

from collections.abc import Sequence

from blendserve.outputs import RequestOutput
from mixed_requests import GreedyRequests

NUM_CHECKED, CHECKED_OUTPUT_LEN = 8, 24


def checked_requests(vocab_size: int) -> GreedyRequests:
    return GreedyRequests.mixed(NUM_CHECKED, vocab_size).shortened(CHECKED_OUTPUT_LEN)


def token_gaps(output: RequestOutput) -> list[float]:
    """How much likelier, in log-probability, the likeliest token was than the second at each position."""
    assert output.logprobs is not None
    return [token.top[0][1] - token.top[1][1] for token in output.logprobs]


def num_equal_tokens(got: Sequence[int], expected: Sequence[int], gaps: Sequence[float], tolerance: float) -> int:
    """Tokens of `got` before it leaves `expected`, which has `gaps`.

    Raises AssertionError where it leaves it at a gap that rounding does not explain.
    """
    for position, (one, other, gap) in enumerate(zip(got, expected, gaps, strict=True)):
        if one != other:
            assert gap < tolerance, f"token {one} instead of {other} at {position}, where the gap is {gap:.3g}"
            return position
    return len(got)
