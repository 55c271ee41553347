"""Log-probs of prompts are those of transformers, in chunks, from the cache and after preemption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blendserve import LLM, RequestOutput, SamplingParams
from prompts import mixed_prompts
from reference import LOGPROB_TOLERANCE, load_reference
from tiny_models import build_llama

PROMPTS = mixed_prompts()
NUM_TOP = 3
ALONE = SamplingParams(max_tokens=0, prompt_logprobs=NUM_TOP)
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # K and V, 2 layers, 2 KV heads, head size 8, float32

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "one step": {"max_batch_tokens": 4096},
    "chunks of 16, 1 token a block": {"max_batch_tokens": 16, "block_size": 1},
    "chunks of 40, 8 tokens a block, random": {"max_batch_tokens": 40, "block_size": 8, "schedule": "random"},
    "one at a time": {"max_batch_requests": 1, "schedule": "fcfs"},
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model_dir: Path) -> list[torch.Tensor]:
    """The log-probs [p, V] behind every position of every prompt."""
    model = load_reference(model_dir)
    with torch.inference_mode():
        return [torch.log_softmax(model(torch.tensor([prompt])).logits[0].double(), dim=-1) for prompt in PROMPTS]


def assert_scored(output: RequestOutput, prompt: list[int], expected: torch.Tensor) -> None:
    logprobs = output.prompt_logprobs
    assert logprobs is not None
    assert logprobs[0] is None
    assert [each.token_id for each in logprobs[1:] if each] == prompt[1:]
    for each, token, row in zip(logprobs[1:], prompt[1:], expected, strict=False):
        assert each is not None
        assert abs(each.logprob - float(row[token])) <= LOGPROB_TOLERANCE
        ids = [token_id for token_id, _ in each.top]
        assert len(set(ids)) == NUM_TOP
        reported = torch.tensor([value for _, value in each.top], dtype=torch.float64)
        torch.testing.assert_close(reported, row.topk(NUM_TOP).values, atol=LOGPROB_TOLERANCE, rtol=0)
        torch.testing.assert_close(row[ids], reported, atol=LOGPROB_TOLERANCE, rtol=0)


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_scores_equal_transformers_and_again_from_the_cache(
    model_dir: Path, expected: list[torch.Tensor], settings: dict[str, Any]
) -> None:
    llm = LLM(model_dir, device="cpu", kv_memory=4096 * BYTES_PER_TOKEN, **settings)
    first, second = llm.generate(PROMPTS, ALONE), llm.generate(PROMPTS, ALONE)
    for outputs in (first, second):
        for output, prompt, logprobs in zip(outputs, PROMPTS, expected, strict=True):
            assert_scored(output, prompt, logprobs)
            assert (output.token_ids, output.finish_reason) == ((), "length")
    # A row reads at most whole blocks; the last of them ends before the prompt does.
    block_size = llm.config.block_size
    assert [output.num_cached_tokens for output in second] == [(len(p) - 1) // block_size * block_size for p in PROMPTS]
    # What comes from the cache has the very bits that the first computation gave it.
    for a, b in zip(first, second, strict=True):
        assert a.prompt_logprobs is not None
        assert b.prompt_logprobs is not None
        assert a.prompt_logprobs[: b.num_cached_tokens + 1] == b.prompt_logprobs[: b.num_cached_tokens + 1]


def test_scores_equal_transformers_although_requests_are_preempted(
    model_dir: Path, expected: list[torch.Tensor]
) -> None:
    kv_memory = 800 * BYTES_PER_TOKEN
    llm = LLM(model_dir, device="cpu", kv_memory=kv_memory, max_batch_tokens=48, block_size=4, schedule="random")
    params = SamplingParams(max_tokens=24, ignore_eos=True, temperature=0, prompt_logprobs=NUM_TOP)
    outputs = llm.generate(PROMPTS, params)
    for output, prompt, logprobs in zip(outputs, PROMPTS, expected, strict=True):
        assert_scored(output, prompt, logprobs)
        assert len(output.token_ids) == 24
    assert llm.stats.num_preemptions > 0
    llm.engine.scheduler.verify()


def test_scores_of_the_prompt_and_of_the_answer_stand_beside_each_other(
    model_dir: Path, expected: list[torch.Tensor]
) -> None:
    llm = LLM(model_dir, device="cpu", kv_memory="1MiB")
    params = SamplingParams(n=2, max_tokens=3, ignore_eos=True, prompt_logprobs=NUM_TOP, logprobs=1)
    (output,) = llm.generate([PROMPTS[7]], params)
    assert_scored(output, PROMPTS[7], expected[7])
    for choice in output.outputs:
        assert choice.logprobs is not None
        assert [each.token_id for each in choice.logprobs] == list(choice.token_ids)
