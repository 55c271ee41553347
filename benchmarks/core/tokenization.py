"""Times tokenization against one plain call of the `tokenizers` batch encoder; checks the ids first.

Two jobs: five-shot questions as raw text, as MMLU is asked (all questions of a subject begin with the same five
examples), and chats that share a long system prompt. In a chat the special tokens of the template make exact cuts, so
what repeats is encoded once. Raw text has no such cut: a tokenizer may merge across any place in it, so every prompt is
encoded whole, and the figure to expect is 1. "whole file" is `blendserve plan`'s own reading: JSON, checks, chat
template and encoding together, beside the same done one after the other.

    python benchmarks/core/tokenization.py [--rows N] [--repeats N] [--model DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers
from blendserve.io.batch_input import BatchRequest, read_requests
from blendserve.models import resolve_model
from blendserve.plan_job.read_batch import read_batch
from blendserve.text.tokenizer import Tokenizer

SOURCE = (
    "the of a which statement about theory is most likely to be correct if an object moves with constant speed and its "
    "energy doubles when pressure rises among these organisms protein synthesis occurs in cells during market failure "
    "government policy contract law requires consideration offer acceptance integral derivative matrix eigenvalue"
)
WORDS = SOURCE.split()
NUM_SUBJECTS = 57


@dataclass(frozen=True)
class Job:
    name: str
    bodies: list[dict[str, Any]]
    url: str

    def write(self, path: Path) -> None:
        rows = (
            {"custom_id": str(index), "method": "POST", "url": self.url, "body": body}
            for index, body in enumerate(self.bodies)
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sentence(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choices(WORDS, k=num_words)).capitalize() + "."


def question(rng: random.Random, answer: str) -> str:
    choices = "".join(f"{letter}. {sentence(rng, 6)}\n" for letter in "ABCD")
    return f"{sentence(rng, 25)}\n{choices}Answer:{answer}\n\n"


def five_shot(num_rows: int, rng: random.Random) -> Job:
    shots = ["".join(question(rng, f" {rng.choice('ABCD')}") for _ in range(5)) for _ in range(NUM_SUBJECTS)]
    prompts = [rng.choice(shots) + question(rng, "") for _ in range(num_rows)]
    return Job("five-shot raw text", [{"prompt": prompt, "max_tokens": 1} for prompt in prompts], "/v1/completions")


def chats(num_rows: int, rng: random.Random) -> Job:
    system = {"role": "system", "content": " ".join(sentence(rng, 20) for _ in range(50))}
    bodies = [{"messages": [system, {"role": "user", "content": sentence(rng, 60)}]} for _ in range(num_rows)]
    return Job("chats, shared system prompt", bodies, "/v1/chat/completions")


def rendered(path: Path, tokenizer: Tokenizer) -> tuple[list[str], bool]:
    """The texts that are encoded, and whether the tokenizer adds its special tokens to them."""
    with path.open("rb") as source:
        rows = [row for row in read_requests(source) if isinstance(row, BatchRequest)]
    if rows[0].messages is None:
        return [str(row.prompt) for row in rows], True
    return [tokenizer.render_chat(row.messages or (), {}) for row in rows], False


def median_s(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def plain_encode(backend: tokenizers.Tokenizer, texts: Sequence[str], special: bool) -> list[np.ndarray]:
    encodings = backend.encode_batch_fast(texts, add_special_tokens=special)
    return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


def measure(job: Job, tokenizer: Tokenizer, backend: tokenizers.Tokenizer, folder: Path, repeats: int) -> None:
    path = folder / "requests.jsonl"
    job.write(path)
    texts, special = rendered(path, tokenizer)

    def plain() -> list[np.ndarray]:
        return plain_encode(backend, texts, special)

    def ours() -> list[np.ndarray]:
        return tokenizer.batch_encoder().encode(texts, add_special_tokens=special)

    def whole_file_plain() -> list[np.ndarray]:
        return plain_encode(backend, *rendered(path, tokenizer))

    def whole_file_ours() -> np.ndarray:
        return read_batch(path, str(path), tokenizer, mean_output=None, on_progress=lambda _: None).tokens

    expected = plain()
    assert all(np.array_equal(a, b) for a, b in zip(expected, ours(), strict=True)), "the ids differ"
    assert np.array_equal(np.concatenate(expected), whole_file_ours()), "the ids of the file differ"
    num_tokens = sum(map(len, expected))
    print(
        f"\n{job.name}: {len(texts):,} rows, {num_tokens:,} tokens, {path.stat().st_size / 1e6:.0f} MB; ids are equal"
    )
    for what, one, other in (("encoding", plain, ours), ("whole file", whole_file_plain, whole_file_ours)):
        plain_s, ours_s = median_s(one, repeats), median_s(other, repeats)
        print(
            f"  {what:<11} plain {plain_s:7.3f} s ({num_tokens / plain_s / 1e6:6.2f} M tokens/s)   "
            f"ours {ours_s:7.3f} s ({num_tokens / ours_s / 1e6:6.2f} M tokens/s)   {plain_s / ours_s:5.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", help="model folder [default: the default model]")
    options = parser.parse_args()
    tokenizer = Tokenizer.load(resolve_model(options.model))
    if tokenizer is None:
        raise SystemExit("the model folder has no tokenizer")
    backend = transformers.AutoTokenizer.from_pretrained(resolve_model(options.model)).backend_tokenizer
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, tokenizers "
        f"{tokenizers.__version__}, transformers {transformers.__version__}, numpy {np.__version__}"
    )
    print(f"model {options.model or 'default'}, {options.rows} rows, medians of {options.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        for make in (five_shot, chats):
            job = make(options.rows, random.Random(0))
            measure(job, tokenizer, backend, Path(folder), options.repeats)


if __name__ == "__main__":
    main()
