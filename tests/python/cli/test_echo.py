"""Completions that begin with their prompt: what scoring harnesses ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from batch_jobs import Job, completion
from blendserve.text.tokenizer import Tokenizer
from tiny_models import BOS_ID
from transformers import LlamaForCausalLM

CONTEXT = "The quick brown fox jumps over the lazy"
CHOICES = [" dog", " cat.", " 日本語", " naïve"]


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    loaded = Tokenizer.load(model_dir)
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()


def choice_of(job: Job, custom_id: str) -> dict[str, Any]:
    (choice,) = job.answers[custom_id]["choices"]
    found: dict[str, Any] = choice
    return found


def expected_logprobs(model: LlamaForCausalLM, token_ids: list[int]) -> list[float]:
    """Of every token but the first."""
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(torch.tensor([token_ids])).logits[0].double(), dim=-1)
    return [float(logprobs[i, token]) for i, token in enumerate(token_ids[1:])]


def test_prompts_alone_are_scored_as_by_transformers_and_their_context_is_computed_once(
    job: Job, tokenizer: Tokenizer, model: LlamaForCausalLM
) -> None:
    prompts = [CONTEXT * 3 + choice for choice in CHOICES]
    job.write(*(completion(str(i), prompt, max_tokens=0, echo=True, logprobs=2) for i, prompt in enumerate(prompts)))
    job.run()
    for i, prompt in enumerate(prompts):
        token_ids = tokenizer.encode(prompt)
        choice, usage = choice_of(job, str(i)), job.answers[str(i)]["usage"]
        logprobs = choice["logprobs"]
        assert (choice["text"], choice["finish_reason"]) == (prompt, "length")
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(token_ids), 0)
        for token, spelled in zip(token_ids, logprobs["tokens"], strict=True):
            text = tokenizer.token_text(token)
            assert spelled == text if "\ufffd" not in text else spelled.startswith("bytes:\\x")
        assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
        assert logprobs["token_logprobs"][1:] == pytest.approx(expected_logprobs(model, token_ids), abs=1e-4)
        assert all(2 <= len(top) <= 3 for top in logprobs["top_logprobs"][1:])
    cached = sorted(job.answers[str(i)]["usage"]["prompt_tokens_details"]["cached_tokens"] for i in range(len(prompts)))
    shared = len(tokenizer.encode(CONTEXT * 3))
    assert cached == [0] + [shared // 16 * 16] * 3


def test_offsets_count_the_characters_of_prompt_and_answer(job: Job, tokenizer: Tokenizer) -> None:
    prompt = "A naïve 日本語 fox"
    job.write(completion("a", prompt, max_tokens=6, echo=True, logprobs=0))
    job.run()
    choice = choice_of(job, "a")
    logprobs = choice["logprobs"]
    assert choice["text"].startswith(prompt)
    token_ids = tokenizer.encode(prompt)
    assert token_ids[0] == BOS_ID
    assert {len(column) for column in logprobs.values()} == {len(token_ids) + 6}
    expected = [0] + [len(tokenizer.decode(token_ids[:n]).rstrip("\ufffd")) for n in range(1, len(token_ids))]
    assert logprobs["text_offset"][: len(token_ids)] == expected
    assert logprobs["text_offset"][len(token_ids)] == len(prompt)


def test_echo_without_log_probs_puts_the_prompt_in_front_of_every_choice(job: Job) -> None:
    rows = {"n": 2, "temperature": 1, "seed": 3, "max_tokens": 8}
    job.write(completion("plain", CONTEXT, **rows), completion("echoed", CONTEXT, echo=True, **rows))
    job.run()
    plain, echoed = (job.answers[name]["choices"] for name in ("plain", "echoed"))
    assert [choice["text"] for choice in echoed] == [CONTEXT + choice["text"] for choice in plain]
    assert [choice["logprobs"] for choice in echoed] == [None, None]


def test_echo_of_nothing_is_the_prompt(job: Job, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The quick fox")
    job.write(
        completion("text", "The quick fox", max_tokens=0, echo=True), completion("ids", ids, max_tokens=0, echo=True)
    )
    job.run()
    for name in ("text", "ids"):
        choice = choice_of(job, name)
        assert (choice["text"], choice["logprobs"], choice["finish_reason"]) == ("The quick fox", None, "length")


def test_the_log_probs_of_the_answer_follow_those_of_the_prompt(job: Job) -> None:
    fields = {"logprobs": 1, "max_tokens": 5}
    job.write(completion("plain", CONTEXT, **fields), completion("echoed", CONTEXT, echo=True, **fields))
    job.run()
    plain, echoed = (choice_of(job, name)["logprobs"] for name in ("plain", "echoed"))
    for name in ("tokens", "token_logprobs"):
        assert echoed[name][-5:] == pytest.approx(plain[name])
    assert [offset - len(CONTEXT) for offset in echoed["text_offset"][-5:]] == plain["text_offset"]


def test_without_a_tokenizer_an_echo_is_of_token_ids(tmp_path: Path, textless_model_dir: Path) -> None:
    job = Job(tmp_path, textless_model_dir)
    job.write(completion("a", [5, 6, 7], max_tokens=2, echo=True, logprobs=0))
    job.run()
    choice = choice_of(job, "a")
    assert choice["text"] is None
    assert choice["token_ids"][:3] == [5, 6, 7]
    assert choice["logprobs"]["tokens"] == [f"token_id:{token}" for token in choice["token_ids"]]
    assert choice["logprobs"]["text_offset"] is None


def test_a_resumed_job_keeps_scored_rows(job: Job) -> None:
    job.write(
        *(completion(str(i), CONTEXT + choice, max_tokens=0, echo=True, logprobs=0) for i, choice in enumerate(CHOICES))
    )
    job.run()
    before = job.answers
    job.output.write_bytes(b"".join(job.output.read_bytes().splitlines(keepends=True)[:2]))
    job.run()
    for custom_id, answer in job.answers.items():
        for name in ("tokens", "text_offset"):
            assert answer["choices"][0]["logprobs"][name] == before[custom_id]["choices"][0]["logprobs"][name]
