"""Bias, penalties and minimum length: against transformers and slow references, whatever stands beside a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from blendserve.runner import LogitEdits, Sampler, SamplingTable
from blendserve.runner import logprobs as logprobs_module
from blendserve.runner.logit_edits import apply_edits_
from blendserve.sampling_params import SamplingParams
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

VOCAB_SIZE = 50
END_IDS = [3, 7]


def random_logits(num_rows: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (num_rows, VOCAB_SIZE)).astype(np.float32))


def edits_of(prompt: Sequence[int], answer: Sequence[int], **fields: Any) -> LogitEdits | None:
    """Of a request after so much of its answer."""
    edits = LogitEdits.of(SamplingParams(**{"max_tokens": None, **fields}), np.array(prompt, np.int32), END_IDS)
    for token in answer:
        if edits is not None and edits.penalties is not None:
            edits.penalties.add(token)
    return edits


def edited(logits: torch.Tensor, prompt: Sequence[int], answer: Sequence[int], **fields: Any) -> torch.Tensor:
    rows = logits[None].clone()
    apply_edits_(rows, [edits_of(prompt, answer, **fields)], np.array([len(answer)], np.int32))
    return rows[0]


def reference(logits: torch.Tensor, prompt: Sequence[int], answer: Sequence[int], params: SamplingParams) -> np.ndarray:
    """The definitions, token by token in float64."""
    values = logits.double().numpy().copy()
    for token, bias in dict(params.logit_bias).items():
        values[token] += bias
    for token in {*prompt, *answer}:
        factor = params.repetition_penalty
        values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
    for token, count in Counter(answer).items():
        values[token] -= params.frequency_penalty * count + params.presence_penalty
    if len(answer) < params.min_tokens:
        values[END_IDS] = -np.inf
    return values


@pytest.mark.parametrize("penalty", [0.5, 1.2, 3.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    for seed, (prompt, answer) in enumerate([([4, 9, 4], []), ([4], [8, 8, 4, 30]), ([0, 49], [49] * 20)]):
        (logits,) = random_logits(1, seed)
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt + answer]), logits[None].clone())
        assert torch.equal(edited(logits, prompt, answer, repetition_penalty=penalty), expected[0])


@pytest.mark.parametrize("num_tokens", [0, 1, 2, 3, 4])
def test_the_minimum_length_is_that_of_transformers(num_tokens: int) -> None:
    (logits,) = random_logits(1)
    processor = MinNewTokensLengthLogitsProcessor(2, 3, END_IDS)
    expected = processor(torch.tensor([[1, 2] + [5] * num_tokens]), logits[None])
    assert torch.equal(edited(logits, [1, 2], [5] * num_tokens, min_tokens=3), expected[0])


def test_presence_counts_once_and_frequency_every_time_both_in_the_answer_alone() -> None:
    logits = torch.zeros(VOCAB_SIZE)
    after = edited(logits, [1, 2, 2], [2, 5, 5, 5], presence_penalty=0.5, frequency_penalty=0.25)
    assert {token: value for token, value in enumerate(after.tolist()) if value != 0} == {2: -0.75, 5: -1.25}


def test_a_bias_is_added_and_its_ends_force_or_ban_a_token() -> None:
    (logits,) = random_logits(1)
    assert int(edited(logits, [1], [], logit_bias={int(logits.argmin()): 100}).argmax()) == int(logits.argmin())
    assert int(edited(logits, [1], [], logit_bias={int(logits.argmax()): -100}).argmax()) != int(logits.argmax())
    assert torch.equal(edited(logits, [1], [], logit_bias={2: 1.5}) - logits, 1.5 * torch.eye(VOCAB_SIZE)[2])


def test_a_request_that_asks_for_nothing_has_no_edits() -> None:
    off = {"logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "min_tokens": 0}
    assert edits_of([1], [], **off) is None


def test_end_tokens_stay_out_although_a_bias_would_force_them() -> None:
    (logits,) = random_logits(1)
    after = edited(logits, [1], [4], logit_bias={3: 100}, repetition_penalty=2.0, min_tokens=2)
    assert after[END_IDS].tolist() == [-torch.inf, -torch.inf]


TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=8)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.1]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    logit_bias=st.dictionaries(st.integers(0, VOCAB_SIZE - 1), st.integers(-100, 100), max_size=3),
    min_tokens=st.integers(0, 4),
    logprobs=st.sampled_from([None, 2]),
)
Request = tuple[SamplingParams, list[int], list[int]]
REQUESTS = st.lists(st.tuples(PARAMS, TOKENS.filter(len), TOKENS), min_size=1, max_size=8)


@given(request=st.tuples(PARAMS, TOKENS.filter(len), TOKENS), seed=st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_all_edits_together_are_those_of_the_definitions(request: Request, seed: int) -> None:
    params, prompt, answer = request
    (logits,) = random_logits(1, seed)
    rows = logits[None].clone()
    edits = LogitEdits.of(params, np.array(prompt, np.int32), END_IDS)
    for token in answer:
        if edits is not None and edits.penalties is not None:
            edits.penalties.add(token)
    apply_edits_(rows, [edits], np.array([len(answer)], np.int32))
    np.testing.assert_allclose(rows[0].numpy(), reference(logits, prompt, answer, params), rtol=1e-5, atol=1e-5)


def table_of(requests: Sequence[Request]) -> SamplingTable:
    """Every request after its answer so far."""
    table = SamplingTable()
    for request_id, (params, prompt, answer) in enumerate(requests):
        num_logprobs = -1 if params.logprobs is None else params.logprobs
        table.set(
            request_id,
            key=request_id,
            temperature=params.temperature,
            top_k=params.top_k,
            min_p=params.min_p,
            num_logprobs=num_logprobs,
        )
        table.edit(request_id, LogitEdits.of(params, np.array(prompt, np.int32), END_IDS))
        for token in answer:
            table.accept(np.array([request_id], np.int32), np.array([token], np.int32))
    return table


def positions_of(requests: Sequence[Request]) -> np.ndarray:
    return np.array([len(answer) for _, _, answer in requests], np.int32)


@given(requests=REQUESTS, seed=st.integers(0, 100), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_rows_token_is_the_same_in_any_batch_and_chunk(requests: list[Request], seed: int, data: Any) -> None:
    table, logits, positions = table_of(requests), random_logits(len(requests), seed), positions_of(requests)
    before = logits.clone()
    together = Sampler(table).sample(logits, np.arange(len(requests), dtype=np.int32), positions).token_ids
    assert torch.equal(logits, before)  # log-probs are of these
    ids = np.array(data.draw(st.permutations(range(len(requests)))), np.int32)
    ids = ids[: data.draw(st.integers(1, len(requests)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs_module, "_CPU_CHUNK_ELEMENTS", 2 * VOCAB_SIZE)
        some = Sampler(table).sample(logits[torch.from_numpy(ids.astype(np.int64))], ids, positions[ids])
    assert some.token_ids.tolist() == together[ids].tolist()


@given(requests=REQUESTS, seed=st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_greedy_rows_take_the_largest_edited_logit_and_log_probs_stay_the_models_own(
    requests: list[Request], seed: int
) -> None:
    table, logits = table_of(requests), random_logits(len(requests), seed)
    sampled = Sampler(table).sample(logits, np.arange(len(requests), dtype=np.int32), positions_of(requests))
    for row, (params, prompt, answer) in enumerate(requests):
        expected = reference(logits[row], prompt, answer, params)
        token = int(sampled.token_ids[row])
        if params.temperature == 0:
            assert expected[token] >= expected.max() - 1e-4
        if len(answer) < params.min_tokens:
            assert token not in END_IDS
    if sampled.logprobs is not None:
        own = torch.log_softmax(logits.double(), dim=-1).numpy()
        rows = sampled.logprobs.rows
        np.testing.assert_allclose(sampled.logprobs.columns.chosen, own[rows, sampled.token_ids[rows]], atol=1e-5)


def test_a_step_needs_logits_when_a_row_draws_is_edited_or_reports_log_probs() -> None:
    table = table_of([(SamplingParams(**fields), [1], []) for fields in ({"temperature": 0},) * 4])
    ids = np.arange(4, dtype=np.int32)
    assert not table.needs_logits(ids)
    assert not table.needs_logits(ids[:0])
    table.edit(1, edits_of([1], [], min_tokens=1))
    table.set(2, key=0, temperature=0, num_logprobs=0)
    table.set(3, key=0, temperature=0.5)
    assert [table.needs_logits(ids[row : row + 1]) for row in range(4)] == [False, True, True, True]
    assert table.needs_logits(ids)
    table.edit(1, None)
    assert not table.needs_logits(ids[:2])
    assert table.edits == {}


def test_counts_are_sparse_and_sorted() -> None:
    edits = edits_of([9, 4, 9], [4, 30, 4, 2], repetition_penalty=1.1)
    assert edits is not None
    assert edits.penalties is not None
    ids, counts = edits.penalties.used()
    assert (ids.tolist(), counts.tolist()) == ([2, 4, 9, 30], [1, 2, 0, 1])
    edits = edits_of([9, 4, 9], [4], frequency_penalty=1)
    assert edits is not None
    assert edits.penalties is not None
    assert edits.penalties.used()[0].tolist() == [4]
