"""The default model's greedy answers to real prompts are those of transformers."""

from __future__ import annotations

from pathlib import Path

from blendserve import LLM, SamplingParams
from reference import assert_same_logprobs, assert_same_tokens, generate_greedily, load_reference

MAX_TOKENS = 24
LETTER = (
    "Dear Sir or Madam,\n\nI stayed in your hotel from the third to the sixth of May. The room was clean, the view of "
    "the harbour was splendid and breakfast was excellent. On the second night, however, the heating failed and nobody "
    "answered the telephone at the desk.\n\nYours faithfully,\nA. Turner\n\n"
)
PLAIN = [
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time there was a small dragon who",
    "def fibonacci(n):\n    ",
    "Q: What is 17 + 25?\nA:",
    "The three primary colours are",
    "1, 1, 2, 3, 5, 8, 13,",
    "Romeo and Juliet was written by",
    "SELECT name, age FROM people WHERE",
    LETTER + "Question: Which month did the guest stay in?\nAnswer:",
    LETTER + "Question: What failed on the second night?\nAnswer:",
]
CHATS = [
    "Hello! Who are you?",
    "Name two animals that live in the sea.",
    "Translate 'good morning' into French.",
    "Write a haiku about rain.",
    "What is the largest planet of the solar system?",
    "Explain in one sentence why the sky is blue.",
    "Give me a recipe for pancakes.",
    LETTER + "Summarise this letter in one sentence.",
    LETTER + "Write a friendly reply to this letter.",
]


def test_twenty_real_prompts_are_answered_as_by_transformers(default_model_dir: Path) -> None:
    llm = LLM(device="cpu", kv_memory="200MB", max_batch_tokens=256)
    assert llm.tokenizer is not None
    prompts = llm.tokenizer.encode_batch(PLAIN)
    prompts += [llm.tokenizer.encode_chat([{"role": "user", "content": text}], {}) for text in CHATS]
    assert len(prompts) == 20
    eos = list(llm.model_config.eos_token_ids)

    by_length = sorted(range(20), key=lambda row: len(prompts[row]))
    in_order = generate_greedily(
        load_reference(default_model_dir),
        [prompts[row] for row in by_length],
        MAX_TOKENS,
        eos_token_ids=eos,
        batch_size=10,
    )
    references = [reference for _, reference in sorted(zip(by_length, in_order, strict=True), key=lambda pair: pair[0])]

    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=MAX_TOKENS, logprobs=5))
    assert_same_tokens([output.token_ids for output in outputs], references)
    num_compared = 0
    for output, reference in zip(outputs, references, strict=True):
        assert output.finish_reason == ("stop" if output.token_ids[-1] in eos else "length")
        assert output.logprobs is not None
        num_compared += assert_same_logprobs(output.logprobs, reference, num_top=5)
    assert num_compared >= 0.9 * sum(len(reference.token_ids) for reference in references)
    # The letter stands in four prompts, the chat template's beginning in nine.
    assert sum(output.num_cached_tokens for output in outputs) >= 3 * 64
    assert outputs[0].text is not None
    assert outputs[0].text.startswith(" Paris.")
