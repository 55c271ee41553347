from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from blendserve._core import random_uniforms
from blendserve.runner import logprobs as logprobs_module
from blendserve.runner.sampler import LogprobRows, SampledTokens, Sampler, SamplingTable
from blendserve.runner.token_choice import DrawSettings, draw_from_most_likely, draw_from_vocabulary
from transformers.generation.logits_process import MinPLogitsWarper

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 5.0},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 2.0, "top_k": 300},
    {"temperature": 1.0, "top_k": 2**31 - 1},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 9.0, "top_p": 0.97},
    {"temperature": 1.0, "top_p": 0.01},
    {"temperature": 1.5, "top_k": 40, "top_p": 0.7},
    {"temperature": 7.0, "top_k": 400, "top_p": 0.95},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 30.0, "min_p": 0.7},
    {"temperature": 2.0, "min_p": 0.02, "top_k": 9},
    {"temperature": 9.0, "min_p": 0.4, "top_k": 400, "top_p": 0.8},
]


def random_logits(num_rows: int, vocab_size: int, seed: int = 0) -> torch.Tensor:
    logits = np.random.default_rng(seed).normal(0, 2, (num_rows, vocab_size)).astype(np.float32)
    return torch.from_numpy(logits)


def coarse_logits(num_rows: int, vocab_size: int) -> torch.Tensor:
    """Many equal logits in each row, as a bfloat16 model gives."""
    return random_logits(num_rows, vocab_size).round()


def table_of(*rows: dict[str, Any]) -> SamplingTable:
    table = SamplingTable()
    for request_id, row in enumerate(rows):
        table.set(request_id, **({"key": 1000 + request_id} | row))
    return table


def sample(table: SamplingTable, logits: torch.Tensor, ids: Any = None, position: int = 0) -> SampledTokens:
    request_ids = np.arange(len(logits), dtype=np.int32) if ids is None else np.asarray(ids, np.int32)
    return Sampler(table).sample(logits, request_ids, np.full(len(request_ids), position, np.int32))


def settings_of(uniform: list[float], **row: float) -> DrawSettings:
    def column(name: str, default: float, dtype: type) -> Any:
        return np.full(len(uniform), row.get(name, default), dtype)

    return DrawSettings(
        column("temperature", 1, np.float32),
        column("top_p", 1, np.float32),
        column("top_k", 0, np.int32),
        column("min_p", 0, np.float32),
        np.asarray(uniform),
    )


def reference_intervals(
    logits: np.ndarray, temperature: float, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0
) -> Any:
    """Each token that may be drawn, with the part of [0, 1) that draws it: {token: (from, to)}. Slow and obvious."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / np.float64(np.float32(temperature)))
    order = list(range(len(logits)))
    if top_k > 0 or top_p < 1 or min_p > 0:
        order.sort(key=lambda token: (-logits[token], token))
    order = [token for token in order if weights[token] >= np.float32(min_p) * weights.max()]
    if top_k > 0:
        order = order[:top_k]
    if top_p < 1:
        eligible, kept, mass = weights[order].sum(), [], 0.0
        for token in order:
            if mass < np.float32(top_p) * eligible:
                kept.append(token)
                mass += weights[token]
        order = kept
    ends = np.cumsum(weights[order]) / weights[order].sum()
    return {token: (end - weights[token] / weights[order].sum(), end) for token, end in zip(order, ends, strict=True)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab_size", [7, 50, 600])
@pytest.mark.parametrize("logits_of", [random_logits, coarse_logits])
def test_every_token_is_the_one_the_reference_draws_with_the_rows_uniform(device: str, vocab_size: int, logits_of: Any):
    logits = logits_of(3 * len(SETTINGS), vocab_size)
    table = table_of(*SETTINGS * 3)
    for position in range(2):
        token_ids = sample(table, logits.to(device), position=position).token_ids
        uniforms = random_uniforms(table.key[: len(logits)], np.full(len(logits), position))
        for row, settings in enumerate(SETTINGS * 3):
            if settings["temperature"] == 0:
                assert token_ids[row] == np.argmax(logits[row].numpy())
                continue
            low, high = reference_intervals(logits[row].numpy(), **settings)[token_ids[row]]
            assert low - 1e-6 <= uniforms[row] < high + 1e-6


@pytest.mark.parametrize("vocab_size", [11, 257, 5003])
def test_a_row_gives_the_same_bits_alone_and_beside_others_on_the_cpu(vocab_size: int):
    rows = [settings | {"num_logprobs": row % 4 - 1} for row, settings in enumerate(SETTINGS * 3)]
    table, logits = table_of(*rows), random_logits(len(rows), vocab_size)
    together = sample(table, logits)
    backwards = sample(table, logits.flip(0), ids=np.arange(len(rows))[::-1])
    np.testing.assert_array_equal(backwards.token_ids[::-1], together.token_ids)
    expected = dict(logprobs_by_row(together))
    for row in range(len(rows)):
        alone = sample(table, logits[row : row + 1], ids=[row])
        assert alone.token_ids.tolist() == [together.token_ids[row]]
        assert [columns for _, columns in logprobs_by_row(alone)] == ([expected[row]] if row in expected else [])


def logprobs_by_row(sampled: SampledTokens) -> Iterator[tuple[int, tuple[float, list[int], list[float]]]]:
    if (logprobs := sampled.logprobs) is not None:
        for i, row in enumerate(logprobs.rows):
            num_top = logprobs.num_top[i]
            top_ids, top_logprobs = logprobs.columns.top_ids[i, :num_top], logprobs.columns.top_logprobs[i, :num_top]
            yield int(row), (float(logprobs.columns.chosen[i]), top_ids.tolist(), top_logprobs.tolist())


def test_the_number_of_rows_worked_on_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    table = table_of(*[settings | {"num_logprobs": 2} for settings in SETTINGS * 3])
    logits = random_logits(len(SETTINGS) * 3, 600)
    whole = sample(table, logits)
    monkeypatch.setattr(logprobs_module, "_CPU_CHUNK_ELEMENTS", 4 * 600)
    chunked = sample(table, logits)
    assert chunked.token_ids.tolist() == whole.token_ids.tolist()
    assert list(logprobs_by_row(chunked)) == list(logprobs_by_row(whole))


@pytest.mark.parametrize("device", DEVICES)
def test_greedy_takes_the_lowest_id_among_equal_maxima(device: str):
    logits = torch.zeros(3, 5000, device=device)
    logits[0, [4999, 123, 3000]] = 2.0
    logits[1, [4000, 17]] = 1.0
    assert sample(table_of(*[{"temperature": 0}] * 3), logits).token_ids.tolist() == [123, 17, 0]


@pytest.mark.parametrize("device", DEVICES)
def test_top_k_keeps_exactly_k_lowest_ids_first_among_equals(device: str):
    logits = torch.zeros(1000, 1024, device=device)
    logits[:, [900, 5]] = 1.0
    table = table_of(*[{"top_k": 4, "temperature": 1.0}] * 1000)
    assert set(sample(table, logits).token_ids.tolist()) == {5, 900, 0, 1}


def test_top_p_counts_shares_of_what_top_k_kept():
    logits = torch.log(torch.tensor([[0.4, 0.2, 0.2, 0.2]])).expand(500, 4)
    # Of the first two tokens the first has 2/3: enough for 0.5. Of all four it has 0.4: a second is needed.
    alone = sample(table_of(*[{"top_k": 2, "top_p": 0.5}] * 500), logits)
    assert set(alone.token_ids.tolist()) == {0}
    assert set(sample(table_of(*[{"top_p": 0.5}] * 500), logits).token_ids.tolist()) == {0, 1}


def test_top_p_counts_shares_of_what_min_p_kept():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1]])).expand(500, 4)
    # Of the first two tokens the first has 5/8: enough for 0.6. Of all four it has 0.5: a second is needed.
    assert set(sample(table_of(*[{"min_p": 0.5, "top_p": 0.6}] * 500), logits).token_ids.tolist()) == {0}
    assert set(sample(table_of(*[{"top_p": 0.6}] * 500), logits).token_ids.tolist()) == {0, 1}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_min_p_keeps_the_tokens_that_transformers_keeps_after_the_temperature(temperature: float):
    logits = random_logits(40, 300)
    kept = MinPLogitsWarper(0.05)(None, logits / temperature) > -torch.inf
    for row in range(len(logits)):
        draws = settings_of(((np.arange(4000) + 0.5) / 4000).tolist(), temperature=temperature, min_p=0.05)
        drawn = draw_from_most_likely(logits[row].expand(4000, 300), draws)
        assert set(drawn.tolist()) <= set(torch.nonzero(kept[row]).flatten().tolist())
        assert draw_from_most_likely(
            logits[row : row + 1], settings_of([LARGEST_UNIFORM], temperature=temperature, min_p=0.05)
        ) == least_likely(logits[row], kept[row])


def least_likely(logits: torch.Tensor, kept: torch.Tensor) -> int:
    """The last of the kept tokens in order of likelihood."""
    return int(torch.where(kept, logits, torch.inf).argmin())


def test_a_tiny_top_p_is_greedy():
    logits = random_logits(20, 300)
    drawn = sample(table_of(*[{"top_p": 1e-50}] * 20), logits)
    assert drawn.token_ids.tolist() == logits.argmax(dim=-1).tolist()


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1.2e-38, 1e-40, 1e-300])
def test_tiny_temperatures_do_not_overflow_and_take_the_most_likely_token(temperature: float):
    logits = random_logits(20, 300) * 1000
    drawn = sample(table_of(*[{"temperature": temperature}] * 20), logits)
    assert drawn.token_ids.tolist() == logits.argmax(dim=-1).tolist()


def test_a_huge_temperature_draws_evenly_but_never_an_impossible_token():
    logits = torch.tensor([[50.0, -torch.inf, 0.0, -50.0]]).expand(3000, 4)
    drawn = sample(table_of(*[{"temperature": 1e300}] * 3000), logits).token_ids
    counts = np.bincount(drawn, minlength=4)
    assert counts[1] == 0
    assert counts[[0, 2, 3]].min() > 900


LARGEST_UNIFORM = 1 - 2.0**-53


@pytest.mark.parametrize(
    ("logits", "first", "last"),
    [
        ([0.0, 0.0, -torch.inf], 0, 1),
        ([-torch.inf, 3.0, 3.0, -200.0], 1, 2),
        ([-torch.inf, 0.0, -torch.inf], 1, 1),
        ([0.0] * 49_157, 0, 49_156),
        ([-torch.inf] + [-1.0] * 1001 + [-torch.inf] * 3, 1, 1001),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_the_ends_of_the_unit_interval_never_leave_the_possible_tokens(
    device: str, logits: list[float], first: int, last: int
):
    rows = torch.tensor([logits, logits], device=device)
    uniform = [0.0, LARGEST_UNIFORM]
    assert draw_from_vocabulary(rows, settings_of(uniform)).tolist() == [first, last]
    assert draw_from_most_likely(rows, settings_of(uniform, top_k=2**20)).tolist() == [first, last]


@pytest.mark.parametrize("top_k", [1, 2, 255, 256, 257, 999])
def test_the_largest_uniform_draws_the_last_kept_token(top_k: int):
    drawn = draw_from_most_likely(torch.zeros(1, 1000), settings_of([LARGEST_UNIFORM], top_k=top_k))
    assert drawn.tolist() == [top_k - 1]


def test_rows_without_a_right_answer_still_get_a_token_of_the_vocabulary():
    logits = torch.full((len(SETTINGS), 300), torch.nan)
    logits[::2] = -torch.inf
    token_ids = sample(table_of(*SETTINGS), logits).token_ids
    assert token_ids.min() >= 0
    assert token_ids.max() < 300


@pytest.mark.parametrize("settings", [{"temperature": 1.3}, {"top_k": 12}, {"top_p": 0.85}, {"min_p": 0.05}])
def test_frequencies_follow_the_distribution(settings: dict[str, Any]):
    num_draws = 20_000
    logits = random_logits(1, 20)
    drawn = sample(table_of(settings), logits.expand(num_draws, 20), ids=np.zeros(num_draws)).token_ids
    assert len(set(drawn.tolist())) == 1  # one request, one position: one draw
    table = SamplingTable()
    table.set(0, key=7, **settings)
    positions = np.arange(num_draws, dtype=np.int32)
    drawn = Sampler(table).sample(logits.expand(num_draws, 20), np.zeros(num_draws, np.int32), positions).token_ids
    counts = np.bincount(drawn, minlength=20)
    intervals = reference_intervals(logits[0].numpy(), **({"temperature": 1.0} | settings))
    assert set(np.flatnonzero(counts)) <= set(intervals)
    expected = {token: num_draws * (high - low) for token, (low, high) in intervals.items()}
    chi_square = sum((counts[token] - mean) ** 2 / mean for token, mean in expected.items())
    assert chi_square < 50  # 99.99 % of fair draws with at most 19 degrees of freedom


def test_logprobs_are_of_the_models_own_distribution_whatever_the_settings():
    logits = random_logits(len(SETTINGS), 500)
    sampled = sample(table_of(*[settings | {"num_logprobs": 3} for settings in SETTINGS]), logits)
    expected = torch.log_softmax(logits.double(), dim=-1).numpy()
    order = np.argsort(-expected, axis=1, kind="stable")[:, :3]
    logprobs = sampled.logprobs
    assert isinstance(logprobs, LogprobRows)
    assert logprobs.rows.tolist() == list(range(len(SETTINGS)))
    assert logprobs.columns.top_ids.tolist() == order.tolist()
    np.testing.assert_allclose(logprobs.columns.top_logprobs, np.take_along_axis(expected, order, 1), atol=1e-5)
    np.testing.assert_allclose(logprobs.columns.chosen, expected[logprobs.rows, sampled.token_ids], atol=1e-5)


def test_logprobs_come_only_for_rows_that_asked_each_with_its_own_number():
    rows = [{"num_logprobs": num, "temperature": 0} for num in (-1, 2, -1, 0, 5)]
    sampled = sample(table_of(*rows), random_logits(5, 40))
    logprobs = sampled.logprobs
    assert logprobs is not None
    assert (logprobs.rows.tolist(), logprobs.num_top.tolist()) == ([1, 3, 4], [2, 0, 5])
    assert (logprobs.columns.top_ids.shape, logprobs.columns.top_logprobs.shape) == ((3, 5), (3, 5))
    assert [
        array.dtype for array in (logprobs.columns.chosen, logprobs.columns.top_ids, logprobs.columns.top_logprobs)
    ] == [
        np.float32,
        np.int32,
        np.float32,
    ]
    np.testing.assert_array_equal(logprobs.columns.top_ids[:, 0], sampled.token_ids[[1, 3, 4]])
    np.testing.assert_array_equal(logprobs.columns.top_logprobs[:, 0], logprobs.columns.chosen)


def test_only_the_chosen_tokens_logprob_when_no_row_asks_for_more():
    sampled = sample(table_of({"num_logprobs": 0, "temperature": 0}), torch.zeros(1, 4))
    assert sampled.logprobs is not None
    assert sampled.logprobs.columns.chosen.tolist() == [np.float32(np.log(0.25))]
    assert sampled.logprobs.columns.top_ids.shape == (1, 0)


def test_more_logprobs_than_the_vocabulary_has_are_all_of_it():
    logprobs = sample(table_of({"num_logprobs": 20}), torch.tensor([[1.0, 3.0, 3.0]])).logprobs
    assert logprobs is not None
    assert (logprobs.num_top.tolist(), logprobs.columns.top_ids.tolist()) == ([3], [[1, 2, 0]])


def test_no_rows_give_no_tokens():
    sampled = sample(SamplingTable(), torch.zeros(0, 10))
    assert (sampled.token_ids.tolist(), sampled.logprobs) == ([], None)
    assert sampled.token_ids.dtype == np.int32


def test_the_table_grows_and_keeps_what_was_set():
    table = SamplingTable(capacity=2)
    table.set(1, key=2**64 - 1, temperature=0.5, top_p=0.25, top_k=7, min_p=0.125, num_logprobs=3)
    table.set(np.array([5, 100]), key=np.array([1, 2], np.uint64), temperature=[0.0, 2.0])
    assert len(table.key) >= 101
    columns = (table.key, table.temperature, table.top_p, table.top_k, table.min_p, table.num_logprobs)
    assert [column[1] for column in columns] == [2**64 - 1, 0.5, 0.25, 7, 0.125, 3]
    assert (table.key[[5, 100]].tolist(), table.temperature[[5, 100]].tolist()) == ([1, 2], [0.0, 2.0])
    assert (table.min_p[[5, 100]].tolist(), table.is_edited[[5, 100]].tolist()) == ([0.0, 0.0], [False, False])
    assert (table.top_p[[5, 100]].tolist(), table.num_logprobs[[5, 100]].tolist()) == ([1.0, 1.0], [-1, -1])


def test_setting_no_requests_at_once_does_nothing():
    table = SamplingTable(capacity=2)
    table.set(np.empty(0, np.int32), key=np.empty(0, np.uint64))
    assert len(table.key) == 2
