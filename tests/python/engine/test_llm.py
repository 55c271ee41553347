from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blendserve import LLM, EngineConfig, RequestError, SamplingParams, UserError
from blendserve.text.tokenizer import Tokenizer
from prompts import short_prompts
from reference import load_reference
from tiny_models import VOCAB_SIZE, build_llama

PROMPTS = short_prompts(6)
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    model_dir = build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)
    return LLM(model_dir, device="cpu", kv_memory="1MiB", max_batch_tokens=32)


@pytest.fixture(scope="module")
def bare_llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """Without a tokenizer."""
    return LLM(build_llama(tmp_path_factory.mktemp("bare"), kv_heads=4, seed=1), device="cpu", kv_memory="1MiB")


@pytest.fixture(scope="module")
def answers(llm: LLM) -> list[tuple[int, ...]]:
    return [output.token_ids for output in llm.generate(PROMPTS, GREEDY)]


def assert_idle(llm: LLM) -> None:
    scheduler = llm.engine.scheduler
    scheduler.verify()
    assert (scheduler.num_unfinished, scheduler.num_running) == (0, 0)
    assert scheduler.num_available_blocks == llm.config.num_blocks


def test_a_single_prompt_is_a_list_of_one(llm: LLM) -> None:
    assert llm.tokenizer is not None
    ids = llm.tokenizer.encode("The quick brown fox")
    singles = [llm.generate(prompt, GREEDY) for prompt in ("The quick brown fox", ids, tuple(ids), np.array(ids))]
    for outputs in singles:
        assert len(outputs) == 1
        assert outputs[0].prompt_token_ids == tuple(ids)
        assert outputs[0].token_ids == singles[0][0].token_ids
        assert outputs[0].text == llm.tokenizer.decode(outputs[0].token_ids)


def test_texts_and_token_ids_may_stand_in_one_list(llm: LLM) -> None:
    assert llm.tokenizer is not None
    outputs = llm.generate(["fox", [5, 6], np.array([5, 6], np.uint8), "lazy dog"], GREEDY)
    encoded = [tuple(llm.tokenizer.encode(text)) for text in ("fox", "lazy dog")]
    assert [output.prompt_token_ids for output in outputs] == [encoded[0], (5, 6), (5, 6), encoded[1]]
    assert outputs[1].token_ids == outputs[2].token_ids


def test_rows_of_an_array_are_prompts(llm: LLM) -> None:
    outputs = llm.generate(np.array([PROMPTS[0][:4], PROMPTS[1][:4]]), GREEDY)
    assert [output.prompt_token_ids for output in outputs] == [tuple(PROMPTS[0][:4]), tuple(PROMPTS[1][:4])]


def test_no_prompts_give_no_answers(llm: LLM) -> None:
    assert llm.generate([]) == []
    assert llm.generate([], []) == []
    assert list(llm.stream([])) == []
    assert llm.chat([]) == []


def test_each_prompt_may_have_its_own_params(llm: LLM, answers: list[tuple[int, ...]]) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (3, 1, 8, 2, 5, 4)]
    outputs = llm.generate(PROMPTS, params)
    assert [output.token_ids for output in outputs] == [
        answer[: each.max_tokens] for answer, each in zip(answers, params, strict=True)
    ]


def test_without_params_the_defaults_count(llm: LLM) -> None:
    (output,) = llm.generate([PROMPTS[0]])
    (expected,) = llm.generate([PROMPTS[0]], SamplingParams())
    assert output.token_ids == expected.token_ids
    assert len(output.token_ids) <= 16


def test_a_stream_gives_each_answer_once_and_as_it_is_finished(llm: LLM, answers: list[tuple[int, ...]]) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (8, 7, 1, 8, 2, 8)]
    outputs = list(llm.stream(PROMPTS, params))
    assert sorted(output.index for output in outputs) == list(range(6))
    assert {output.index for output in outputs[:2]} == {2, 4}
    for output in outputs:
        assert output.token_ids == answers[output.index][: params[output.index].max_tokens]


def test_a_chat_goes_through_the_template(llm: LLM) -> None:
    assert llm.tokenizer is not None
    conversations = [[{"role": "user", "content": "fox"}], [{"role": "system", "content": "be brief"}]]
    outputs = llm.chat(conversations, GREEDY, mood="calm")
    for output, messages in zip(outputs, conversations, strict=True):
        assert output.prompt_token_ids == tuple(llm.tokenizer.encode_chat(messages, {"mood": "calm"}))
        assert len(output.token_ids) == 8


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[5], []], r"prompts\[1\]: the prompt is empty"),
        ([[5], [5, VOCAB_SIZE]], rf"prompts\[1\]: token id {VOCAB_SIZE} in prompt is out of range; .* 0 to 383"),
        ([[5], [-1]], r"prompts\[1\]: token id -1 in prompt is out of range"),
        ([[2**32 + 5]], r"prompts\[0\] has a token id outside of 32 bits: \[4294967301\]"),
        ([[2**70]], r"prompts\[0\] is \[1180591620717411303424\]; it must be a string or a list of token ids"),
        (None, r"prompts is None; it must be a string, a list of token ids, or a list of those"),
        ([[5], [5.0]], r"prompts\[1\] is \[5.0\]; it must be a string or a list of token ids"),
        ([[5], [True]], r"prompts\[1\] is \[True\]; it must be"),
        ([[5], [5, [6]]], r"prompts\[1\] is \[5, \[6\]\]; it must be"),
        ([[5], None], r"prompts\[1\] is None; it must be"),
        ([[5], b"fox"], r"prompts\[1\] is b'fox'; it must be"),
        ([[5], [5] * 1024], r"prompts\[1\]: the prompt has 1024 tokens, and the model's context of 1024"),
    ],
)
def test_a_bad_prompt_is_named_and_nothing_is_run(llm: LLM, prompts: Any, message: str) -> None:
    before = llm.engine.scheduler.num_requests
    with pytest.raises(UserError, match=message):
        llm.generate(prompts, GREEDY)
    assert llm.engine.scheduler.num_requests == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([GREEDY], "there are 2 prompts, but params for 1; give one for each, or one"),
        ([GREEDY] * 3, "there are 2 prompts, but params for 3"),
        ([], "there are 2 prompts, but params for 0"),
        ([GREEDY, 5], r"params is \[SamplingParams\(.*; it must be a SamplingParams or a list of them"),
        ({"max_tokens": 5}, "params is {'max_tokens': 5}; it must be"),
    ],
)
def test_params_that_do_not_fit_the_prompts_are_refused(llm: LLM, params: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        llm.generate(["a", "b"], params)


def test_stop_tokens_outside_the_vocabulary_are_refused(llm: LLM) -> None:
    with pytest.raises(RequestError, match=r"prompts\[0\]: token id 999 in stop_token_ids is out of range") as error:
        llm.generate(["a"], SamplingParams(stop_token_ids=[999]))
    assert (error.value.code, error.value.param) == ("token_id_out_of_range", "stop_token_ids")


def test_a_bad_conversation_is_named(llm: LLM) -> None:
    good = [{"role": "user", "content": "fox"}]
    with pytest.raises(RequestError, match=r"conversations\[1\]: .* unknown role nobody"):
        llm.chat([good, [{"role": "nobody", "content": "fox"}]])
    with pytest.raises(UserError, match=r"conversations\[0\] is .*; one conversation alone is given as \[messages\]"):
        llm.chat(good)  # type: ignore[arg-type]  # one conversation, not a list of them
    with pytest.raises(UserError, match=r"conversations\[1\] is 'fox', not a list of messages"):
        llm.chat([good, "fox"])  # type: ignore[list-item]


@pytest.mark.parametrize("conversations", ["fox", None])
def test_what_is_no_list_of_conversations_is_named(llm: LLM, conversations: Any) -> None:
    with pytest.raises(UserError, match=f"conversations is {conversations!r}; it must be a list of lists of messages"):
        llm.chat(conversations)


def test_a_stream_left_early_gives_its_requests_up(llm: LLM, answers: list[tuple[int, ...]]) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (2, 800, 800, 800, 800, 800)]
    stream = llm.stream(PROMPTS, params)
    assert next(stream).index == 0
    assert llm.engine.scheduler.num_unfinished == 5
    stream.close()  # type: ignore[attr-defined]
    assert_idle(llm)
    assert [output.token_ids for output in llm.generate(PROMPTS, GREEDY)] == answers


def test_a_stream_never_begun_queues_nothing(llm: LLM) -> None:
    llm.stream(PROMPTS, GREEDY)
    assert llm.engine.scheduler.num_unfinished == 0


def test_streams_may_be_read_in_turns(llm: LLM, answers: list[tuple[int, ...]]) -> None:
    first, second = llm.stream(PROMPTS, GREEDY), llm.stream(PROMPTS[::-1], GREEDY)
    outputs = [next(first), next(second)]
    between = llm.generate(PROMPTS[2], GREEDY)
    assert [(output.index, output.token_ids) for output in between] == [(0, answers[2])]
    read = {output.index: output.token_ids for output in [outputs[0], *first]}
    assert [read[index] for index in range(6)] == answers
    read = {output.index: output.token_ids for output in [outputs[1], *second]}
    assert [read[index] for index in range(6)] == answers[::-1]
    assert_idle(llm)


def test_answers_of_a_stream_left_early_are_not_kept_for_it(llm: LLM) -> None:
    first = llm.stream(PROMPTS, GREEDY)
    next(first)
    llm.generate(PROMPTS, GREEDY)
    assert llm._shared._finished
    first.close()  # type: ignore[attr-defined]
    assert not llm._shared._finished


def test_a_failing_step_ends_the_call_and_leaves_the_model_usable(
    llm: LLM, answers: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_plan: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(llm.engine, "_run", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            llm.generate(PROMPTS, GREEDY)
    assert_idle(llm)
    assert [output.token_ids for output in llm.generate(PROMPTS, GREEDY)] == answers


def test_two_models_in_one_process_answer_each_for_itself(
    llm: LLM, bare_llm: LLM, answers: list[tuple[int, ...]]
) -> None:
    alone = [output.token_ids for output in bare_llm.generate(PROMPTS, GREEDY)]
    assert alone != answers
    pairs = list(zip(llm.stream(PROMPTS, GREEDY), bare_llm.stream(PROMPTS, GREEDY), strict=True))
    assert {one.index: one.token_ids for one, _ in pairs} == dict(enumerate(answers))
    assert {other.index: other.token_ids for _, other in pairs} == dict(enumerate(alone))


def test_a_model_without_a_tokenizer_takes_token_ids_and_returns_them(bare_llm: LLM) -> None:
    assert bare_llm.tokenizer is None
    outputs = bare_llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=1))
    assert [output.text for output in outputs] == [None] * 6
    assert [len(output.token_ids) for output in outputs] == [8] * 6
    stopped = bare_llm.generate(PROMPTS[0], SamplingParams(temperature=0, stop_token_ids=[outputs[0].token_ids[2]]))
    assert stopped[0].finish_reason == "stop"
    with pytest.raises(UserError, match="a text prompt needs a tokenizer, and this model folder has none; pass token"):
        bare_llm.generate("fox")
    with pytest.raises(UserError, match="chat needs a tokenizer"):
        bare_llm.chat([[{"role": "user", "content": "fox"}]])
    with pytest.raises(RequestError, match=r"prompts\[0\]: stop strings need a tokenizer") as error:
        bare_llm.generate(PROMPTS, SamplingParams(stop="x"))
    assert (error.value.code, error.value.param) == ("no_tokenizer", "stop")


def test_bfloat16_is_near_float32(llm: LLM, tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path)
    half = LLM(model_dir, device="cpu", dtype="bfloat16", kv_memory="1MiB")
    assert half.config.dtype == torch.bfloat16
    assert half.config.kv_capacity == 2 * llm.config.kv_capacity
    outputs = half.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=0))
    model = load_reference(model_dir)
    errors = []
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *output.token_ids]])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, -1)
        assert output.logprobs is not None
        for row, logprob in enumerate(output.logprobs):
            assert expected[row].max() - expected[row, logprob.token_id] < 1.0
            errors.append(abs(logprob.logprob - float(expected[row, logprob.token_id])))
    assert 1e-3 < np.mean(errors) < 0.1
    assert max(errors) < 0.5


def test_a_job_takes_no_more_cache_than_it_can_use(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path)
    job = LLM.for_job(model_dir, EngineConfig(device="cpu"), Tokenizer.load(model_dir), kv_tokens_needed=100)
    assert job.config.num_blocks == 8
    assert len(job.generate([[5] * 50], SamplingParams(max_tokens=50, ignore_eos=True))[0].token_ids) == 50


@pytest.mark.parametrize(
    ("settings", "largest_mean"),
    [
        ({"weight_dtype": "bfloat16"}, 0.05),
        ({"weight_dtype": "int8"}, 0.1),
        ({"kv_dtype": "bfloat16"}, 0.01),
        ({"kv_dtype": "float16", "attention": "torch_ref"}, 0.002),
        ({"kv_dtype": "fp8_e4m3", "attention": "torch_ref"}, 0.15),
    ],
    ids=str,
)
def test_weights_or_a_cache_kept_smaller_are_near_float32(
    tmp_path: Path, settings: dict[str, Any], largest_mean: float
) -> None:
    model_dir = build_llama(tmp_path, tie=True)
    scored = SamplingParams(max_tokens=0, prompt_logprobs=0)
    prompt = list(range(10, 130))
    exact, small = (
        LLM(model_dir, device="cpu", kv_memory="1MiB", **each).generate([prompt], scored)[0] for each in ({}, settings)
    )
    errors = [
        abs(a.logprob - b.logprob)
        for a, b in zip((exact.prompt_logprobs or ())[1:], (small.prompt_logprobs or ())[1:], strict=True)
        if a is not None and b is not None
    ]
    assert len(errors) == len(prompt) - 1
    assert 1e-4 < np.mean(errors) < largest_mean


def test_a_narrower_cache_holds_more_and_shares_prefixes_as_any(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path)
    wide, narrow = (LLM(model_dir, device="cpu", kv_memory="64KiB", kv_dtype=each) for each in ("auto", "bfloat16"))
    assert narrow.config.kv_capacity == 2 * wide.config.kv_capacity
    prompts = [[*range(10, 58), last] for last in range(60, 70)]
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    outputs = narrow.generate(prompts, params)
    narrow.engine.scheduler.verify()
    assert narrow.stats.num_cached_tokens > 0
    alone = LLM(model_dir, device="cpu", kv_memory="1MiB", kv_dtype="bfloat16", max_batch_requests=1)
    assert [output.token_ids for output in outputs] == [
        alone.generate(prompt, params)[0].token_ids for prompt in prompts
    ]


def test_weights_are_kept_smaller_by_the_packed_decoder_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weight_dtype is 'int8', but only native_cpu runs packed weights"):
        LLM(build_llama(tmp_path), device="cpu", attention="torch_ref", weight_dtype="int8")
