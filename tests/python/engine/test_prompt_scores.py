"""Log-probs of prompts are the same bits under any schedule, chunking, shortage or failure; a prefix is scored once."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from blendserve import RequestOutput, SamplingParams
from blendserve.engine import Engine, EngineRequest
from blendserve.outputs import FinishedRequest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_runner import CONTEXT_LEN, VOCAB_SIZE, engine_of, logits_after

SCORED = SamplingParams(max_tokens=0, prompt_logprobs=0)


def requests_of(prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> list[EngineRequest]:
    return [
        EngineRequest(np.array(prompt, np.int32), each, str(index))
        for index, (prompt, each) in enumerate(zip(prompts, params, strict=True))
    ]


def run(engine: Engine, requests: Sequence[EngineRequest]) -> list[RequestOutput]:
    """Every request's output; steps that fail are run again."""
    first = engine.add(requests).start
    outputs: list[FinishedRequest] = []
    while True:
        try:
            finished = engine.step()
        except FloatingPointError:
            continue
        engine.scheduler.verify()
        if finished is None:
            return sorted((output.at(output.index - first) for output in outputs), key=lambda output: output.index)
        outputs += finished


def expected_logprobs(prompt: Sequence[int], num_top: int) -> list[Any]:
    """Position by position: None, then (token, log-prob, most likely tokens)."""
    expected: list[Any] = [None]
    for position in range(1, len(prompt)):
        logprobs = torch.log_softmax(logits_after(prompt[:position])[None], dim=-1)[0].tolist()
        best = sorted(range(VOCAB_SIZE), key=lambda token: -logprobs[token])[:num_top]
        token = prompt[position]
        expected.append((token, logprobs[token], tuple((each, logprobs[each]) for each in best)))
    return expected


def shown(output: RequestOutput) -> list[Any] | None:
    if output.prompt_logprobs is None:
        return None
    return [token and (token.token_id, token.logprob, token.top) for token in output.prompt_logprobs]


TOKENS = st.integers(1, 3)
PROMPTS = st.lists(st.lists(TOKENS, min_size=1, max_size=24), min_size=1, max_size=12)
PARAMS = st.builds(
    SamplingParams,
    prompt_logprobs=st.sampled_from([0, 2, VOCAB_SIZE + 5]),
    max_tokens=st.integers(0, 5),
    n=st.integers(1, 2),
    temperature=st.sampled_from([0.0, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 1.5]),
    logprobs=st.sampled_from([None, 1]),
) | st.builds(SamplingParams, max_tokens=st.integers(1, 5), temperature=st.just(0.0))
SETTINGS = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(["fcfs", "dfs", "random"]),
        "num_blocks": st.integers(16, 40),
        "block_size": st.integers(2, 5),
        "max_batch_tokens": st.integers(8, 40),
        "max_batch_requests": st.integers(1, 8),
        "max_prompt_logits": st.integers(1, 20),
    }
)


@given(prompts=PROMPTS, data=st.data(), config=SETTINGS, fault_seed=st.none() | st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_a_prompts_log_probs_and_its_answer_are_the_same_bits_whatever_happens(
    prompts: list[list[int]], data: Any, config: dict[str, Any], fault_seed: int | None
) -> None:
    params = data.draw(st.lists(PARAMS, min_size=len(prompts), max_size=len(prompts)))
    rng = Random(fault_seed)
    engine = engine_of(**config, fails=lambda: fault_seed is not None and rng.random() < 0.2)
    requests = requests_of(prompts, params)
    outputs = run(engine, requests)
    alone = [output for request in requests for output in run(engine_of(), [request])]
    for output, reference, prompt, each in zip(outputs, alone, prompts, params, strict=True):
        assert output.outputs == reference.outputs
        num_top = each.prompt_logprobs
        expected = None if num_top is None else expected_logprobs(prompt, min(num_top, VOCAB_SIZE))
        assert shown(output) == expected
    assert engine.scheduler.num_available_blocks == config["num_blocks"]


def test_preempted_requests_keep_the_log_probs_of_their_prompts() -> None:
    rng = Random(1)
    shared = [rng.randint(1, 9) for _ in range(9)]
    prompts = [shared + [rng.randint(1, 9) for _ in range(3)] for _ in range(8)]
    params = SamplingParams(max_tokens=20, ignore_eos=True, prompt_logprobs=1)
    engine = engine_of(num_blocks=20, block_size=4, max_batch_tokens=16, max_batch_requests=8)
    for output, prompt in zip(run(engine, requests_of(prompts, [params] * 8)), prompts, strict=True):
        assert shown(output) == expected_logprobs(prompt, 1)
        assert len(output.token_ids) == 20
    assert engine.stats.num_preemptions > 0
    assert engine.stats.num_recomputed_tokens > 0


@pytest.mark.parametrize("schedule", ["fcfs", "dfs", "random"])
@pytest.mark.parametrize("max_batch_tokens", [16, 512])
@pytest.mark.parametrize("context_len", [41, 43])
def test_a_context_that_continuations_share_is_computed_once(
    schedule: str, max_batch_tokens: int, context_len: int
) -> None:
    context = [1 + i % 3 for i in range(context_len)]
    continuations = [[4 + i // 7, 4 + i % 7] for i in range(40)]
    engine = engine_of(schedule=schedule, max_batch_tokens=max_batch_tokens, max_batch_requests=16)
    prompts = [context + each for each in continuations]
    outputs = run(engine, requests_of(prompts, [SCORED] * 40))
    assert [shown(output) for output in outputs] == [expected_logprobs(prompt, 0) for prompt in prompts]
    # Whole blocks of 4: 40 tokens of the context come from the cache for all but the first.
    assert engine.stats.num_cached_tokens == 39 * 40
    assert engine.stats.num_prompt_tokens == 40 * (context_len + 2)
    assert engine.stats.num_output_tokens == 0


def test_where_continuations_part_at_a_blocks_end_only_its_last_block_is_computed_for_each() -> None:
    context = [1 + i % 3 for i in range(40)]
    prompts = [[*context, 4 + i // 7, 4 + i % 7] for i in range(42)]
    engine = engine_of()
    outputs = run(engine, requests_of(prompts, [SCORED] * 42))
    assert [shown(output) for output in outputs] == [expected_logprobs(prompt, 0) for prompt in prompts]
    # 6 first tokens follow the context: for each of them its last block is computed once.
    assert engine.stats.num_cached_tokens == 41 * 36 + 36 * 4


def test_log_probs_of_a_cached_prefix_are_there_for_later_requests() -> None:
    prompt = [1 + i % 5 for i in range(30)]
    engine = engine_of()
    first, second = (run(engine, requests_of([prompt], [SCORED]))[0] for _ in range(2))
    assert shown(first) == shown(second) == expected_logprobs(prompt, 0)
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 28)


@pytest.mark.parametrize("other", [None, 3])
def test_a_prefix_cached_without_the_scores_asked_for_is_computed_again(other: int | None) -> None:
    prompt = [1 + i % 5 for i in range(30)]
    engine = engine_of()
    run(engine, requests_of([prompt], [SamplingParams(max_tokens=1, prompt_logprobs=other)]))
    outputs = run(engine, requests_of([prompt] * 2, [SCORED] * 2))
    assert [shown(output) for output in outputs] == [expected_logprobs(prompt, 0)] * 2
    assert [output.num_cached_tokens for output in outputs] == [0, 28]


def test_the_choices_of_a_request_share_the_scores_of_its_prompt() -> None:
    prompt = [1 + i % 5 for i in range(30)]
    engine = engine_of()
    params = SamplingParams(n=5, max_tokens=3, prompt_logprobs=2, ignore_eos=True)
    (output,) = run(engine, requests_of([prompt], [params]))
    assert shown(output) == expected_logprobs(prompt, 2)
    assert len(output.outputs) == 5
    assert engine.stats.num_cached_tokens == 4 * 28


def test_a_prompt_alone_may_fill_the_context_and_one_token_has_nothing_to_score() -> None:
    full = [1 + i % 3 for i in range(CONTEXT_LEN)]
    whole, single = run(engine_of(), requests_of([full, [5]], [SCORED] * 2))
    assert shown(whole) == expected_logprobs(full, 0)
    assert single.prompt_logprobs == (None,)
    for output in (whole, single):
        assert (output.token_ids, output.finish_reason) == ((), "length")


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    engine = engine_of(max_batch_tokens=8, max_batch_requests=8)
    prompt = [1 + i % 5 for i in range(30)]
    indices = engine.add(requests_of([prompt, prompt[:20]], [SCORED, SamplingParams(max_tokens=3, min_tokens=2)]))
    engine.step()
    engine.cancel(indices)
    assert engine.step() is None
    (output,) = run(engine, requests_of([prompt], [SCORED]))
    assert shown(output) == expected_logprobs(prompt, 0)


def test_nor_does_one_that_is_cancelled_when_its_first_choice_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blendserve.engine.schedulers._MAX_ROWS", 2)  # the next request has its id again
    engine = engine_of()
    two_choices = SamplingParams(n=2, seed=1, max_tokens=20, prompt_logprobs=0)
    indices = engine.add(requests_of([[1, 2, 3]], [two_choices]))
    while engine.scheduler.num_unfinished != 1:
        assert engine.step() == []
    assert engine.scheduler.finish_reason(0) == "stop_token"
    engine.cancel(indices)
    (output,) = run(engine, requests_of([[4, 5, 6, 7, 8]], [SamplingParams(max_tokens=2)]))
    assert output.prompt_logprobs is None
