"""The engine on a GPU: the same answers as on a CPU with the reference attention, up to near ties in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blendserve as bs
import pytest
from tiny_families import build_family
from tiny_models import VOCAB_SIZE, build_llama

pytestmark = pytest.mark.gpu

NEAR_TIE = 0.15  # of log-probs, in bfloat16
E4M3_TIE = 0.5  # the GPU attends to a whole prompt before it is rounded, the reference after
KV_MEMORY = "256MiB"  # not most of the memory of either machine


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("models") / "llama", num_heads=8, kv_heads=2, head_dim=64)


def prompts() -> list[list[int]]:
    shared = [(7 * i) % (VOCAB_SIZE - 3) + 3 for i in range(200)]
    return [[(i * j) % (VOCAB_SIZE - 3) + 3 for j in range(1, 40 * i)] for i in range(1, 9)] + [
        [*shared, 3 + i] for i in range(8)
    ]


def reference(model_dir: Path, **settings: Any) -> bs.LLM:
    settings = {"kv_memory": KV_MEMORY, **settings}
    return bs.LLM(model_dir, device="cpu", dtype="bfloat16", attention="torch_ref", **settings)


def assert_same_up_to_near_ties(
    outputs: list[bs.RequestOutput], expected: list[bs.RequestOutput], near_tie: float = NEAR_TIE
) -> None:
    num_equal = num_compared = 0
    for got, wanted in zip(outputs, expected, strict=True):
        assert got.logprobs is not None
        assert wanted.logprobs is not None
        for one, other in zip(got.logprobs, wanted.logprobs, strict=True):
            num_compared += 1
            if one.token_id != other.token_id:
                assert other.top[0][1] - other.top[1][1] < near_tie
                break
            num_equal += 1
            assert one.logprob == pytest.approx(other.logprob, abs=near_tie)
    assert num_equal > 0.9 * num_compared


@pytest.mark.parametrize("settings", [{}, {"max_batch_tokens": 48, "max_batch_requests": 8}, {"kv_memory": "1MiB"}])
def test_greedy_answers_are_those_of_the_reference(model_dir: Path, settings: dict[str, int | str]) -> None:
    params = bs.SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=2)
    expected = reference(model_dir).generate(prompts(), params)
    all_settings: dict[str, Any] = {"kv_memory": KV_MEMORY, **settings}
    llm = bs.LLM(model_dir, device="cuda", **all_settings)
    assert_same_up_to_near_ties(llm.generate(prompts(), params), expected)
    llm.engine.scheduler.verify()
    assert llm.stats.num_cached_tokens > 0
    if "kv_memory" in settings:
        assert llm.stats.num_preemptions > 0


def test_a_cache_in_e4m3_holds_twice_the_tokens_and_gives_answers_of_the_reference(model_dir: Path) -> None:
    params = bs.SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=2)
    fp8: dict[str, Any] = {"kv_dtype": "fp8_e4m3", "kv_memory": "64MiB"}
    expected = reference(model_dir, **fp8)
    llm, wide = bs.LLM(model_dir, device="cuda", **fp8), bs.LLM(model_dir, device="cuda", kv_memory="64MiB")
    assert llm.config.kv_capacity == 2 * wide.config.kv_capacity
    assert_same_up_to_near_ties(llm.generate(prompts(), params), expected.generate(prompts(), params), E4M3_TIE)


def test_sampled_answers_repeat_and_follow_their_seed(model_dir: Path) -> None:
    llm = bs.LLM(model_dir, device="cuda", kv_memory=KV_MEMORY)
    params = bs.SamplingParams(temperature=1.0, top_p=0.9, seed=1, max_tokens=16, ignore_eos=True, n=2)
    first, second = (llm.generate([[5, 6, 7]], params)[0] for _ in range(2))
    assert first.outputs == second.outputs
    assert first.outputs[0].token_ids != first.outputs[1].token_ids


@pytest.mark.parametrize(
    "family", ["mistral", "qwen3 with windows in some layers, tied", "gemma2", "gemma3", "phi-3", "starcoder2"]
)
def test_families_with_windows_and_caps_answer_as_the_reference_does(family: str, tmp_path: Path) -> None:
    model_dir = build_family(tmp_path / "model", family, head_dim=32)
    params = bs.SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=2)
    expected = reference(model_dir).generate(prompts(), params)
    llm = bs.LLM(model_dir, device="cuda", kv_memory=KV_MEMORY)
    assert_same_up_to_near_ties(llm.generate(prompts(), params), expected)
