"""Penalties, bias and minimum length in whole answers: those of transformers, and the same in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blendserve import LLM, SamplingParams
from prompts import short_prompts
from reference import load_reference
from tiny_models import build_llama
from transformers import LlamaForCausalLM

PROMPTS = short_prompts(8)
MAX_TOKENS = 16
NEAR_TIE = 1e-3


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LlamaForCausalLM:
    return load_reference(model_dir)


@pytest.fixture(scope="module")
def llm(model_dir: Path) -> LLM:
    return LLM(model_dir, device="cpu", kv_memory="1MiB")


def ends_of(llm: LLM) -> list[int]:
    """Tokens that end the plain greedy answers early."""
    outputs = llm.generate(PROMPTS[:2], SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True))
    return [output.token_ids[2] for output in outputs]


def assert_greedy(model: LlamaForCausalLM, prompt: list[int], answer: tuple[int, ...], **processors: Any) -> None:
    """`answer` is what transformers generates, up to its first near tie."""
    generated = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=MAX_TOKENS,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **{"eos_token_id": None, **processors},
    )
    expected = generated.sequences[0, len(prompt) :].tolist()
    for position, (token, other) in enumerate(zip(answer, expected, strict=False)):
        if token != other:
            first, second = generated.scores[position][0].topk(2).values.tolist()
            assert first - second <= NEAR_TIE, f"token {position} is {token}, not {other}"
            return
    assert len(answer) == len(expected)


@pytest.mark.parametrize("penalty", [0.8, 1.1, 1.8])
def test_a_repetition_penalty_counts_prompt_and_answer_as_transformers_does(
    llm: LLM, model: LlamaForCausalLM, penalty: float
) -> None:
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True, repetition_penalty=penalty)
    for output, prompt in zip(llm.generate(PROMPTS, params), PROMPTS, strict=True):
        assert_greedy(model, prompt, output.token_ids, repetition_penalty=penalty)


def test_a_minimum_length_holds_end_tokens_back_as_transformers_does(llm: LLM, model: LlamaForCausalLM) -> None:
    ends = ends_of(llm)
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop_token_ids=ends, min_tokens=9, ignore_eos=True)
    for output, prompt in zip(llm.generate(PROMPTS, params), PROMPTS, strict=True):
        assert_greedy(model, prompt, output.token_ids, eos_token_id=ends, min_new_tokens=9)
        assert not set(output.token_ids[:9]) & set(ends)
        assert len(output.token_ids) > 9


def test_a_minimum_length_holds_stop_strings_back(llm: LLM) -> None:
    params = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "ignore_eos": True}
    (free,) = llm.generate([PROMPTS[0]], SamplingParams(**params))  # type: ignore[arg-type]
    assert llm.tokenizer is not None
    early = llm.tokenizer.token_text(free.token_ids[1])
    (stopped,) = llm.generate([PROMPTS[0]], SamplingParams(**params, stop=(early,)))  # type: ignore[arg-type]
    assert len(stopped.token_ids) <= 2
    (held,) = llm.generate([PROMPTS[0]], SamplingParams(**params, stop=(early,), min_tokens=6))  # type: ignore[arg-type]
    assert len(held.token_ids) > 6
    assert held.token_ids == free.token_ids[: len(held.token_ids)]


def test_a_frequency_penalty_keeps_an_answer_from_repeating_itself(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, frequency_penalty=2, presence_penalty=2)
    for output in llm.generate(PROMPTS, params):
        assert len(set(output.token_ids)) >= 30


def test_a_bias_forces_a_token_and_log_probs_do_not_see_it(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True, logit_bias={77: 100}, logprobs=0)
    (output,) = llm.generate([PROMPTS[0]], params)
    assert output.token_ids == (77, 77, 77)
    assert output.logprobs is not None
    assert all(logprob.logprob < -0.5 for logprob in output.logprobs)


EDITED = [
    {"repetition_penalty": 1.2},
    {"frequency_penalty": 0.7, "presence_penalty": -0.3},
    {"min_p": 0.1},
    {"logit_bias": {40: 3, 41: -100}, "min_tokens": 12},
    {},
]


def test_sampled_answers_with_edits_are_the_same_in_any_batch_and_after_preemption(model_dir: Path) -> None:
    params = [
        SamplingParams(max_tokens=20, ignore_eos=True, n=1 + index % 2, seed=index, **EDITED[index % len(EDITED)])  # type: ignore[arg-type]
        for index in range(len(PROMPTS))
    ]
    answers = []
    for settings in (
        {"kv_memory": "1MiB", "max_batch_requests": 1},
        {"kv_memory": "1MiB", "max_batch_tokens": 16, "schedule": "random"},
        {"kv_memory": 128 * 256, "max_batch_tokens": 32, "block_size": 4},
    ):
        llm = LLM(model_dir, device="cpu", **settings)  # type: ignore[arg-type]
        outputs = llm.generate(PROMPTS, params)
        answers.append([[choice.token_ids for choice in output.outputs] for output in outputs])
    assert llm.stats.num_preemptions > 0
    assert answers[0] == answers[1] == answers[2]
