"""On the CPU a request's log-probabilities have the same bits whatever runs beside it, and in which pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blendserve import LLM, RequestOutput, SamplingParams, _core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompts import mixed_prompts, short_prompts
from tiny_families import build_family

PROMPTS = short_prompts(20) + mixed_prompts()[2:5]
PARAMS = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=3)
FAMILIES = ["llama", "gemma2", "qwen3"]  # of every kind of norm; windows and caps

engine_settings = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(["blend", "paper", "dfs", "random", "fcfs"]),
        "block_size": st.sampled_from([1, 3, 8, 16, 64]),
        "max_batch_tokens": st.integers(1, 600),
        "kv_memory": st.sampled_from(["1MiB", "8MiB"]),  # the first holds a part of the prompts only
        "seed": st.integers(0, 100),
    }
)


def answer(model_dir: Path, which: list[int], options: dict[str, Any]) -> list[RequestOutput]:
    llm = LLM(model_dir, device="cpu", max_batch_requests=min(256, options["max_batch_tokens"]), **options)
    return llm.generate([PROMPTS[i] for i in which], PARAMS)


@pytest.fixture(scope="module", params=FAMILIES)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RequestOutput]]:
    """Every prompt by itself, in a cache of its own."""
    model_dir = build_family(tmp_path_factory.mktemp("model"), request.param)
    options = {"schedule": "fcfs", "block_size": 16, "max_batch_tokens": 2048, "kv_memory": "8MiB"}
    return model_dir, [answer(model_dir, [i], options)[0] for i in range(len(PROMPTS))]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=engine_settings,
    which=st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=40),
    num_threads=st.integers(1, 3),
)
def test_logprobs_have_the_same_bits_in_any_company(
    alone: tuple[Path, list[RequestOutput]], options: dict[str, Any], which: list[int], num_threads: int
) -> None:
    model_dir, expected = alone
    before = _core.num_threads()
    _core.set_num_threads(num_threads)
    try:
        outputs = answer(model_dir, which, options)
    finally:
        _core.set_num_threads(before)
    for i, output in zip(which, outputs, strict=True):
        assert output.token_ids == expected[i].token_ids
        assert output.logprobs == expected[i].logprobs


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=engine_settings, which=st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=30))
def test_greedy_tokens_are_the_same_with_and_without_logits(
    alone: tuple[Path, list[RequestOutput]], options: dict[str, Any], which: list[int]
) -> None:
    """Where nobody asks for more than the most likely token, logits are never made."""
    model_dir, expected = alone
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    llm = LLM(model_dir, device="cpu", max_batch_requests=min(256, options["max_batch_tokens"]), **options)
    for i, output in zip(which, llm.generate([PROMPTS[i] for i in which], greedy), strict=True):
        assert output.token_ids == expected[i].token_ids


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=engine_settings, which=st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=30))
def test_scores_of_prompts_have_the_same_bits_in_any_company(
    alone: tuple[Path, list[RequestOutput]], options: dict[str, Any], which: list[int]
) -> None:
    model_dir, _ = alone
    scored = SamplingParams(max_tokens=0, prompt_logprobs=2)
    each = {i: LLM(model_dir, device="cpu", kv_memory="8MiB").generate([PROMPTS[i]], scored)[0] for i in set(which)}
    llm = LLM(model_dir, device="cpu", max_batch_requests=min(256, options["max_batch_tokens"]), **options)
    for i, output in zip(which, llm.generate([PROMPTS[i] for i in which], scored), strict=True):
        assert output.prompt_logprobs == each[i].prompt_logprobs
