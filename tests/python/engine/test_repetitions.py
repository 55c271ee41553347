"""Answers that go round in circles, held against the rule spelt out: look at every token for every cycle."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve.engine.repetitions import RUNAWAY_TOKENS, RepetitionWatch, repeated_len
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import build_llama

NOBODY = np.array([], np.int32)


def is_runaway(tokens: list[int], limit: int) -> bool:
    """The rule of docs/metrics.md."""
    last = tokens[-limit:]
    return len(last) == limit and any(
        all(last[i] == last[i - cycle] for i in range(cycle, limit)) for cycle in range(1, min(64, limit // 2) + 1)
    )


def expected_len(tokens: list[int], limit: int, min_tokens: int) -> int | None:
    lengths = range(min_tokens + 1, len(tokens) + 1)
    return next((length for length in lengths if is_runaway(tokens[:length], limit)), None)


def watched_len(tokens: list[int], limit: int, min_tokens: int) -> int | None:
    """At how many tokens the watch ends the answer."""
    watch = RepetitionWatch()
    watch.begin(3, limit, min_tokens)
    for length in range(1, len(tokens) + 1):
        answer = np.array(tokens[:length], np.int32)
        if watch.accept(np.array([0, 3, 9], np.int32), NOBODY, {3: answer}.__getitem__) == [3]:
            return length
    return None


@given(
    st.lists(st.integers(0, 1), max_size=12),
    st.lists(st.integers(0, 1), min_size=1, max_size=5),
    st.integers(0, 25),
    st.lists(st.integers(0, 1), max_size=12),
    st.integers(2, 20),
    st.integers(0, 30),
)
def test_the_watch_follows_the_rule_at_every_token(
    before: list[int], cycle: list[int], times: int, after: list[int], limit: int, min_tokens: int
) -> None:
    tokens = before + cycle * times + after
    assert watched_len(tokens, limit, min_tokens) == expected_len(tokens, limit, min_tokens)


@pytest.mark.parametrize(("cycle_len", "found"), [(1, True), (63, True), (64, True), (65, False)])
def test_the_longest_cycle_has_64_tokens(cycle_len: int, found: bool) -> None:
    tokens = [*range(1000, 1010), *(list(range(cycle_len)) * 300)][:400]
    assert watched_len(tokens, 256, 0) == (10 + 256 if found else None)


def test_a_cycle_must_be_seen_twice() -> None:
    assert watched_len([1, 2, 3, 4, 5] * 2, 8, 0) is None
    assert watched_len([1, 2, 3, 4] * 2, 8, 0) == 8


def test_only_what_may_be_a_runaway_is_looked_at() -> None:
    """Tokens that never repeat: the first look is at 256 of them, the next ones 192 tokens apart."""
    watch = RepetitionWatch()
    looks = []
    watch.begin(0, 256, 0)
    tokens = np.arange(1000, dtype=np.int32)
    for length in range(1, 1001):

        def seen(request_id: int, length: int = length) -> np.ndarray[Any, np.dtype[np.int32]]:
            looks.append((request_id, length))
            return tokens[:length]

        assert watch.accept(np.array([0], np.int32), NOBODY, seen) == []
    assert looks == [(0, 256), (0, 448), (0, 640), (0, 832)]


def test_a_request_that_ended_is_forgotten() -> None:
    watch = RepetitionWatch()
    watch.begin(0, 2, 0)
    watch.begin(1, 2, 0)
    watch.finish(0)
    watch.finish(5)
    same = np.array([7, 7], np.int32)
    assert watch.accept(np.array([0, 1], np.int32), NOBODY, lambda _: same) == []
    assert watch.accept(np.array([0, 1], np.int32), NOBODY, lambda _: same) == [1]


def test_the_repeated_length_is_that_of_the_best_cycle() -> None:
    assert repeated_len(np.array([5, 1, 2, 1, 2, 1], np.int32), 3) == 5
    assert repeated_len(np.array([5, 1, 2, 1, 2, 1], np.int32), 1) == 1
    assert repeated_len(np.array([], np.int32), 3) == 0


LOOP = {"temperature": 0.0, "logit_bias": {40: 100.0}}  # the token 40 for ever


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True, eos_token_id=None)


def answer(llm: bs.LLM, **params: Any) -> bs.CompletionOutput:
    (output,) = llm.generate([[5, 6, 7]], bs.SamplingParams(**{"max_tokens": 400, **LOOP, **params}))
    return output.outputs[0]


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_runaway_ends_at_its_token(model_dir: Path, async_scheduling: bool) -> None:
    llm = bs.LLM(model_dir, async_scheduling=async_scheduling)
    ended = answer(llm, max_repeated_tokens=10)
    assert (ended.token_ids, ended.finish_reason, ended.stop_reason) == ((40,) * 10, "repetition", None)
    assert ended.text == llm.tokenizer.decode([40] * 10)  # type: ignore[union-attr]
    assert len(answer(llm, max_repeated_tokens=10, min_tokens=30).token_ids) == 31
    assert llm.engine.num_runaways == 2
    assert len(answer(llm).token_ids) == 400


def test_what_ends_an_answer_at_the_same_token_wins(model_dir: Path) -> None:
    llm = bs.LLM(model_dir)
    at_limit = answer(llm, max_repeated_tokens=10, max_tokens=10)
    assert (len(at_limit.token_ids), at_limit.finish_reason) == (10, "length")
    text = llm.tokenizer.decode([40])  # type: ignore[union-attr]
    at_stop = answer(llm, max_repeated_tokens=10, stop=[text * 10])
    assert (len(at_stop.token_ids), at_stop.finish_reason) == (10, "stop")
    at_token = answer(llm, max_repeated_tokens=2, stop_token_ids=[40])
    assert (at_token.token_ids, at_token.finish_reason) == ((40,), "stop")
    assert llm.engine.num_runaways == 0


def test_an_engine_that_stops_runaways_leaves_requests_their_own_limit(model_dir: Path) -> None:
    llm = bs.LLM(model_dir, stop_runaways=True)
    assert len(answer(llm).token_ids) == RUNAWAY_TOKENS == 256
    assert len(answer(llm, max_repeated_tokens=20).token_ids) == 20
    assert answer(llm, max_repeated_tokens=0).finish_reason == "length"


@pytest.mark.parametrize("schedule", ["dfs", "random", "blend"])
@pytest.mark.parametrize("async_scheduling", [False, True])
def test_the_schedule_changes_no_runaway(model_dir: Path, schedule: Any, async_scheduling: bool) -> None:
    """Two tokens drawn at random: short cycles come by chance. Little memory, so that some are preempted."""
    rng = Random(0)
    prompts = [[rng.randrange(3, 300) for _ in range(rng.randrange(1, 40))] for _ in range(12)]
    params = [
        bs.SamplingParams(max_tokens=80, seed=i, logit_bias={40: 100.0, 41: 100.0}, max_repeated_tokens=8 + i % 3, n=2)
        for i in range(12)
    ]
    options = {"schedule": schedule, "async_scheduling": async_scheduling}
    llm = bs.LLM(model_dir, kv_memory=24 * 16 * 256 * 2, max_batch_tokens=24, **options)
    for output, param in zip(llm.generate(prompts, params), params, strict=True):
        limit = param.max_repeated_tokens
        assert limit is not None
        for choice in output.outputs:
            tokens = list(choice.token_ids)
            assert expected_len(tokens, limit, 0) == (len(tokens) if choice.finish_reason == "repetition" else None)
    assert llm.engine.num_runaways > 4


def test_a_cancelled_request_is_not_watched(model_dir: Path) -> None:
    llm = bs.LLM(model_dir)
    stream = llm.stream([[5], [6]], [bs.SamplingParams(max_tokens=n, max_repeated_tokens=50, **LOOP) for n in (1, 99)])
    next(stream)
    stream.close()
    assert len(answer(llm, max_repeated_tokens=10).token_ids) == 10
