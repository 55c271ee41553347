"""Requests that must have the same answer are computed once; each gets its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from blendserve import LLM, RequestOutput, SamplingParams
from blendserve.engine import EngineRequest
from blendserve.engine.equal_requests import group_equal
from tiny_models import build_llama

PROMPT = list(range(40, 60))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True), device="cpu", kv_memory="1MiB")


def request(
    name: str = "a", prompt: Sequence[int] = PROMPT, *, hint: int | None = None, **params: Any
) -> EngineRequest:
    return EngineRequest(np.array(prompt, np.int32), SamplingParams(**params), name, hint)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 0, "seed": 3}, {"temperature": 0, "seed": 4}),
        ({"temperature": 0, "seed": 3}, {"temperature": 0}),
        ({"top_k": 1}, {"top_k": 1, "seed": 4}),
        ({"seed": 3}, {"seed": 3}),
        ({"temperature": 0, "stop": "x", "logprobs": 2}, {"temperature": 0, "stop": ("x",), "logprobs": 2}),
        ({"temperature": 0, "logit_bias": {5: 1, 6: 2}}, {"temperature": 0, "logit_bias": {6: 2, 5: 1}}),
        ({"temperature": 0, "hint": 5}, {"temperature": 0, "hint": 50}),
    ],
)
def test_equal_answers_are_one(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert group_equal([request("a", **first), request("b", **second)]) == [[0, 1]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),  # sampled by name
        ({"seed": 3}, {"seed": 4}),
        ({"seed": 3}, {}),
        ({"temperature": 0}, {"temperature": 0, "prompt": PROMPT[:-1]}),
        ({"temperature": 0}, {"temperature": 0, "max_tokens": 17}),
        ({"temperature": 0}, {"temperature": 0, "logprobs": 0}),
        ({"temperature": 0}, {"temperature": 0, "stop": "x"}),
        ({"temperature": 0}, {"temperature": 0, "prompt_logprobs": 0}),
        ({"temperature": 0}, {"temperature": 0, "n": 2}),
        ({"temperature": 0}, {"seed": 3}),
    ],
)
def test_different_answers_stay_apart(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert group_equal([request("a", **first), request("b", **second)]) == [[0], [1]]


def test_groups_come_in_order_of_their_first() -> None:
    prompts = [[5], [6], [5], [7], [6], [5]]
    requests = [request(str(i), prompt, temperature=0) for i, prompt in enumerate(prompts)]
    assert group_equal(requests) == [[0, 2, 5], [1, 4], [3]]
    assert group_equal([]) == []


def answers(outputs: Sequence[RequestOutput]) -> list[Any]:
    return [(output.prompt_token_ids, output.outputs, output.prompt_logprobs) for output in outputs]


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0, "logprobs": 1, "stop": ["e"]},
        {"seed": 7, "n": 3},
        {"temperature": 0, "prompt_logprobs": 1, "max_tokens": 2},
    ],
)
def test_every_prompt_has_the_answer_it_has_alone(llm: LLM, params: dict[str, Any]) -> None:
    prompts = [PROMPT, [5, 6], PROMPT, PROMPT[:7], [5, 6], PROMPT]
    settings = SamplingParams(**params)
    alone = [llm.generate([prompt], settings)[0] for prompt in prompts]
    before = llm.stats.num_prompt_tokens, llm.engine.num_duplicates
    together = llm.generate(prompts, settings)
    assert [output.index for output in together] == list(range(6))
    assert answers(together) == answers(alone)
    assert llm.stats.num_prompt_tokens - before[0] == (20 + 2 + 7) * settings.n
    assert llm.engine.num_duplicates - before[1] == 3


def test_nothing_of_a_copys_prompt_is_computed(llm: LLM) -> None:
    first, second = llm.generate([[9] * 33, [9] * 33], SamplingParams(temperature=0))
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 33)


def test_requests_drawn_by_their_names_are_all_computed(llm: LLM) -> None:
    outputs = llm.generate([PROMPT] * 4, SamplingParams(max_tokens=8, ignore_eos=True))
    assert len({output.token_ids for output in outputs}) == 4


def test_an_answer_is_computed_as_long_as_one_of_its_requests_is_wanted(llm: LLM) -> None:
    engine = llm.engine
    (expected,) = llm.generate([PROMPT], SamplingParams(temperature=0))
    indices = engine.add([request(str(i), temperature=0) for i in range(4)])
    engine.step()
    engine.cancel(indices[:2])
    finished = []
    while (outputs := engine.step()) is not None:
        finished += outputs
    assert [output.index for output in finished] == list(indices[2:])
    assert {output.outputs[0].token_ids for output in finished} == {expected.token_ids}
    again = engine.add([request(str(i), temperature=0) for i in range(4)])
    engine.step()
    engine.cancel(again)
    assert engine.step() is None
    engine.scheduler.verify()
