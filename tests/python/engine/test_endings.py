"""What ends an answer: stop strings, stop tokens, lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
from blendserve import LLM, CompletionOutput, RequestError, SamplingParams
from tiny_models import EOS_ID, build_llama, edit_json

PROMPT = "The quick brown fox"
KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # K and V, 2 layers, 2 KV heads, head size 8, float32


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    model_dir = build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True, max_positions=128)
    return LLM(model_dir, device="cpu", kv_memory="1MiB", max_batch_tokens=64)


@pytest.fixture(scope="module")
def free(llm: LLM) -> CompletionOutput:
    """The answer that nothing ends early."""
    return greedy(llm, max_tokens=24)


def greedy(llm: LLM, prompt: str | list[int] = PROMPT, **params: object) -> CompletionOutput:
    (output,) = llm.generate([prompt], SamplingParams(**{"temperature": 0, "ignore_eos": True, **params}))  # type: ignore[arg-type]
    return output.outputs[0]


def shortest_with(llm: LLM, free: CompletionOutput, string: str) -> int:
    """How many of the answer's tokens it takes until `string` is in their text."""
    assert llm.tokenizer is not None
    return next(n for n in range(25) if string in llm.tokenizer.decode(free.token_ids[:n]))


@pytest.mark.parametrize("begin", range(0, 25, 3))
@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_stop_string_cuts_the_text_wherever_tokens_end(
    llm: LLM, free: CompletionOutput, begin: int, length: int
) -> None:
    assert free.text is not None
    string = free.text[begin : begin + length]
    assert "\ufffd" not in string  # incomplete characters are text later than their tokens
    answer = greedy(llm, max_tokens=24, stop=[string, "never there"], logprobs=0)
    num_tokens = shortest_with(llm, free, string)
    assert answer.text == free.text[: free.text.index(string)]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", string)
    assert answer.token_ids == free.token_ids[:num_tokens]
    assert answer.logprobs is not None
    assert len(answer.logprobs) == num_tokens


def test_a_stop_string_completed_by_the_last_token_allowed_is_a_stop(llm: LLM, free: CompletionOutput) -> None:
    assert llm.tokenizer is not None
    string = llm.tokenizer.token_text(free.token_ids[9])
    num_tokens = shortest_with(llm, free, string)
    answer = greedy(llm, max_tokens=num_tokens, stop=string)
    assert (answer.finish_reason, answer.stop_reason, len(answer.token_ids)) == ("stop", string, num_tokens)


def test_a_stop_string_that_never_comes_changes_nothing(llm: LLM, free: CompletionOutput) -> None:
    assert greedy(llm, max_tokens=24, stop="never there") == free


def test_of_choices_each_stops_on_its_own(llm: LLM) -> None:
    params = SamplingParams(n=6, max_tokens=24, stop="e", ignore_eos=True, seed=1)
    (output,) = llm.generate(PROMPT, params)
    assert all("e" not in (choice.text or "") for choice in output.outputs)
    stopped = [choice for choice in output.outputs if choice.finish_reason == "stop"]
    assert len(stopped) >= 2
    assert len({len(choice.token_ids) for choice in stopped}) >= 2
    for choice in output.outputs:
        assert choice.stop_reason == ("e" if choice in stopped else None)
        assert choice in stopped or len(choice.token_ids) == 24
    llm.engine.scheduler.verify()


def test_a_stop_token_ends_the_answer_and_is_left_out_of_its_text(llm: LLM, free: CompletionOutput) -> None:
    stop_token = free.token_ids[6]
    num_tokens = free.token_ids.index(stop_token) + 1
    answer = greedy(llm, max_tokens=24, stop_token_ids=[stop_token])
    assert llm.tokenizer is not None
    assert answer.token_ids == free.token_ids[:num_tokens]
    assert answer.text == llm.tokenizer.decode(free.token_ids[: num_tokens - 1])
    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop_token)


def test_a_stop_token_comes_before_the_stop_string_in_it(llm: LLM, free: CompletionOutput) -> None:
    assert llm.tokenizer is not None
    stop_token = free.token_ids[6]
    string = llm.tokenizer.token_text(stop_token)
    num_tokens = free.token_ids.index(stop_token) + 1
    assert shortest_with(llm, free, string) == num_tokens
    answer = greedy(llm, max_tokens=24, stop_token_ids=[stop_token], stop=string)
    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop_token)
    assert answer.text == llm.tokenizer.decode(free.token_ids[: num_tokens - 1])


def test_an_end_token_ends_the_answer_without_a_stop_reason(tmp_path: Path, free: CompletionOutput) -> None:
    model_dir = build_llama(tmp_path, with_tokenizer=True, max_positions=128)
    for name in ("config.json", "generation_config.json"):
        edit_json(model_dir / name, lambda values: values.update(eos_token_id=[EOS_ID, free.token_ids[6]]))
    llm = LLM(model_dir, device="cpu", kv_memory="1MiB", max_batch_tokens=64)
    answer = greedy(llm, max_tokens=24, ignore_eos=False)
    num_tokens = free.token_ids.index(free.token_ids[6]) + 1
    assert answer.token_ids == free.token_ids[:num_tokens]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", None)
    named = greedy(llm, max_tokens=24, ignore_eos=False, stop_token_ids=[free.token_ids[6]])
    assert (named.finish_reason, named.stop_reason) == ("stop", free.token_ids[6])
    assert greedy(llm, max_tokens=24).token_ids == free.token_ids


def test_without_max_tokens_an_answer_runs_to_the_end_of_the_context(llm: LLM) -> None:
    prompt = list(range(10, 110))
    answer = greedy(llm, prompt, max_tokens=None)
    assert (len(answer.token_ids), answer.finish_reason) == (28, "length")


def test_more_tokens_than_the_context_holds_are_cut_to_it(llm: LLM) -> None:
    answer = greedy(llm, list(range(10, 110)), max_tokens=1000)
    assert (len(answer.token_ids), answer.finish_reason) == (28, "length")
    last = greedy(llm, [5] * 127, max_tokens=1000)
    assert (len(last.token_ids), last.finish_reason) == (1, "length")


def test_without_max_tokens_an_answer_stays_within_the_kv_cache(tmp_path: Path) -> None:
    llm = LLM(build_llama(tmp_path), device="cpu", kv_memory=64 * KV_BYTES_PER_TOKEN, block_size=8)
    assert llm.config.kv_capacity == 64
    (output,) = llm.generate([[5] * 50], SamplingParams(temperature=0, max_tokens=None, ignore_eos=True))
    assert (len(output.token_ids), output.finish_reason) == (14, "length")
    with pytest.raises(RequestError, match="50 tokens and an answer of up to 15 do not fit the KV cache of 64 tokens"):
        llm.generate([[5] * 50], SamplingParams(max_tokens=15))


def test_a_prompt_that_fills_the_context_is_refused(llm: LLM) -> None:
    with pytest.raises(RequestError, match="the prompt has 128 tokens, and the model's context of 128") as error:
        llm.generate([[5] * 128], SamplingParams(max_tokens=1))
    assert error.value.code == "context_length_exceeded"


def test_an_answer_that_cannot_be_as_long_as_it_must_is_refused(llm: LLM) -> None:
    with pytest.raises(
        RequestError, match=r"min_tokens is 100, but .* 40 tokens leave room for an answer of 88; lower"
    ):
        llm.generate([[5] * 40], SamplingParams(max_tokens=200, min_tokens=100))
