"""A sampled answer is a function of the request: no order, batch, shortage of memory or neighbour changes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blendserve import LLM, SamplingParams
from blendserve.engine import EngineRequest
from blendserve.random_keys import stream_key
from prompts import short_prompts
from reference import assert_drawn, load_reference
from tiny_models import build_llama
from transformers import LlamaForCausalLM

PROMPTS = short_prompts(12)
JOB_SEED = 11
PARAMS = [
    SamplingParams(max_tokens=12, ignore_eos=True),
    SamplingParams(max_tokens=12, ignore_eos=True, temperature=0.7, top_p=0.9, n=2),
    SamplingParams(max_tokens=12, ignore_eos=True, temperature=1.3, top_k=20, seed=5),
    SamplingParams(max_tokens=12, ignore_eos=True, temperature=0.9, top_k=50, top_p=0.8, seed=-1, n=3),
]
CONFIGURATIONS: list[dict[str, Any]] = [
    {"schedule": "fcfs", "max_batch_tokens": 512},
    {"schedule": "dfs", "max_batch_tokens": 16, "block_size": 1},
    {"schedule": "random", "max_batch_tokens": 40, "max_batch_requests": 4, "block_size": 8},
    {"schedule": "dfs", "max_batch_requests": 1},
    {"schedule": "random", "kv_memory": 224 * 256, "block_size": 4},
]

Answers = dict[str, tuple[tuple[int, ...], ...]]  # the choices' tokens, by name


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LlamaForCausalLM:
    return load_reference(model_dir)


@pytest.fixture(scope="module")
def llm(model_dir: Path) -> LLM:
    return LLM(model_dir, device="cpu", kv_memory="1MiB", seed=JOB_SEED)


def named_requests() -> list[EngineRequest]:
    return [
        EngineRequest(np.array(prompt, np.int32), PARAMS[i % len(PARAMS)], name=f"row {i}")
        for i, prompt in enumerate(PROMPTS)
    ]


def answer(llm: LLM, requests: Sequence[EngineRequest]) -> Answers:
    indices = llm.engine.add(requests)
    outputs = {}
    while (finished := llm.engine.step()) is not None:
        for output in finished:
            outputs[output.index] = tuple(choice.token_ids for choice in output.outputs)
    return {request.name: outputs[index] for index, request in zip(indices, requests, strict=True)}


def num_differing(a: Answers, b: Answers) -> int:
    assert a.keys() == b.keys()
    return sum(one != other for name in a for one, other in zip(a[name], b[name], strict=True))


@pytest.mark.parametrize("settings", CONFIGURATIONS, ids=lambda settings: " ".join(map(str, settings.values())))
def test_every_token_is_the_one_its_key_draws_from_transformers_distribution(
    model_dir: Path, model: LlamaForCausalLM, llm: LLM, settings: dict[str, Any]
) -> None:
    other = LLM(model_dir, device="cpu", seed=JOB_SEED, **{"kv_memory": "1MiB", **settings})
    requests = named_requests()
    answers = answer(other, requests)
    for request in requests:
        params = request.params
        for choice, token_ids in enumerate(answers[request.name]):
            assert len(token_ids) == params.max_tokens
            key = stream_key(request_seed=params.seed, job_seed=JOB_SEED, name=request.name, choice=choice)
            assert_drawn(model, request.prompt_token_ids.tolist(), token_ids, params, key)
    assert (other.stats.num_preemptions > 0) == ("kv_memory" in settings)
    # The draws agree with the reference, so runs differ only where a number lies on a border.
    assert num_differing(answers, answer(llm, requests)) <= 1


def test_an_answer_does_not_depend_on_the_other_requests_or_their_order(llm: LLM) -> None:
    requests = named_requests()
    together = answer(llm, requests)
    assert num_differing(answer(llm, requests[::-1]), together) <= 1
    alone: Answers = {}
    for request in requests:
        alone |= answer(llm, [request])
    assert num_differing(alone, together) <= 1


def test_choices_differ_from_one_another_and_come_again(llm: LLM) -> None:
    params = SamplingParams(n=8, max_tokens=8, ignore_eos=True)
    (first,), (second,) = llm.generate("The quick", params), llm.generate("The quick", params)
    assert [choice.index for choice in first.outputs] == list(range(8))
    assert len({choice.token_ids for choice in first.outputs}) == 8
    assert [choice.text for choice in first.outputs] == [choice.text for choice in second.outputs]


def test_a_requests_own_seed_decides_alone_and_the_jobs_seed_and_name_otherwise(model_dir: Path, llm: LLM) -> None:
    other_job = LLM(model_dir, device="cpu", kv_memory="1MiB", seed=JOB_SEED + 1)
    prompt = np.array(PROMPTS[0], np.int32)

    def tokens(llm: LLM, name: str, seed: int | None) -> tuple[int, ...]:
        params = SamplingParams(max_tokens=12, ignore_eos=True, seed=seed)
        return answer(llm, [EngineRequest(prompt, params, name)])[name][0]

    assert tokens(llm, "a", 3) == tokens(other_job, "b", 3)
    assert tokens(llm, "a", 3) != tokens(llm, "a", 4)
    assert tokens(llm, "a", None) == tokens(llm, "a", None)
    assert tokens(llm, "a", None) != tokens(llm, "b", None)
    assert tokens(llm, "a", None) != tokens(other_job, "a", None)


def test_logprobs_of_sampled_tokens_are_of_the_models_own_distribution(llm: LLM, model: LlamaForCausalLM) -> None:
    params = SamplingParams(max_tokens=8, ignore_eos=True, temperature=2.0, top_k=5, logprobs=0)
    (output,) = llm.generate([PROMPTS[1]], params)
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPTS[1], *output.token_ids]])).logits[0, len(PROMPTS[1]) - 1 : -1]
    expected = torch.log_softmax(logits, -1)[torch.arange(8), list(output.token_ids)]
    assert output.logprobs is not None
    reported = torch.tensor([logprob.logprob for logprob in output.logprobs])
    torch.testing.assert_close(reported, expected, atol=1e-4, rtol=0)
    assert [logprob.top for logprob in output.logprobs] == [()] * 8
