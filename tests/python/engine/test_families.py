"""Greedy answers of every family in float32 are those of transformers' `generate`."""

from __future__ import annotations

from pathlib import Path

import pytest
from blendserve import LLM, SamplingParams
from prompts import mixed_prompts, short_prompts
from reference import Reference, assert_same_logprobs, assert_same_tokens, generate_greedily, load_reference
from tiny_families import FAMILIES, OTHERS, WINDOW, build_family

PROMPTS = short_prompts(6) + mixed_prompts()[2:4]  # up to 320 tokens
MAX_TOKENS = 12


@pytest.fixture(scope="module", params=[*FAMILIES, *OTHERS])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Reference]]:
    model_dir = build_family(tmp_path_factory.mktemp("model"), request.param)
    return model_dir, generate_greedily(load_reference(model_dir), PROMPTS, MAX_TOKENS)


@pytest.mark.parametrize("attention", ["native_cpu", "torch_ref"])
def test_answers_equal_transformers_in_chunks_and_batches(family: tuple[Path, list[Reference]], attention: str) -> None:
    model_dir, references = family
    assert sum(len(prompt) > 2 * WINDOW for prompt in PROMPTS) >= 2
    llm = LLM(model_dir, device="cpu", attention=attention, kv_memory="4MiB", max_batch_tokens=40, block_size=8)
    outputs = llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True, logprobs=2))
    assert_same_tokens([output.token_ids for output in outputs], references)
    compared = [
        assert_same_logprobs(output.logprobs or (), reference, num_top=2)
        for output, reference in zip(outputs, references, strict=True)
    ]
    assert sum(compared) >= 0.9 * MAX_TOKENS * len(PROMPTS)
