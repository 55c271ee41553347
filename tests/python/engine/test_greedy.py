"""Greedy answers in float32 are those of transformers' `generate`, whatever the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from blendserve import LLM, RequestOutput, SamplingParams
from prompts import mixed_prompts, short_prompts
from reference import Reference, assert_same_logprobs, assert_same_tokens, generate_greedily, load_reference
from tiny_models import build_llama, edit_json

PROMPTS = mixed_prompts()
MAX_TOKENS = 16
GREEDY = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True, logprobs=4)
BYTES_PER_TOKEN_AND_KV_HEAD = 2 * 2 * 8 * 4  # K and V, 2 layers, head size 8, float32

VARIANTS: dict[str, dict[str, Any]] = {
    "1 KV head, llama3 rope": {"kv_heads": 1, "rope": "llama3", "rope_theta": 500_000.0},
    "2 KV heads, linear rope, tied": {"kv_heads": 2, "rope": "linear", "tie": True},
    "4 KV heads, biased": {"kv_heads": 4, "bias": True},
    "8 KV heads, llama3 rope, tied, biased": {"kv_heads": 8, "rope": "llama3", "tie": True, "bias": True},
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "chunks of 16, 1 token a block": {"max_batch_tokens": 16, "max_batch_requests": 3, "block_size": 1},
    "chunks of 40, 8 tokens a block, random": {
        "max_batch_tokens": 40,
        "max_batch_requests": 40,
        "block_size": 8,
        "schedule": "random",
    },
    "chunks of 64, 32 tokens a block, fcfs": {"max_batch_tokens": 64, "block_size": 32, "schedule": "fcfs"},
    "one at a time": {"max_batch_tokens": 512, "max_batch_requests": 1},
}


class Case:
    """A model, its folder, and what it answers to `PROMPTS`."""

    def __init__(self, model_dir: Path, variant: dict[str, Any]) -> None:
        self.model_dir = build_llama(model_dir, **variant)
        self.model = load_reference(self.model_dir)
        self.references = generate_greedily(self.model, PROMPTS, MAX_TOKENS)
        self.kv_heads = variant["kv_heads"]

    def llm(self, *, kv_tokens: int, **settings: Any) -> LLM:
        kv_memory = kv_tokens * self.kv_heads * BYTES_PER_TOKEN_AND_KV_HEAD
        return LLM(self.model_dir, device="cpu", kv_memory=kv_memory, **settings)


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def one_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("model"), {"kv_heads": 2, "rope": "llama3"})


def assert_same_answers(outputs: Sequence[RequestOutput], references: Sequence[Reference]) -> None:
    assert [output.index for output in outputs] == list(range(len(references)))
    assert [output.finish_reason for output in outputs] == ["length"] * len(references)
    assert_same_tokens([output.token_ids for output in outputs], references)
    num_compared = 0
    for output, reference in zip(outputs, references, strict=True):
        assert output.logprobs is not None
        assert tuple(logprob.token_id for logprob in output.logprobs) == output.token_ids
        num_compared += assert_same_logprobs(output.logprobs, reference, num_top=4)
    assert num_compared >= 0.9 * MAX_TOKENS * len(references)


def assert_all_blocks_are_back(llm: LLM) -> None:
    llm.engine.scheduler.verify()
    assert llm.engine.scheduler.num_unfinished == 0
    assert llm.engine.scheduler.num_available_blocks == llm.config.num_blocks


def test_answers_equal_transformers_in_one_step_and_again_from_the_cache(case: Case) -> None:
    llm = case.llm(kv_tokens=4096, max_batch_tokens=4096, schedule="dfs")
    first, second = llm.generate(PROMPTS, GREEDY), llm.generate(PROMPTS, GREEDY)
    assert_same_answers(first, case.references)
    assert_same_answers(second, case.references)
    assert llm.stats.num_preemptions == 0
    assert llm.stats.num_steps == 2 * MAX_TOKENS
    # Of whole blocks of 16 all are cached the second time, except that a prompt's last token is always computed.
    assert [output.num_cached_tokens for output in second] == [(len(prompt) - 1) // 16 * 16 for prompt in PROMPTS]
    assert_all_blocks_are_back(llm)


def test_answers_equal_transformers_in_chunks_with_forced_preemption(case: Case) -> None:
    llm = case.llm(kv_tokens=720, max_batch_tokens=48, block_size=4, schedule="random")
    assert_same_answers(llm.generate(PROMPTS, GREEDY), case.references)
    assert llm.stats.num_preemptions > 0
    assert_all_blocks_are_back(llm)


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_answers_equal_transformers_in_any_configuration(one_case: Case, settings: dict[str, Any]) -> None:
    llm = one_case.llm(kv_tokens=2048, **settings)
    assert_same_answers(llm.generate(PROMPTS, GREEDY), one_case.references)
    # The document is computed once: all its beginnings but the whole blocks' remainder come from the cache.
    assert llm.stats.num_cached_tokens >= 600 - 2 * llm.config.block_size
    assert_all_blocks_are_back(llm)


@pytest.fixture(scope="module")
def crowd(one_case: Case) -> list[Reference]:
    """What the model answers to 16 short prompts."""
    return generate_greedily(one_case.model, short_prompts(16), 24)


@pytest.mark.parametrize("schedule", ["fcfs", "dfs", "random"])
@pytest.mark.parametrize("block_size", [1, 8, 16])
def test_answers_equal_transformers_however_often_requests_are_preempted(
    one_case: Case, crowd: list[Reference], schedule: Any, block_size: int
) -> None:
    llm = one_case.llm(kv_tokens=128, block_size=block_size, schedule=schedule, max_batch_tokens=32)
    outputs = llm.generate(short_prompts(16), SamplingParams(temperature=0, max_tokens=24, ignore_eos=True))
    assert_same_tokens([output.token_ids for output in outputs], crowd)
    assert llm.stats.num_preemptions >= 5
    assert llm.stats.num_recomputed_tokens >= 70
    assert_all_blocks_are_back(llm)


def test_every_choice_of_a_greedy_request_is_the_same_answer(one_case: Case) -> None:
    llm = one_case.llm(kv_tokens=2048)
    params = SamplingParams(n=3, temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True)
    for output, reference in zip(llm.generate(PROMPTS[:4], params), one_case.references, strict=False):
        assert [choice.index for choice in output.outputs] == [0, 1, 2]
        assert_same_tokens([output.token_ids], [reference])
        assert {choice.token_ids for choice in output.outputs} == {output.token_ids}


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_a_list_of_end_tokens_ends_answers_where_transformers_does(tmp_path: Path, where: str) -> None:
    model_dir = build_llama(tmp_path, seed=5)
    model = load_reference(model_dir)
    free = generate_greedily(model, PROMPTS, MAX_TOKENS)
    ends = [free[3].token_ids[4], free[7].token_ids[9]]
    edit_json(model_dir / "generation_config.json", lambda values: values.pop("eos_token_id", None))
    edit_json(model_dir / where, lambda values: values.update(eos_token_id=ends))
    references = generate_greedily(model, PROMPTS, MAX_TOKENS, eos_token_ids=ends)
    assert sum(len(reference.token_ids) < MAX_TOKENS for reference in references) >= 2

    llm = LLM(model_dir, device="cpu", kv_memory="2MiB")
    outputs = llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=MAX_TOKENS))
    assert_same_tokens([output.token_ids for output in outputs], references)
    for output, reference in zip(outputs, references, strict=True):
        ended = reference.token_ids[-1] in ends
        assert output.finish_reason == ("stop" if ended else "length")
        assert output.outputs[0].stop_reason is None

    ignoring = llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True))
    assert_same_tokens([output.token_ids for output in ignoring], free)

    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop_token_ids=[ends[0]], ignore_eos=True)
    references = generate_greedily(model, PROMPTS, MAX_TOKENS, eos_token_ids=ends[:1])
    stopped = llm.generate(PROMPTS, params)
    assert_same_tokens([output.token_ids for output in stopped], references)
    assert (stopped[3].finish_reason, stopped[3].outputs[0].stop_reason) == ("stop", ends[0])
